"""Where clips lie in a video."""

import numpy as np


def clip_span(frames: int, stride: int) -> int:
    """Frames that a clip spans, first to last."""
    return (frames - 1) * stride + 1


def even_starts(length: int, clips: int, *, frames: int, stride: int = 1) -> list[int]:
    """First frames of `clips` clips spread evenly over a video; of one, the centre clip.

    Args:
        length: frames of the video.
        clips: how many.
        frames, stride: shape of a clip. One longer than the video starts at 0 and wraps.
    """
    room = max(0, length - clip_span(frames, stride))
    if clips == 1:
        return [room // 2]
    return [round(i * room / (clips - 1)) for i in range(clips)]


def section_starts(
    first: int, count: int, *, length: int, clips: int, frames: int, stride: int = 1
) -> list[int]:
    """First frames of `clips` clips spread evenly over some frames of a video, as `even_starts`.

    Clips longer than the section begin with it and go on behind it; at the end of the video they
    are moved back, so that none wraps unless it is longer than the video.

    Args:
        first, count: the section.
        length: frames of the video.
        clips: how many.
        frames, stride: shape of a clip.
    """
    last = max(0, length - clip_span(frames, stride))
    inner = even_starts(count, clips, frames=frames, stride=stride)
    return [min(first + start, last) for start in inner]


def anywhere(length: int, span: int, rng: np.random.Generator) -> int:
    """A random first frame; clips of a video shorter than the span start anywhere and wrap."""
    return int(rng.integers(length - span + 1 if length >= span else length))
