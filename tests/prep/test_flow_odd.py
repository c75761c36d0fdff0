"""Odd video through `prep flow`, by every engine that runs here: no NaN, nothing lost."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from slic.cache import ClipStore
from slic.errors import InputError
from slic.prep.flow import prep_flow
from slic.prep.frames import prep_frames
from tests.videos import write_video

RNG = np.random.default_rng(0)
# Smooth noise that moves to the right by a pixel a frame.
WIDE = np.repeat(RNG.integers(0, 256, (4, 60)), 4, axis=0).repeat(8, axis=1)
VIDEOS = {
    "black.mkv": np.zeros((4, 24, 32)),
    "white.mkv": np.full((3, 24, 32), 235),
    "one.mkv": RNG.integers(0, 256, (1, 24, 32)),
    "two.mkv": RNG.integers(0, 256, (2, 24, 32)),
    "tiny.mkv": RNG.integers(0, 256, (3, 2, 2)),
    "small.mkv": RNG.integers(0, 256, (3, 8, 10)),
    "wide.mkv": np.stack([np.roll(WIDE, t, axis=1) for t in range(3)]),
    "tall.mkv": RNG.integers(0, 256, (2, 300, 6)),
    # Every frame a scene of its own, as hard black and white as can be.
    "cuts.mkv": 255 * RNG.integers(0, 2, (5, 40, 50)),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odd") / "set"
    for name, frames in VIDEOS.items():
        colours = np.repeat(frames.astype(np.uint8)[..., None], 3, axis=3)
        write_video(root / name, colours, codec="ffv1")
    assert prep_frames(str(root), store=str(root.parent / "s.zarr"), workers=1).failed == 0
    return root


@pytest.mark.parametrize("engine", ["cpu", "torch", "opencv"])
def test_odd_video_gets_flow(
    odd: Path, tmp_path: Path, engine: Literal["cpu", "torch", "opencv"]
) -> None:
    path = tmp_path / "s.zarr"
    # Few warps: what is odd about them shows in each.
    few = {"warps": 2, "inner_iterations": 10}
    result = prep_flow(
        str(odd), store=str(path), engine=engine, parameters=few, workers=1, codec="zstd"
    )
    assert (result.videos, result.written, result.failed) == (len(VIDEOS), len(VIDEOS), 0)
    assert result.frames == sum(len(frames) - 1 for frames in VIDEOS.values())
    store = ClipStore(path)
    for name, frames in VIDEOS.items():
        levels = store.read(name, 0, len(frames), view="flow")
        assert levels.shape == (*frames.shape, 2)
        assert levels.min() > 0  # level 0 stands for nothing
        assert np.isfinite(store.read_flow(name, 0, len(frames))).all()
    for name in ("black.mkv", "white.mkv", "one.mkv"):
        assert (store.read(name, 0, len(VIDEOS[name]), view="flow") == 128).all()
    assert (store.read("cuts.mkv", 0, 4, view="flow") != 128).any()


def test_engine_that_cannot_run_here_is_refused_before_any_work(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not run on device 'cuda:0'"):
        prep_flow(str(odd), store=str(tmp_path / "s.zarr"), engine="cpu", device="cuda:0")
    assert not (tmp_path / "s.zarr").exists()
