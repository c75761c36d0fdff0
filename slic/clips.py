"""Where clips lie in a video, and how pixels become an encoder's input."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slic.encoders import MEAN, STD, Statistics


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


def centre_view(clip: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The deterministic test view: short side resized to `size`, centre cropped.

    Args:
        clip: `(T, H, W, C)` uint8.
        size: side in pixels.

    Returns:
        `(T, size, size, C)` uint8.
    """
    import cv2

    height, width = clip.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = clip[:, top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    resized = [cv2.resize(f, (size, size), interpolation=how) for f in square]
    return np.stack(resized).reshape(len(clip), size, size, -1)


def normalise(
    clips: Tensor,
    *,
    device: torch.device,
    statistics: Statistics = (MEAN, STD),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """uint8 clips `(N, T, H, W, 3)` to an encoder's input `(N, 3, T, H, W)` on `device`.

    Values are scaled to 0..1, less the mean, over the standard deviation of the channel: an
    encoder's `statistics`. The result lies channels-last in memory, as the input does.
    """
    values = clips.to(device, non_blocking=True).to(dtype)
    means, deviations = statistics
    mean = _filled(values, [255 * m for m in means])
    scale = _filled(values, [1 / (255 * d) for d in deviations])
    return ((values - mean) * scale).permute(0, 4, 1, 2, 3)


def _filled(like: Tensor, row: Sequence[float]) -> Tensor:
    """A tensor on the device, filled there: one copied to a GPU would be waited for."""
    return torch.stack([like.new_full((), value) for value in row])


def as_tensor(clip: NDArray[Any]) -> Tensor:
    """A NumPy clip as a tensor that owns contiguous memory."""
    return torch.from_numpy(np.ascontiguousarray(clip))
