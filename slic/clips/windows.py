"""Sections of videos that are embedded like a video of their own, such as windows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slic.cache import Entry
from slic.cache.embeddings import WindowPositions
from slic.datasets.segments import USUAL_FPS, Windows, known_fps


@dataclass(frozen=True, slots=True)
class Section:
    """Consecutive frames of a stored video.

    Attributes:
        video: Id of the video.
        length: Its number of frames.
        first: First frame of the section.
        count: Number of frames of the section.
    """

    video: str
    length: int
    first: int
    count: int


def whole_video(entry: Entry) -> Section:
    """Return the section from a video's first frame to its last."""
    length = entry.frames or 0
    return Section(entry.id, length, 0, length)


def all_windows(
    entries: Sequence[Entry], windows: Windows, *, where: Path, say: Callable[[str], None]
) -> tuple[list[Entry], list[Section], WindowPositions]:
    """List the N windows of videos, by video and time.

    Args:
        entries: The videos, at least one.
        windows: Length and stride of the windows.
        where: Path of the store, for the message.
        say: Called with a line if videos have no frame rate.

    Returns:
        For each window its video, its frames, and its position in seconds.
    """
    timeless = sum(known_fps(entry.fps) != entry.fps for entry in entries)
    if timeless:
        say(
            f"{where}: {timeless} of {len(entries)} videos have no frame rate;"
            f" {USUAL_FPS:g} frames per second are assumed"
        )
    rows = [
        (entry, Section(entry.id, entry.frames or 0, first, count))
        for entry in entries
        for first, count in windows.bounds(entry.frames or 0, known_fps(entry.fps))
    ]
    videos = [entry for entry, _ in rows]
    sections = [section for _, section in rows]
    rates = np.array([known_fps(entry.fps) for entry in videos])
    first = np.array([section.first for section in sections])
    last = first + np.array([section.count for section in sections])
    of = np.array([entry.id for entry in videos])
    return videos, sections, WindowPositions(of, first / rates, last / rates)
