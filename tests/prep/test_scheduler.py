"""`--scheduler` on a cluster within this process: what it refuses, and what it comes to."""

import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from distributed import LocalCluster

from slic.cache import ClipStore, Codec
from slic.errors import DiskError, InputError, WorkError
from slic.prep import flow_on_worker, on_worker, scheduler
from slic.prep.claims import check_claim, claim_of
from slic.prep.drawn import draw_dataset
from slic.prep.flow import prep_flow
from slic.prep.flow_batches import DeviceFailed
from slic.prep.frames import prep_frames
from slic.prep.frames_video import FrameJob, close_decoder, store_frames
from slic.prep.on_worker import Place, run_job
from slic.videos import Video

BOUND = 3.0


def cluster(**options: Any) -> LocalCluster:
    """Workers of this process, as fast to start as threads are."""
    return LocalCluster(
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        **options,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with cluster(n_workers=2, threads_per_worker=2) as found:
        yield found.scheduler_address


@pytest.fixture(scope="module")
def idle() -> Iterator[str]:
    """A scheduler without workers."""
    with cluster(n_workers=0) as found:
        yield found.scheduler_address


@pytest.fixture(scope="module")
def gpus() -> Iterator[str]:
    """Of a worker that says it has a GPU."""
    with cluster(n_workers=1, threads_per_worker=3, resources={"GPU": 1}) as found:
        yield found.scheduler_address


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("few") / "few"
    draw_dataset(root, actions=2, groups=2, clips=1, frames=8, size=(40, 32))
    return root


@pytest.fixture(scope="module")
def here(videos: Path) -> Path:
    """The store that this machine makes of them, with flow. Tests read it only."""
    store = videos.with_name("here.zarr")
    result = prep_flow(str(videos), store=str(store), engine="cpu", bound=BOUND, workers=1)
    assert (result.written, result.failed, result.frames) == (4, 0, 28)
    return store


def files(store: Path) -> dict[str, bytes]:
    """Bytes of all frames and flow."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for view in ("frames", "flow")
        for file in (store / view).rglob("*")
        if file.is_file()
    }


def test_flow_of_a_cluster_is_that_of_this_machine(
    address: str, videos: Path, here: Path, tmp_path: Path
) -> None:
    path = tmp_path / "there.zarr"
    result = prep_flow(str(videos), store=str(path), engine="cpu", bound=BOUND, scheduler=address)
    assert (result.written, result.failed, result.frames) == (4, 0, 28)
    assert "by 2 workers of" in result.notes[-1]
    assert ClipStore(path).digest(flow=True) == ClipStore(here).digest(flow=True)
    assert files(path) == files(here)
    assert not list((path / "index" / "writing").iterdir())
    close_decoder()


def test_relative_paths_are_those_of_the_command(
    address: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").symlink_to(videos.parent)
    monkeypatch.chdir(tmp_path)
    assert prep_frames("there/few", store="s.zarr", scheduler=address).written == 4
    close_decoder()


def test_hostile_names_are_videos_like_others(address: str, videos: Path, tmp_path: Path) -> None:
    clip = next(videos.rglob("*.avi")).read_bytes()
    names = [
        "<script>alert(1)</script>",
        "a'b\"c",
        "tab\there",
        "\U0001f600" * 20,
        "x" * 240,
    ]
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in names:
        (folder / f"{name.replace('/', '-')}.avi").write_bytes(clip)
    (folder / "broken.avi").write_bytes(clip[:100])
    stores = tmp_path / "here.zarr", tmp_path / "there.zarr"
    prep_frames(str(folder), store=str(stores[0]), layout="flat", workers=1)
    result = prep_frames(str(folder), store=str(stores[1]), layout="flat", scheduler=address)
    assert result.written + result.failed == len(names) + 1
    rows = [ClipStore(store).index.entries() for store in stores]
    assert rows[0] == rows[1]
    assert files(stores[0]) == files(stores[1])
    close_decoder()


def test_imported_flow(address: str, tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / "set" / "a" / f"v{number}"
        folder.mkdir(parents=True)
        for frame in range(4):
            rng = np.random.default_rng(10 * number + frame)
            cv2.imwrite(str(folder / f"img_{frame:05d}.jpg"), rng.integers(0, 256, (24, 32, 3)))
            for side in "xy":
                level = rng.integers(0, 256, (24, 32))
                cv2.imwrite(str(folder / f"flow_{side}_{frame:05d}.jpg"), level)
    stores = tmp_path / "here.zarr", tmp_path / "there.zarr"
    for store, how in zip(stores, ({"workers": 1}, {"scheduler": address}), strict=True):
        result = prep_flow(
            str(tmp_path / "set"), store=str(store), engine="imported", bound=20.0, **how
        )
        assert (result.written, result.frames) == (3, 9)
    assert files(stores[0]) == files(stores[1])
    close_decoder()


class TestGpus:
    """What is for GPUs, on a worker that only says it has one."""

    def test_one_batcher_serves_all_threads_of_a_worker(
        self,
        gpus: str,
        videos: Path,
        here: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        made = []
        real = flow_on_worker._batcher.__wrapped__

        def batcher(_engine: str, device: str, parameters: Any) -> Any:
            assert device == "cuda"
            if not made:
                made.append(real("torch", "cpu", parameters))
            return made[0]

        monkeypatch.setattr(flow_on_worker, "_batcher", batcher)
        store = tmp_path / "there.zarr"
        result = prep_flow(str(videos), store=str(store), bound=BOUND, scheduler=gpus)
        assert (result.written, result.frames) == (4, 28)
        assert len(made) == 1
        assert "flow by cuda-1 on cuda by 1 worker of" in result.notes[-1]
        made[0].close()
        for video in ClipStore(here).ids:
            ours, theirs = (
                ClipStore(s).read(video, 0, 7, view="flow").astype(int) for s in (here, store)
            )
            assert abs(ours - theirs).mean() < 1
        close_decoder()

    def test_a_device_that_fails_is_one_line(
        self, gpus: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_: Any) -> Any:
            raise DeviceFailed("an illegal memory access")

        monkeypatch.setattr(flow_on_worker, "_batcher", failing)
        with pytest.raises(WorkError, match=r"cuda of .* failed: an illegal .*--engine cpu"):
            prep_flow(str(videos), store=str(tmp_path / "s.zarr"), scheduler=gpus)
        close_decoder()

    def test_what_the_workers_have_decides(self, gpus: str, address: str) -> None:
        with scheduler.connected(gpus) as found:
            assert found.engine("auto", None) == ("cuda", "cuda")
            assert found.engine("auto", "cpu") == ("cpu", "cpu")
            assert found.engine("torch", "auto") == ("torch", "cuda")
            with pytest.raises(InputError, match="cuda:1"):
                found.engine("cuda", "cuda:1")
        with scheduler.connected(address) as found:
            assert found.engine("auto", "auto") == ("cpu", "cpu")
            assert found.engine("torch", None) == ("torch", "cpu")
            with pytest.raises(InputError, match=r"no worker offers a GPU.*--resources GPU=1"):
                found.engine("cuda", None)


def refused(slic: Any, videos: Path, *words: str) -> str:
    """The one line that a command ends with, of wrong input; it makes no store."""
    code, out, err = slic("prep", "frames", str(videos), "--store", "no.zarr", *words)
    (line,) = [line for line in err.splitlines() if line.startswith("slic: ")]
    assert (code, out) == (2, "")
    assert not Path("no.zarr").exists()
    return line


@pytest.mark.usefixtures("slic")
class TestRefusals:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_without_dask(self, slic: Any, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        assert "pip install 'slic[dask]'" in refused(slic, videos, "--scheduler", "tcp://x:1")

    def test_workers_beside_a_scheduler(self, slic: Any, videos: Path) -> None:
        line = refused(slic, videos, "--scheduler", "tcp://x:1", "--workers", "2")
        assert "--workers" in line

    @pytest.mark.parametrize("where", ["", "foo", "tcp://", "tcp://[x:1", "http://x:1", "a:b"])
    def test_no_address(self, slic: Any, videos: Path, where: str) -> None:
        assert "no Dask scheduler answers" in refused(slic, videos, "--scheduler", where)

    @pytest.mark.parametrize("listens", [False, True])
    def test_nobody_answers(
        self, slic: Any, videos: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
    ) -> None:
        monkeypatch.setattr(scheduler, "CONNECT_S", 0.5)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            if listens:
                other.listen()
            where = "tcp://{}:{}".format(*other.getsockname())
            assert "no Dask scheduler answers" in refused(slic, videos, "--scheduler", where)

    def test_no_workers(
        self, slic: Any, videos: Path, idle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scheduler, "FIRST_WORKER_S", 0.2)
        line = refused(slic, videos, "--scheduler", idle)
        assert f"no workers; start some by `dask worker {idle}`" in line

    @pytest.mark.parametrize(("ours", "what"), [(("99", None), "slic"), ((None, "2.7"), "Python")])
    def test_another_version(
        self,
        videos: Path,
        address: str,
        monkeypatch: pytest.MonkeyPatch,
        ours: tuple[str | None, str | None],
        what: str,
    ) -> None:
        mine = tuple(a or b for a, b in zip(ours, scheduler.versions(), strict=True))
        monkeypatch.setattr(scheduler, "versions", VersionsHere(mine))
        with pytest.raises(InputError, match=f"has {what} .*, and this machine (99|2.7): install"):
            prep_frames(str(videos), store="s.zarr", scheduler=address)
        close_decoder()

    def test_a_store_that_workers_do_not_see(
        self, videos: Path, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(on_worker, "PATIENCE_S", 0.2)
        monkeypatch.setattr(on_worker, "content", lambda claim: None)
        with pytest.raises(InputError, match=r"worker tcp://.* does not see .*s\.zarr: "):
            prep_frames(str(videos), store="s.zarr", scheduler=address)
        assert not ClipStore("s.zarr").index.entries()
        close_decoder()


class VersionsHere:
    """Versions that only this side has: what is sent to workers is the real function."""

    def __init__(self, mine: tuple[str, ...]) -> None:
        self.mine = mine

    def __call__(self) -> tuple[str, ...]:
        return self.mine

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (on_worker, "versions")


def test_a_worker_that_joins_later_looks_around_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_worker, "PATIENCE_S", 0.2)
    place = Place(tmp_path / "s.zarr" / "index" / "writing" / "claim", "said", ())
    with pytest.raises(WorkError, match=r"does not see .*s\.zarr: "):
        run_job(len, [1, 2], place)
    place.claim.parent.mkdir(parents=True)
    place.claim.write_text("said")
    with pytest.raises(WorkError, match=r"does not see .*gone: "):
        run_job(len, [1, 2], replace(place, folders=(tmp_path, tmp_path / "gone")))
    assert run_job(len, [1, 2], place) == (2, 0)


def test_what_is_asked_for_no_longer_is_not_published(
    videos: Path, here: Path, tmp_path: Path
) -> None:
    """A worker that was taken for dead comes back when others have done its video, and the flow."""
    path = Path(shutil.copytree(here, tmp_path / "s.zarr"))
    store, before = ClipStore(path), files(path)
    entry = store.entries()[0]
    video = Video(entry.id, entry.path, entry.label, entry.group, {})
    job = FrameJob(videos, path, video, 16, Codec("jpeg", quality=50), "other")
    with claim_of(path) as claim:
        check_claim(claim)
    with pytest.raises(DiskError):
        store_frames(replace(job, claim=claim))
    assert files(path) == before
    with claim_of(path) as claim:
        assert store_frames(replace(job, claim=claim)).reason is None
    assert files(path) != before
    assert not list((path / "index" / "writing").iterdir())
    close_decoder()


def test_few_are_submitted_at_once(address: str, videos: Path, tmp_path: Path) -> None:
    with scheduler.connected(address) as found:
        assert found.threads() == 4
        stage = scheduler._Stage(
            found, store_frames, Place(tmp_path, "", ()), counted=None, device="cpu"
        )
        assert stage._most() == 12
        stage.close()
