"""`prep flow` on devices: batches of many videos, the same store, and what fails."""

import shutil
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slic.cache import ClipStore, Codec
from slic.demo.drawn import draw_dataset
from slic.errors import WorkError
from slic.prep.flow import prep_flow
from slic.prep.flow_batches import Batcher
from slic.prep.flow_device import devices_for, flow_on_devices
from slic.prep.flow_video import FlowJob
from slic.prep.frames import prep_frames
from slic.prep.tvl1 import Tvl1Parameters, engine_version
from slic.prep.tvl1.device import DeviceSolver

QUICK = {"nscales": 2, "warps": 2, "outer_iterations": 2, "inner_iterations": 8}


@pytest.fixture(scope="module")
def frames_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless store of eight drawn videos without flow."""
    root = tmp_path_factory.mktemp("data")
    draw_dataset(root / "set", actions=2, groups=2, clips=2, frames=9, size=(40, 32))
    prep_frames(str(root / "set"), store=str(root / "s.zarr"), codec="zstd", workers=1)
    return root / "s.zarr"


@pytest.fixture
def own(frames_only: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(frames_only, tmp_path / "own.zarr"))


def levels(path: Path) -> dict[str, np.ndarray]:
    store = ClipStore(path)
    return {entry.id: store.read(entry.id, 0, 8, view="flow") for entry in store.entries()}


def test_store_is_that_of_the_cpu_engine(own: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(own, tmp_path / "other.zarr"))
    on_device = prep_flow(str(own), engine="torch", device="cpu", parameters=QUICK, workers=3)
    on_cores = prep_flow(str(other), engine="cpu", parameters=QUICK, workers=1)
    assert f"flow computed by engine {engine_version('torch')} on cpu" in on_device.notes
    assert (on_device.written, on_device.frames) == (on_cores.written, on_cores.frames) == (8, 64)
    found, wanted = levels(own), levels(other)
    assert found.keys() == wanted.keys()
    for video, flow in wanted.items():
        assert np.abs(flow.astype(int) - found[video]).max() <= 1
        assert (flow == found[video]).mean() > 0.99
    assert max(np.abs(flow.astype(int) - 128).max() for flow in wanted.values()) > 20
    # The engine is no part of the fingerprint: nothing is left to do for the other one.
    assert prep_flow(str(own), engine="cpu", parameters=QUICK).written == 0


def test_flow_that_is_not_finite_fails_alone(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solve = DeviceSolver.levels

    def spoilt(self: DeviceSolver, blocks: list, bound: float) -> list:
        if len(blocks) > 0 and not poisoned:
            poisoned.append(True)
            raise WorkError("TV-L1 gave flow that is not finite")
        return solve(self, blocks, bound)

    poisoned: list[bool] = []
    monkeypatch.setattr(DeviceSolver, "levels", spoilt)
    result = prep_flow(str(own), engine="torch", device="cpu", parameters=QUICK, workers=1)
    assert (result.written, result.failed, result.new_failures) == (7, 1, 1)
    assert result.failures[0][1] == "no flow: TV-L1 gave flow that is not finite"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("CUDA error: an illegal memory access\nmore lines"),
            "CUDA error: an illegal",
        ),
        # Of Triton's compiler, which wants a C compiler and a folder to write to.
        (subprocess.CalledProcessError(1, ["cc"]), "Command .* returned non-zero exit status 1"),
    ],
)
def test_device_that_fails_ends_the_work_in_one_line(
    own: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(DeviceSolver, "levels", broken)
    before = threading.active_count()
    with pytest.raises(WorkError, match=rf"^cpu failed: .*{reason}.*; run .* --engine cpu$"):
        prep_flow(str(own), engine="torch", device="cpu")
    assert threading.active_count() == before
    assert list((own / "flow").glob("*-*")) == []
    assert list((own / "index" / "writing").iterdir()) == []


def jobs(path: Path) -> list[FlowJob]:
    parameters = Tvl1Parameters(**QUICK)
    codec = Codec("zstd", quality=0)
    return [
        FlowJob(path, entry, codec, "torch", parameters, None, "print")
        for entry in ClipStore(path).entries()
    ]


def run(path: Path, devices: list[str], *, threads: int) -> tuple[list[str], int]:
    counts: list[int] = []
    done = list(flow_on_devices(jobs(path), devices, threads=threads, on_units=counts.append))
    assert {item.reason for item in done} <= {None}
    return sorted(item.entry.id for item in done), sum(counts)


@pytest.mark.slow
def test_two_devices_share_the_videos(own: Path) -> None:
    assert run(own, ["cpu", "cpu"], threads=2) == (ClipStore(own).ids, 64)
    assert len(list((own / "flow").glob("*-*"))) == 8


@pytest.mark.slow
def test_process_of_a_device_that_dies_is_one_line(own: Path) -> None:
    with pytest.raises(WorkError, match=r"nonsense failed|the process of a device died"):
        run(own, ["cpu", "nonsense"], threads=1)


def test_one_device_unless_all_gpus_are_meant() -> None:
    assert devices_for("cuda", "cuda:1") == ["cuda:1"]
    assert devices_for("torch", "cpu") == ["cpu"]


class Recorder:
    """Stands for a solver: 'flow' is the block's first values; notes what came together."""

    device = type("Device", (), {"type": "cpu"})()

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], tuple[int, int]]] = []
        self.go = threading.Event()

    def pairs_at_once(self, height: int, width: int) -> int:
        return 5

    def levels(self, blocks: list[np.ndarray], bound: float) -> list[np.ndarray]:
        self.go.wait(20)
        self.calls.append(([len(block) - 1 for block in blocks], blocks[0].shape[1:]))
        assert {block.shape[1:] for block in blocks} == {blocks[0].shape[1:]}
        return [block[:-1] for block in blocks]


def collected(work: Callable[[Batcher, Recorder], Any]) -> Recorder:
    recorder = Recorder()
    batcher = Batcher(recorder)  # type: ignore[arg-type]
    try:
        work(batcher, recorder)
    finally:
        recorder.go.set()
        batcher.close()
    return recorder


def test_batches_hold_one_size_and_no_more_than_asked() -> None:
    def work(batcher: Batcher, recorder: Recorder) -> None:
        shapes = [(3, 4, 5), (3, 4, 5), (4, 6, 7), (3, 4, 5), (2, 4, 5), (4, 4, 5), (4, 6, 7)] * 2
        blocks = [np.full(shape, number, np.uint8) for number, shape in enumerate(shapes)]
        waits = [batcher.submit(block, 1.0) for block in blocks]
        recorder.go.set()
        for block, wait in zip(blocks, waits, strict=True):
            np.testing.assert_array_equal(wait(), block[:-1])  # each gets its own

    recorder = collected(work)
    assert sum(len(pairs) for pairs, _ in recorder.calls) == 14
    assert all(sum(pairs) <= 5 for pairs, _ in recorder.calls)
    assert max(len(pairs) for pairs, _ in recorder.calls) > 1
    assert {size for _, size in recorder.calls} == {(4, 5), (6, 7)}


def test_what_waits_at_the_end_is_told_so() -> None:
    def work(batcher: Batcher, recorder: Recorder) -> None:
        waits = [batcher.submit(np.zeros((6, 4, 5), np.uint8), 1.0) for _ in range(8)]
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(batcher.close)
            with pytest.raises(WorkError, match="stopped"):
                waits[-1]()
            recorder.go.set()
            closing.result()
        with pytest.raises(WorkError, match="stopped"):
            batcher.submit(np.zeros((6, 4, 5), np.uint8), 1.0)

    collected(work)
