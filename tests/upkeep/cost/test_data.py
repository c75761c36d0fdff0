"""Amounts of data sets: published, imaginary and stored."""

from slic.upkeep.cost.data import KNOWN, described, known


def test_unused_videos_count_but_are_not_trained_on() -> None:
    data = known("hmdb51")
    assert (data.videos, data.train + data.test) == (6_766, 5_100)
    assert "hmdb51" in KNOWN


def test_imaginary_videos_are_unlabelled_and_have_a_frame() -> None:
    data = described("x", basis="y", train=100, frames=25)
    assert (data.frames, data.pairs, data.train, data.labelled) == (2500, 2400, 100, False)
    assert described("x", basis="y", train=3, frames=1).pairs_left == 0
