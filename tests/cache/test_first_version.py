"""Stores that the first version of slic wrote open unchanged.

`first_version/` holds two of them, of the same four drawn videos of 6 frames of 32x24: as JPEGs,
and lossless. Both were made by `slic prep flow` at release 0.1.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from slic.cache import ClipStore
from slic.prep.flow import prep_flow

FOLDER = Path(__file__).with_name("first_version")
LABELS = ("ArmCircles", "Bowing")
VIDEOS = [f"UCF-101/{label}/v_{label}_g0{g}_c01.avi" for label in LABELS for g in (1, 2)]

# Of all frames and flow in order of the videos, as the first version read them.
AS_IT_READ = "d436458cbe85747af4e6f9b1677fbb4bae215b2969eb797d2c0f98fef02d49d5"


def read(kind: str, video: str, view: str) -> np.ndarray:
    return ClipStore(FOLDER / kind).read(video, 0, 6, view=view).astype(int)


@pytest.mark.parametrize("kind", ["jpeg", "zstd"])
def test_the_index_says_what_it_said(kind: str) -> None:
    rows = list(ClipStore(FOLDER / kind).index.rows("id", "label", "frames", "width", "split1"))
    assert sorted(rows) == [
        (video, video.split("/")[1], 6, 32, "test" if "_g01_" in video else "train")
        for video in VIDEOS
    ]


def test_a_lossless_store_reads_as_it_did() -> None:
    content = hashlib.sha256()
    for video in VIDEOS:
        for view in ("frames", "flow"):
            content.update(read("zstd", video, view).astype(np.uint8).tobytes())
    assert content.hexdigest() == AS_IT_READ


@pytest.mark.parametrize("video", VIDEOS)
def test_both_stores_hold_the_same_pictures(video: str) -> None:
    frames, lossless = (read(kind, video, "frames") for kind in ("jpeg", "zstd"))
    assert frames.shape == lossless.shape == (6, 24, 32, 3)
    assert lossless.std() > 20
    assert np.abs(frames - lossless).mean() < 6
    flow, exact = (read(kind, video, "flow") for kind in ("jpeg", "zstd"))
    assert flow.shape == exact.shape == (6, 24, 32, 2)
    assert np.abs(flow - exact).mean() < 8


@pytest.mark.parametrize("kind", ["jpeg", "zstd"])
def test_nothing_of_it_is_prepared_again(kind: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / kind, tmp_path / "old.zarr")
    result = prep_flow(str(tmp_path / "old.zarr"), workers=1)
    assert (result.videos, result.skipped, result.written, result.failed) == (4, 4, 0, 0)
