"""Parts of a video in time: a segment given by a user, and the windows of a long video."""

import math
import re
from dataclasses import dataclass

from slic.errors import InputError

USUAL_FPS = 25.0  # assumed for a video that does not record its frame rate
SHORTEST_S, LONGEST_S = 1e-3, 1e6
_MARK = "#t="
_SECONDS = r"\d+(?:\.\d*)?|\.\d+"
_SEGMENT = re.compile(rf"({_SECONDS})?(?:,({_SECONDS}))?", re.ASCII)
_DURATION = re.compile(rf"({_SECONDS})(ms|s)?", re.ASCII)


@dataclass(frozen=True)
class Segment:
    """The part of a video from second `begin` until second `end`. None: until its end."""

    begin: float
    end: float | None

    def frames(self, fps: float) -> tuple[int, int | None]:
        """Return the first frame and the number of frames, at least 1. None: all to the end."""
        first = _frames(self.begin, fps)
        return first, None if self.end is None else max(1, _frames(self.end, fps) - first)


@dataclass(frozen=True)
class Windows:
    """Overlapping pieces in which long videos are embedded.

    Attributes:
        length: of a window, in seconds, a multiple of a millisecond.
        stride: time from the start of one window to the start of the next, in seconds.
    """

    length: float
    stride: float

    def __str__(self) -> str:
        return f"w{plain_seconds(self.length)}s-s{plain_seconds(self.stride)}s"

    def bounds(self, frames: int, fps: float) -> list[tuple[int, int]]:
        """Return the first frame and the number of frames of each window of a video, in order.

        All have the same length. The last ends with the video, so it may begin less than a stride
        after the one before. A video that is not longer than a window is one window.

        Args:
            frames: number of frames of the video.
            fps: its frames per second.
        """
        count = max(1, _frames(self.length, fps))
        if count >= frames:
            return [(0, frames)]
        step = max(1.0, self.stride * fps)
        inner = math.ceil((frames - count) / step)
        firsts = [first for i in range(inner) if (first := _nearest(i * step)) < frames - count]
        return [(first, count) for first in (*firsts, frames - count)]


def known_fps(fps: float | None) -> float:
    """Return the frame rate to convert seconds with: 25 if a video does not record one."""
    return fps if fps is not None and math.isfinite(fps) and fps > 0 else USUAL_FPS


def ends_before(segment: Segment, frames: int, fps: float | None) -> str:
    """Return the message that a video of so many frames ends before a segment begins."""
    begin, end = plain_seconds(segment.begin), plain_seconds(frames / known_fps(fps))
    return f"the segment begins at {begin} s, after the last frame: the video ends at {end} s"


def named_segment(query: str) -> tuple[str, Segment | None]:
    """Split a query such as `talk.mp4#t=12,14` into a video and a segment, None without `#t=`.

    Raises:
        InputError: `#t=` is not followed by seconds.
    """
    name, mark, words = query.rpartition(_MARK)
    if not mark:
        return query, None
    found = _SEGMENT.fullmatch(words)
    if found is None or found.group(1) is found.group(2) is None:
        raise InputError(
            f"{query!r}: #t={words} is not a segment; #t=12,14 is from second 12 to 14, #t=12 to"
            " the end, #t=,14 from the start"
        )
    begin, end = (None if word is None else float(word) for word in found.groups())
    segment = Segment(begin or 0.0, end)
    if end is not None and end <= segment.begin:
        raise InputError(f"{query!r}: the segment is empty: it must end after it begins")
    return name, segment


def windows_of(length: str | None, stride: str | None) -> Windows | None:
    """Parse options such as `2s` and `500ms` to windows; None without a length.

    Args:
        length: of a window.
        stride: from one window to the next. None: half the length.

    Raises:
        InputError: not a duration, or a stride without a length.
    """
    if length is None:
        if stride is not None:
            raise InputError("--stride needs --window: give the length of a window as well")
        return None
    seconds = _duration(length, "--window")
    if stride is not None:
        return Windows(seconds, _duration(stride, "--stride"))
    return Windows(seconds, max(SHORTEST_S, round(seconds / 2, 3)))


def plain_seconds(seconds: float) -> str:
    """Format seconds without trailing zeros, to a millionth: 2, 0.5, 1.001001."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def window_name(video: str, start: float, end: float) -> str:
    """Return the name of a part of a video, `<video>#t=<start>,<end>`, in seconds."""
    return f"{video}{_MARK}{plain_seconds(start)},{plain_seconds(end)}"


def _duration(text: str, option: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    seconds = math.nan
    if found:
        seconds = round(float(found.group(1)) / (1000 if found.group(2) == "ms" else 1), 3)
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise InputError(f"{option} {text}: give seconds, such as 2s, 0.5s or 500ms, from 1ms on")
    return seconds


def _frames(seconds: float, fps: float) -> int:
    """Convert seconds to frames; the limit keeps huge values exact as integers."""
    return _nearest(min(seconds * fps, 2.0**53))


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)
