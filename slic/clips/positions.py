"""Positions of clips in a video."""

import numpy as np


def clip_span(frames: int, stride: int) -> int:
    """Return the number of source frames from a clip's first frame to its last."""
    return (frames - 1) * stride + 1


def even_starts(length: int, clips: int, *, frames: int, stride: int = 1) -> list[int]:
    """Return first frames of clips spread evenly over a video; a single clip is central.

    Args:
        length: Frames of the video. Clips longer than it start at 0 and wrap.
        clips: Number of clips.
        frames: Frames of each clip.
        stride: Step from one frame of a clip to the next, in source frames; default 1.
    """
    room = max(0, length - clip_span(frames, stride))
    if clips == 1:
        return [room // 2]
    return [round(i * room / (clips - 1)) for i in range(clips)]


def section_starts(
    first: int, count: int, *, length: int, clips: int, frames: int, stride: int = 1
) -> list[int]:
    """Return first frames of clips spread evenly over a section of a video, as `even_starts`.

    Clips longer than the section start with it and extend beyond it; near the end of the video
    they are moved back, so that none wraps unless it is longer than the video.

    Args:
        first: First frame of the section.
        count: Frames of the section.
        length: Frames of the video.
        clips, frames, stride: As in `even_starts`.
    """
    last = max(0, length - clip_span(frames, stride))
    inner = even_starts(count, clips, frames=frames, stride=stride)
    return [min(first + start, last) for start in inner]


def random_start(length: int, span: int, rng: np.random.Generator) -> int:
    """Draw a clip's first frame; in a video shorter than the span it is any frame, and it wraps."""
    return int(rng.integers(length - span + 1 if length >= span else length))
