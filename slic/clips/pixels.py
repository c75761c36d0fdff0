"""Pixels of clips: the test view, and normalisation for an encoder."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slic.encoders.encoder import MEAN, STD, Statistics

Pixels = NDArray[np.uint8]
Image = NDArray[Any]  # `(H, W, C)` uint8, which OpenCV's types do not guarantee


def resize(image: Image, size: int) -> Image:
    """Resize `(H, W, C)` to `(size, size, C)`, by areas if it shrinks, else linearly."""
    shrinks = min(image.shape[:2]) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


def centre_view(clip: Pixels, size: int) -> Pixels:
    """Cut the deterministic test view of a clip: the central square, resized.

    Args:
        clip: `(T, H, W, C)` uint8.
        size: Side of the result in pixels.

    Returns:
        `(T, size, size, C)` uint8.
    """
    height, width = clip.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = clip[:, top : top + side, left : left + side]
    # OpenCV drops the axis of a single channel.
    return np.stack([resize(frame, size) for frame in square]).reshape(len(clip), size, size, -1)


def normalise(
    clips: Tensor,
    *,
    device: torch.device,
    statistics: Statistics = (MEAN, STD),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Convert uint8 clips `(N, T, H, W, 3)` to an encoder's input `(N, 3, T, H, W)`.

    Values are scaled to 0..1, then standardised by channel.

    Args:
        clips: The clips, on any device.
        device: Device of the result.
        statistics: Mean and standard deviation of each channel; an encoder has its own as
            `encoder.statistics`. Default: those of slic's encoders.
        dtype: Type of the result; default float32.

    Returns:
        Floats in channels-last memory format, as the input is.
    """
    values = clips.to(device, non_blocking=True).to(dtype)
    means, deviations = statistics
    mean = _filled(values, [255 * m for m in means])
    scale = _filled(values, [1 / (255 * d) for d in deviations])
    return ((values - mean) * scale).permute(0, 4, 1, 2, 3)


def _filled(like: Tensor, row: Sequence[float]) -> Tensor:
    """Make a tensor on the device of `like`; copying it there would wait for the device."""
    return torch.stack([like.new_full((), value) for value in row])
