"""Amounts of sets that are not here."""

import math

import pytest

from slic.errors import InputError
from slic.upkeep.cost.data import imagined, known


def test_ucf101_by_hand() -> None:
    data = known("UCF101")
    assert data is not None
    assert (data.videos, data.train, data.test) == (13_320, 9_537, 3_783)
    assert data.frames == 13_320 * 187
    assert data.pairs == data.pairs_left == 13_320 * 186
    assert data.pixels == 171 * 128
    assert math.isclose(data.frame_bytes, 8100)


def test_hmdb51_counts_its_unused_videos() -> None:
    data = known("hmdb51")
    assert data is not None
    assert data.videos == 6_766
    assert data.train + data.test == 5_100


def test_unknown_names_are_no_set() -> None:
    assert known("ucf") is None
    assert known("") is None


def test_an_imagined_set() -> None:
    data = imagined(100, seconds=2.0, fps=12.5)
    assert (data.frames, data.pairs, data.train, data.labelled) == (2500, 2400, 100, False)


def test_no_video_is_shorter_than_a_frame() -> None:
    data = imagined(3, seconds=0.01, fps=1.0)
    assert (data.frames, data.pairs, data.pairs_left) == (3, 0, 0)


@pytest.mark.parametrize(
    ("videos", "seconds", "fps", "option"),
    [
        (0, 1.0, 25.0, "--videos"),
        (-5, 1.0, 25.0, "--videos"),
        (10**20, 1.0, 25.0, "--videos"),
        (1, 0.0, 25.0, "--seconds"),
        (1, math.nan, 25.0, "--seconds"),
        (1, math.inf, 25.0, "--seconds"),
        (1, 1.0, -1.0, "--fps"),
    ],
)
def test_impossible_numbers_are_refused(
    videos: int, seconds: float, fps: float, option: str
) -> None:
    with pytest.raises(InputError, match=option):
        imagined(videos, seconds=seconds, fps=fps)
