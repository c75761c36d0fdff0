"""The windows of a store's videos, to be embedded each like a video of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slic.cache import Entry
from slic.cache.embeddings import Places
from slic.datasets.segments import USUAL_FPS, Windows, known_fps


@dataclass(frozen=True, slots=True)
class Section:
    """Consecutive frames of a stored video, embedded as one.

    Attributes:
        video: its id.
        length: frames of the video.
        first, count: the frames.
    """

    video: str
    length: int
    first: int
    count: int


def whole(entry: Entry) -> Section:
    """A stored video from its first frame to its last."""
    length = entry.frames or 0
    return Section(entry.id, length, 0, length)


def all_windows(
    entries: Sequence[Entry], windows: Windows, *, where: Path, say: Callable[[str], None]
) -> tuple[list[Entry], list[Section], Places]:
    """All windows of some videos, in order of video and time.

    Args:
        entries: one video or more.
        windows: how long they are, and how far apart.
        where: the store, for the message.
        say: takes a line where a video does not tell its frame rate.

    Returns:
        Of each of N windows its video, its frames, and its seconds.
    """
    timeless = sum(known_fps(entry.fps) != entry.fps for entry in entries)
    if timeless:
        say(
            f"{where}: {timeless} of {len(entries)} videos do not tell their frame rate:"
            f" {USUAL_FPS:g} frames a second are assumed"
        )
    videos: list[Entry] = []
    sections: list[Section] = []
    for entry in entries:
        length = entry.frames or 0
        bounds = windows.bounds(length, known_fps(entry.fps))
        videos += [entry] * len(bounds)
        sections += [Section(entry.id, length, first, count) for first, count in bounds]
    rates = np.array([known_fps(entry.fps) for entry in videos])
    first = np.array([section.first for section in sections])
    last = first + np.array([section.count for section in sections])
    of = np.array([entry.id for entry in videos])
    return videos, sections, Places(of, first / rates, last / rates)
