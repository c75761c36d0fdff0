"""A small data set, its store with flow, and copies of the store to damage."""

import shutil
from pathlib import Path

import pytest

from slic.demo.drawn import draw_dataset
from slic.prep.flow import prep_flow


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 drawn videos of 4 frames, 24x16, and a file that is not a video."""
    root = tmp_path_factory.mktemp("small") / "set"
    draw_dataset(root, actions=3, groups=2, clips=1, frames=4, size=(24, 16))
    (root / "broken.avi").write_bytes(b"no video")
    return root


@pytest.fixture(scope="session")
def small(small_set: Path) -> Path:
    """The store of that data set, with flow; read-only for tests."""
    path = small_set.parent / "small.zarr"
    result = prep_flow(str(small_set), store=str(path), workers=1)
    assert (result.written, result.failed) == (6, 1)
    return path


@pytest.fixture
def own(small: Path, tmp_path: Path) -> Path:
    """A copy of the store, to damage."""
    return Path(shutil.copytree(small, tmp_path / "own.zarr"))
