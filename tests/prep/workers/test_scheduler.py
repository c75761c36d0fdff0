"""`--scheduler` on a cluster within this process: what it refuses, and what it comes to."""

import asyncio
import contextlib
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from distributed.comm import CommClosedError

from slic.cache import ClipStore, Codec
from slic.cache.index import Index
from slic.datasets.videos import Video
from slic.demo.drawn import draw_dataset
from slic.errors import DiskError, InputError, WorkError
from slic.prep import flow_device
from slic.prep.flow import prep_flow
from slic.prep.flow_batches import DeviceFailed
from slic.prep.frames import prep_frames
from slic.prep.frames_video import FrameJob, close_decoder, not_stored, store_frames
from slic.prep.store import PrepResult
from slic.prep.workers import executor, on_worker, scheduler
from slic.prep.workers.jobs import Stage, check_claim, new_claim
from slic.prep.workers.on_worker import Requirements, run_job, versions

BOUND = 3.0
NAMES = ("<script>alert(1)<", "a'b\"c", "tab\there", "\U0001f600" * 20, "x" * 240, "plain")


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
def both() -> Iterator[LocalCluster]:
    """Two workers."""
    with cluster(n_workers=2, threads_per_worker=1) as found:
        yield found


@pytest.fixture(scope="module")
def address(both: LocalCluster) -> str:
    return both.scheduler_address


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
    """Six videos of 8 frames, most of odd names, and one that is broken."""
    root = tmp_path_factory.mktemp("few")
    draw_dataset(root / "drawn", actions=1, groups=2, clips=1, frames=8, size=(40, 32))
    clips = [clip.read_bytes() for clip in sorted((root / "drawn").rglob("*.avi"))]
    for number, name in enumerate(NAMES):
        clip = root / "few" / ("run", "a b")[number % 2] / f"{name}.avi"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(clips[number % 2])
    (root / "few" / "run" / "broken.avi").write_bytes(clips[0][:100])
    return root / "few"


@pytest.fixture(scope="module")
def here(videos: Path) -> Path:
    """The store that this machine makes of them, with flow. Tests read it only."""
    store = videos.with_name("here.zarr")
    with in_this_process():
        result = prep_flow(str(videos), store=str(store), engine="cpu", bound=BOUND)
    assert (result.written, result.failed) == (6, 1)
    return store


@pytest.fixture
def own(here: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(here, tmp_path / "own.zarr"))


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Local jobs run here: starting a process takes longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "run_jobs", lambda work, jobs, **_: map(work, jobs))
        yield
    close_decoder()


def files(store: Path) -> dict[str, bytes]:
    """Bytes of all frames and flow."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for view in ("frames", "flow")
        for file in (store / view).rglob("*")
        if file.is_file()
    }


def test_flow_of_a_cluster_is_that_of_this_machine(
    address: str, videos: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are those of the command's folder, which is not the workers'."""
    (tmp_path / "there").symlink_to(videos.parent)
    monkeypatch.chdir(tmp_path)
    found = prep_flow("there/few", store="s.zarr", engine="cpu", bound=BOUND, scheduler=address)
    assert (found.written, found.failed, found.frames) == (6, 1, 42)
    assert "on 2 workers of" in found.notes[-1]
    assert ClipStore("s.zarr").index.entries() == ClipStore(here).index.entries()
    assert files(Path("s.zarr")) == files(here)
    assert not list(Path("s.zarr/index/writing").iterdir())


def test_a_notebook_has_a_loop_of_its_own(address: str, own: Path) -> None:
    async def cell() -> PrepResult:
        return prep_flow(str(own), engine="cpu", bound=BOUND, limit=1, scheduler=address)

    assert asyncio.run(cell()).skipped == 1


def test_what_fails_here_ends_the_command_for_the_workers_too(
    address: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though who has caught the error may keep it, and with it all that it came through."""
    shutil.rmtree(own / "index" / "writing")  # as a copy that leaves out empty folders

    def full(*_: Any) -> bool:
        raise DiskError("No space left on device")

    monkeypatch.setattr(Index, "set_flow", full)
    with pytest.raises(DiskError) as caught:
        prep_flow(str(own), engine="cpu", bound=BOUND, overwrite=True, scheduler=address)
    assert not list((own / "index" / "writing").glob("claim*"))
    del caught


class TestGpus:
    """What is for GPUs, on a worker that only says it has one."""

    @pytest.mark.slow
    def test_one_batcher_serves_all_threads_of_a_worker(
        self, gpus: str, here: Path, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = []
        real = flow_device._batcher.__wrapped__

        def batcher(_engine: str, device: str, parameters: Any) -> Any:
            assert device == "cuda"
            if not made:
                made.append(real("torch", "cpu", parameters))
            return made[0]

        monkeypatch.setattr(flow_device, "_batcher", batcher)
        result = prep_flow(str(own), bound=BOUND, limit=4, overwrite=True, scheduler=gpus)
        assert result.written + result.failed == 4
        assert result.frames == 7 * result.written >= 21
        assert len(made) == 1
        assert "engine cuda-1 (cuda) on 1 worker of" in result.notes[-1]
        made[0].close()
        for video in ClipStore(here).ids:
            ours, theirs = (
                ClipStore(s).read(video, 0, 7, view="flow").astype(int) for s in (here, own)
            )
            assert abs(ours - theirs).mean() < 1

    def test_a_device_that_fails_is_one_line(
        self, gpus: str, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_: Any) -> Any:
            raise DeviceFailed("an illegal memory access")

        monkeypatch.setattr(flow_device, "_batcher", failing)
        with pytest.raises(WorkError, match=r"cuda of .* failed: an illegal .*--engine cpu"):
            prep_flow(str(own), bound=BOUND, overwrite=True, scheduler=gpus)

    def test_what_the_workers_have_decides(self, gpus: str, address: str) -> None:
        with scheduler.connect(gpus) as found:
            assert found.engine("auto", None) == ("cuda", "cuda")
            assert found.engine("auto", "cpu") == ("cpu", "cpu")
            assert found.engine("torch", "auto") == ("torch", "cuda")
            with pytest.raises(InputError, match="cuda:1"):
                found.engine("cuda", "cuda:1")
            with pytest.raises(InputError, match="use engine 'cpu'"):
                found.engine("cuda", "cpu")
        with scheduler.connect(address) as found:
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
        assert f"no workers; start some with `dask worker {idle}`" in line

    @pytest.mark.parametrize(("ours", "what"), [(("99", None), "slic"), ((None, "2.7"), "Python")])
    def test_another_version(
        self,
        videos: Path,
        address: str,
        monkeypatch: pytest.MonkeyPatch,
        ours: tuple[str | None, str | None],
        what: str,
    ) -> None:
        mine = tuple(a or b for a, b in zip(ours, versions(), strict=True))
        monkeypatch.setattr(scheduler, "versions", lambda: mine)
        with pytest.raises(
            InputError, match=f"scheduler has {what} .*, but this command has (99|2.7)"
        ):
            prep_frames(str(videos), store="s.zarr", scheduler=address)
        close_decoder()

    def test_a_store_that_workers_do_not_see(
        self, videos: Path, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(on_worker, "PATIENCE_S", 0.2)
        monkeypatch.setattr(on_worker, "read_claim", lambda claim: None)
        with pytest.raises(InputError, match=r"worker tcp://.* on .* does not see .*s\.zarr: "):
            prep_frames(str(videos), store="s.zarr", scheduler=address)
        assert not ClipStore("s.zarr").index.entries()
        close_decoder()


def test_a_worker_that_joins_later_looks_around_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_worker, "PATIENCE_S", 0.2)
    claim = tmp_path / "s.zarr" / "index" / "writing" / "claim"
    required = Requirements(claim, "said", (), versions())
    with pytest.raises(WorkError, match=r"does not see .*s\.zarr: "):
        run_job(len, [1, 2], required)
    claim.parent.mkdir(parents=True)
    claim.write_text("said")
    (tmp_path / "mounted").mkdir()
    for name in ("gone", "mounted"):
        with pytest.raises(WorkError, match=rf"does not see .*{name}: "):
            run_job(len, [1, 2], replace(required, folders=(tmp_path, tmp_path / name)))
    for command in (("99", versions()[1]), (versions()[0], "2.7")):
        with pytest.raises(WorkError, match=r"has .*, but this command has (99|2\.7): install"):
            run_job(len, [1, 2], replace(required, versions=command))
    assert run_job(len, [1, 2], required) == (2, 0)


class TestAtTheStart:
    """What workers answer when they are asked."""

    def looked(self, address: str, tmp_path: Path, monkeypatch: Any, answer: Exception) -> None:
        with scheduler.connect(address) as found:
            monkeypatch.setattr(found.client, "run", lambda *_, **__: {"tcp://x:1": answer})
            found._check_workers(tmp_path, [])

    def test_one_that_has_just_died_is_no_wrong_one(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.looked(address, tmp_path, monkeypatch, CommClosedError("in <TCP>: Stream is closed"))

    def test_one_without_slic_is(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        missing = ModuleNotFoundError("No module named 'slic'")
        with pytest.raises(InputError, match=r"tcp://x:1 cannot import slic \(No module"):
            self.looked(address, tmp_path, monkeypatch, missing)


def job_of(videos: Path, store: Path) -> FrameJob:
    """A job for workers that do something else with it."""
    return FrameJob(
        store, videos, Video("a", "a", None, None, {}), 8, Codec("zstd", quality=0), "x"
    )


@pytest.mark.slow
class TestAScheduler:
    """One that ends."""

    def test_between_two_stages(self, videos: Path, tmp_path: Path) -> None:
        job = job_of(videos, tmp_path)
        with cluster(n_workers=1) as one, scheduler.connect(one.scheduler_address) as found:
            one.close()
            with pytest.raises(WorkError, match=f"{found.address}: the scheduler is gone"):
                list(found.run(Stage(store_frames, [job], not_stored)))
            found.client.close()
            with pytest.raises(WorkError, match=f"{found.address}: the scheduler is gone"):
                list(found.run(Stage(store_frames, [job], not_stored)))


def test_what_is_asked_for_no_longer_is_not_published(videos: Path, own: Path) -> None:
    """A worker that was taken for dead comes back when others have done its video, and the flow."""
    path, store, before = own, ClipStore(own), files(own)
    entry = store.entries()[0]
    video = Video(entry.id, entry.path, entry.label, entry.group, {})
    job = FrameJob(path, videos, video, 16, Codec("jpeg", quality=50), "other")
    with new_claim(path) as claim:
        check_claim(claim)
    with pytest.raises(DiskError):
        store_frames(replace(job, claim=claim))
    assert files(path) == before
    with new_claim(path) as claim:
        assert store_frames(replace(job, claim=claim)).reason is None
    assert files(path) != before
    assert not list((path / "index" / "writing").iterdir())
    close_decoder()
