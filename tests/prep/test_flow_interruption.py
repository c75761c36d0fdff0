"""`prep flow` interrupted in a terminal, at any moment."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slic.cache import ClipStore
from slic.demo.drawn import draw_dataset
from slic.prep.frames import prep_frames

VIDEOS = 24


@pytest.fixture(scope="module")
def frames_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_dataset(root / "set", actions=3, groups=2, clips=4, frames=16, size=(64, 48))
    prep_frames(str(root / "set"), store=str(root / "s.zarr"), workers=1)
    return root / "s.zarr"


def with_flow(path: Path) -> set[str]:
    return {entry.id for entry in ClipStore(path).entries() if entry.flow is not None}


def begin(path: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "slic.cli", "prep", "flow", str(path), "--engine", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--workers", "2"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [1.2, 2.4])
def test_ctrl_c_in_a_terminal_is_one_line(
    frames_only: Path, tmp_path: Path, after_s: float
) -> None:
    """A terminal sends it to every process, those that just start up among them."""
    path = Path(shutil.copytree(frames_only, tmp_path / "s.zarr"))
    process = begin(path)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    told = said.decode().splitlines()
    lines = [line for line in told if not re.match(r"flow \(cpu\): |about .* needed, ", line)]
    # CPython itself ends by the signal, for a shell 130 as well, where it interrupted an `exec` of
    # a text, as imports do to make dataclasses.
    if process.returncode in (130, -signal.SIGINT):
        assert lines == ["slic: stopped; run the same command again to continue"]
    else:  # it was done before, and Python was about to leave
        assert len(with_flow(path)) == VIDEOS, said.decode()
        assert "Traceback" not in said.decode()
