"""`prep flow` killed in the middle and run again: what was done stays, what was not is done."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slic.cache import ClipStore
from slic.demo.drawn import draw_dataset
from slic.prep.flow import prep_flow
from slic.prep.frames import prep_frames

VIDEOS, PAIRS = 24, 24 * 15


@pytest.fixture(scope="module")
def frames_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_dataset(root / "set", actions=3, groups=2, clips=4, frames=16, size=(64, 48))
    prep_frames(str(root / "set"), store=str(root / "s.zarr"), workers=1)
    return root / "s.zarr"


@pytest.fixture(scope="module")
def whole(frames_only: Path) -> dict[str, np.ndarray]:
    """Flow of an undisturbed run."""
    path = Path(shutil.copytree(frames_only, frames_only.with_name("whole.zarr")))
    assert prep_flow(str(path), engine="cpu", workers=1).written == VIDEOS
    return flow_of(path)


def flow_of(path: Path) -> dict[str, np.ndarray]:
    store = ClipStore(path)
    return {entry.id: store.read(entry.id, 0, 16, view="flow") for entry in store.entries()}


def with_flow(path: Path) -> set[str]:
    return {entry.id for entry in ClipStore(path).entries() if entry.flow is not None}


def begin(path: Path, engine: str, *, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    command = [sys.executable, "-m", "slic.cli", "prep", "flow", str(path), "--engine", engine]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--workers", "2", "--device", "cpu"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


def wait_for_some(path: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if with_flow(path) or process.poll() is not None:
            return
        time.sleep(0.05)
    pytest.fail("no video was done in a minute")


def alive(group: int) -> bool:
    """Whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [1.2, 2.4])
def test_ctrl_c_in_a_terminal_is_one_line(
    frames_only: Path, tmp_path: Path, after_s: float
) -> None:
    """A terminal sends it to every process, those that just start up among them."""
    path = Path(shutil.copytree(frames_only, tmp_path / "s.zarr"))
    process = begin(path, "cpu", stderr=subprocess.PIPE)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    told = said.decode().splitlines()
    lines = [line for line in told if not re.match(r"flow \(cpu\): |about .* needed, ", line)]
    # CPython itself ends by the signal, for a shell 130 as well, where it interrupted an `exec` of
    # a text, as imports do to make dataclasses.
    if process.returncode in (130, -signal.SIGINT):
        assert lines == ["slic: stopped; the same command goes on from there"]
    else:  # it was done before, and Python was about to leave
        assert len(with_flow(path)) == VIDEOS, said.decode()
        assert "Traceback" not in said.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "sign"),
    [
        ("torch", signal.SIGKILL),
        ("cpu", signal.SIGTERM),
    ],
    ids=str,
)
def test_killed_and_run_again(
    frames_only: Path, whole: dict, tmp_path: Path, engine: str, sign: signal.Signals
) -> None:
    path = Path(shutil.copytree(frames_only, tmp_path / "s.zarr"))
    process = begin(path, engine)
    wait_for_some(path, process)
    process.send_signal(sign)
    process.wait(timeout=60)
    for _ in range(200):  # its workers notice and leave
        if not alive(process.pid):
            break
        time.sleep(0.1)
    assert not alive(process.pid)
    done = with_flow(path)
    kept = {video: ClipStore(path).read(video, 0, 16, view="flow") for video in done}
    result = prep_flow(str(path), engine="cpu", workers=1)
    assert (result.written, result.skipped) == (VIDEOS - len(done), len(done))
    found = flow_of(path)
    assert found.keys() == whole.keys()
    for video, flow in whole.items():
        if video in kept:
            np.testing.assert_array_equal(found[video], kept[video])
        difference = np.abs(found[video].astype(int) - flow)
        if engine == "cpu":
            assert not difference.any()
        # Of another engine it is the same but for rounding: in pixels, at a bound of 48 / 12.
        assert difference.mean() * 4 / 127 < 0.05
