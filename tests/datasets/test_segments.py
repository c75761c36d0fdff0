"""Segments and windows: what is typed, and which frames it means."""

import math

import pytest

from slic.datasets.segments import (
    Segment,
    Windows,
    ends_before,
    known_fps,
    named_segment,
    window_name,
    windows_of,
)
from slic.errors import InputError


def by_loop(frames: int, fps: float, length: float, stride: float) -> list[tuple[int, int]]:
    """Windows frame by frame: each frame that is the nearest to a multiple of the stride begins
    one, as long as the video goes on behind it; the last one ends with the video."""
    count = max(1, math.floor(length * fps + 0.5))
    if count >= frames:
        return [(0, frames)]
    step, number, found = max(1.0, stride * fps), 0, []
    for frame in range(frames - count):
        if frame == math.floor(number * step + 0.5):
            found.append((frame, count))
            number += 1
    return [*found, (frames - count, count)]


@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 12.5, 59.94, 1.0, 0.3, 1e5])
@pytest.mark.parametrize(("length", "stride"), [(2, 1), (2, 2), (0.5, 3), (1, 0.001), (0.001, 0.7)])
def test_windows_are_those_of_a_loop_over_frames(fps, length, stride):
    for frames in (1, 2, 3, 24, 25, 26, 49, 50, 51, 75, 101, 997):
        bounds = Windows(length, stride).bounds(frames, fps)
        assert bounds == by_loop(frames, fps, length, stride)
        assert bounds[0][0] == 0
        assert sum(bounds[-1]) == frames
        assert len(set(bounds)) == len(bounds)
        assert len({count for _, count in bounds}) == 1


def test_windows_by_hand():
    assert Windows(2, 1).bounds(100, 25) == [(0, 50), (25, 50), (50, 50)]
    assert Windows(2, 1).bounds(101, 25) == [(0, 50), (25, 50), (50, 50), (51, 50)]
    assert Windows(2, 1).bounds(50, 25) == [(0, 50)]
    assert Windows(1, 3).bounds(100, 25) == [(0, 25), (75, 25)]
    assert Windows(1, 3).bounds(120, 25) == [(0, 25), (75, 25), (95, 25)]
    assert Windows(0.001, 0.001).bounds(3, 25) == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("length", "stride", "seconds", "text"),
    [
        ("2s", "1s", (2, 1), "w2s-s1s"),
        ("2", None, (2, 1), "w2s-s1s"),
        ("500ms", "0.25", (0.5, 0.25), "w0.5s-s0.25s"),
        (".5s", None, (0.5, 0.25), "w0.5s-s0.25s"),
        ("1ms", None, (0.001, 0.001), "w0.001s-s0.001s"),
        ("100", "30.", (100, 30), "w100s-s30s"),
    ],
)
def test_durations_as_typed(length, stride, seconds, text):
    windows = windows_of(length, stride)
    assert windows is not None
    assert (windows.length, windows.stride) == seconds
    assert str(windows) == text


BAD = ["0", "0s", "-1s", "abc", "", "nan", "inf", "1e3", "2m", "0.0001s", "9" * 400, "٣s", "2 s s"]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_duration_is_one_line(bad):
    with pytest.raises(InputError, match="--window"):
        windows_of(bad, None)
    with pytest.raises(InputError, match="--stride") as error:
        windows_of("2s", bad)
    assert "\n" not in str(error.value)


def test_no_windows_and_a_stride_of_none():
    assert windows_of(None, None) is None
    with pytest.raises(InputError, match="--window"):
        windows_of(None, "1s")


@pytest.mark.parametrize(
    ("words", "begin", "end"),
    [("12,14", 12, 14), ("12", 12, None), (",5", 0, 5), ("0.5,.75", 0.5, 0.75), ("0", 0, None)],
)
def test_segments_as_typed(words, begin, end):
    assert named_segment(f"a#t=1.mp4#t={words}") == ("a#t=1.mp4", Segment(begin, end))


@pytest.mark.parametrize(
    "words", ["", ",", "5,5", "5,4", "nan", "inf", "0,inf", "-1,2", "1,2,3", "1:00", "npt:1,2", "x"]
)
def test_what_is_no_segment_is_one_line(words):
    with pytest.raises(InputError, match="segment") as error:
        named_segment(f"talk.mp4#t={words}")
    assert "\n" not in str(error.value)


def test_frames_of_a_segment():
    assert Segment(1, 2).frames(25) == (25, 25)
    assert Segment(1, None).frames(25) == (25, None)
    assert Segment(1, 1.001).frames(25) == (25, 1)
    assert Segment(10, 20).frames(30000 / 1001) == (300, 299)
    assert Segment(float("9" * 300), None).frames(1e5)[0] > 1e12


@pytest.mark.parametrize("fps", [None, 0.0, -3.0, math.nan, math.inf])
def test_a_rate_that_is_not_told_is_25(fps):
    assert known_fps(fps) == 25


def test_names_of_windows():
    assert window_name("a/b", 0, 2) == "a/b#t=0,2"
    assert window_name("a#t=0,2", 0.5, 30 / 29.97) == "a#t=0,2#t=0.5,1.001001"


def test_a_segment_that_begins_behind_the_last_frame_is_said_to():
    # Half a frame before the video's end, the nearest frame is one that is not there.
    segment = Segment(1.99, None)
    assert segment.frames(25)[0] == 50
    said = ends_before(segment, 50, 25)
    assert "1.99 s, after the last frame" in said
    assert "2 s" in said
