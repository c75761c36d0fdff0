"""Small drawn video and stores made of it, shared by all tests."""

import contextlib
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slic import cli
from slic.cache import ClipStore
from slic.demo.drawn import draw_dataset
from slic.prep.flow import prep_flow
from slic.runtime import signals as stopping


def pytest_configure() -> None:
    """Let Ctrl-C be heard here and in what is started, as in a terminal.

    A shell without job control has what it starts in the background ignore it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands run in this process leave no handlers behind, and no stop that was asked for."""
    before = {number: signal.getsignal(number) for number in stopping.STOPPING}
    monkeypatch.setattr(stopping, "_received", [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 3 actions x 4 groups x 2 clips of 20 frames, 64x48, in UCF101's tree."""
    root = tmp_path_factory.mktemp("drawn") / "ucf101"
    draw_dataset(root, actions=3, groups=4, clips=2, frames=20, size=(64, 48))
    return root


@pytest.fixture(scope="session")
def drawn_store(drawn: Path) -> Path:
    """The drawn set as a clip store with flow. Tests read it only."""
    path = drawn.parent / "ucf101.zarr"
    result = prep_flow(str(drawn), store=str(path), bound=3.0, workers=2)
    assert (result.written, result.failed) == (24, 0)
    return path


@pytest.fixture
def store(drawn_store: Path) -> ClipStore:
    """The drawn store, opened for reading."""
    return ClipStore(drawn_store)


TINY = {
    "frames": 4,
    "stride": 1,
    "size": 16,
    "batch_size": 6,
    "epochs": 2,
    "cluster_every": 1,
    "warmup_epochs": 1,
    "retrieval_clips": 2,
}


@pytest.fixture(scope="session")
def trained(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the drawn store and one short run of it. Tests only read the run."""
    from slic.train.run import train

    folder = tmp_path_factory.mktemp("work")
    (folder / "ucf101.zarr").symlink_to(drawn_store)
    with contextlib.chdir(folder):
        train("ucf101.zarr", preset="cpu-small", options=TINY, device="cpu", workers=0, say=str)
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the working folder of `trained`, as current folder, for a test to change."""
    shutil.copytree(trained, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def slic(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command in this process: (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slic", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run
