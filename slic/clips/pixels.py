"""Pixels of clips as an encoder takes them: the test view, and normalisation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slic.encoders.encoder import MEAN, STD, Statistics


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
