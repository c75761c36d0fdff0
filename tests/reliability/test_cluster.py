"""`prep` on a Dask cluster of real processes gives the same store as on one machine."""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cases import STORE, Material
from cluster import DEADLY, LocalCluster, cluster_of, killing, store_frames_or_die
from harness import Running, run
from states import store_faults, store_state

from slic.cache import ClipStore
from slic.prep import frames
from slic.prep.flow import prep_flow
from slic.prep.frames import prep_frames
from slic.prep.store import PrepResult

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with cluster_of(tmp_path_factory.mktemp("cluster"), 3, nannies=1) as found:
        yield found


def words(material: Material, cluster: LocalCluster) -> tuple[str, ...]:
    where = ("--store", STORE, "--engine", "cpu", "--scheduler", cluster.address)
    return ("prep", "flow", str(material.videos), *where, "--json")


def prepared(material: Material, cluster: LocalCluster, store: Path) -> PrepResult:
    """Run what the command runs, without starting a process."""
    where = {"store": str(store), "scheduler": cluster.address}
    return prep_flow(str(material.videos), engine="cpu", **where)


def test_a_cluster_gives_the_store_of_one_machine(
    material: Material, cluster: LocalCluster
) -> None:
    store = material.folder() / STORE
    result = prepared(material, cluster, store)
    assert result.written == result.videos == len(material.arrays) // 2
    assert result.frames == sum(
        len(flow) for (view, _), flow in material.arrays.items() if view == "flow"
    )
    assert store_state(store) == store_state(material.store)
    assert not list((store / "index" / "writing").iterdir())
    again = prepared(material, cluster, store)
    assert (again.written, again.skipped) == (0, result.videos)


def test_stopped_it_leaves_what_is_done_and_goes_on(
    material: Material, cluster: LocalCluster
) -> None:
    folder = material.folder()
    running = Running(words(material, cluster), folder)
    store = folder / STORE

    def begun() -> bool:
        return (store / "zarr.json").exists() and len(ClipStore(store).ids) > 0

    assert running.wait_until(begun), running.said
    running.send(signal.SIGINT, group=True)
    ended = running.ended(timeout_s=60)
    assert ended.code == 130, ended.err
    assert "stopped" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert not store_faults(store, material.arrays)
    assert prepared(material, cluster, store).failed == 0
    assert store_state(store) == store_state(material.store)


def chaos(material: Material, cluster: LocalCluster, rng: Random, *, kills: int) -> Counter[str]:
    """Run `prep` while workers are killed, and again if a video lost too many of them.

    Returns:
        Counts of stores, kills and repeated commands.

    Raises:
        AssertionError: the store is not that of one machine.
    """
    folder, counts = material.folder(), Counter[str]()
    store = folder / STORE
    with killing(cluster, store, rng, most=kills) as killed:
        ended = run(words(material, cluster), folder)
        while ended.code == 1 and "tried it died" in ended.err:
            counts["commands run again"] += 1
            ended = run(words(material, cluster), folder)
    assert ended.code == 0, (killed, ended.err, cluster.said()[-2000:])
    assert not store_faults(store, material.arrays), killed
    assert store_state(store) == store_state(material.store), killed
    counts.update(stores=1, kills=len(killed))
    shutil.rmtree(folder)
    return counts


def test_workers_killed_at_random_lose_nothing(material: Material, cluster: LocalCluster) -> None:
    assert chaos(material, cluster, Random(7), kills=2)["kills"] == 2


def test_a_video_that_kills_its_workers_fails_alone(
    material: Material, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(material.videos, videos)
    victim = sorted(videos.rglob("*.avi"))[3]
    victim.rename(victim.with_name(f"{DEADLY}.avi"))
    monkeypatch.setattr(frames, "store_frames", store_frames_or_die)
    cluster.forgive(0)
    store = tmp_path / STORE
    result = prep_frames(str(videos), store=str(store), scheduler=cluster.address)
    count = len(material.arrays) // 2
    assert (result.written, result.failed) == (count - 1, 1)
    ((video, reason),) = result.failures
    assert DEADLY in video
    assert "died" in reason
    monkeypatch.undo()
    again = prep_frames(str(videos), store=str(store), workers=1)
    assert (again.written, again.failed) == (1, 0)


def soak_chaos(seed: int, minutes: float) -> dict[str, Any]:
    """Run `prep` on three workers that are killed at random, until the time is over.

    Returns:
        Counts of stores, kills and repeated commands, and `lost`: a line each.
    """
    rng, until = Random(seed), time.monotonic() + 60 * minutes
    counts, lost = Counter[str](), list[str]()
    with TemporaryDirectory(prefix="slic-soak-", ignore_cleanup_errors=True) as root:
        material = Material(Path(root) / "material")
        with cluster_of(Path(root) / "cluster", 3, nannies=0) as cluster:
            while time.monotonic() < until:
                try:
                    counts += chaos(material, cluster, rng, kills=rng.randint(1, 8))
                except AssertionError as error:
                    lost.append(str(error)[:2000])
    return {**counts, "lost": lost}
