"""Resampling of batches on a device, each image by weights of its own.

Resizing and blurring are separable and linear: a product with a matrix along the columns, and
one along the rows. Batches are float32 `(N, H, M, W)`, where M is whatever shares a clip's
weights (frames and channels); so both products are large, and nothing is transposed between.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """Send what was worked out on the host, without waiting for the device."""
    return torch.from_numpy(values).to(device, non_blocking=True)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Context in which autocast, which would halve the precision of products, is off."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def to_levels(images: Tensor) -> Tensor:
    """The levels that uint8 arithmetic would leave, still as float32."""
    return images.round().clamp_(0, 255)


def resize_spans(
    lengths: NDArray[np.int64], size: int, *, areas: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The stretch of a line of pixels whose mean is each pixel of the resized line.

    Args:
        lengths: `(N,)`, of each line, pixels.
        size: of all lines afterwards.
        areas: `(N,)`: resize as `cv2.INTER_AREA`, which shares the line out; else as
            `cv2.INTER_LINEAR`, whose stretches are one pixel long and lie within the line.

    Returns:
        `(N, size, 2)`: where each stretch begins and ends; pixel i lies from i to i + 1.
    """
    length, area = lengths[:, None], areas[:, None]
    step = length / size
    centres = (np.arange(size) + 0.5) * step
    low = np.where(area, centres - step / 2, np.clip(centres - 0.5, 0, length - 1))
    return np.stack((low, low + np.where(area, step, 1)), axis=-1).astype(np.float32)


def span_weights(spans: Tensor, length: int) -> Tensor:
    """Weights `(N, size, length)` of a line's pixels in the means over `(N, size, 2)` spans."""
    low, high = spans.unsqueeze(-2).unbind(-1)
    pixels = torch.arange(length, dtype=torch.float32, device=spans.device)
    overlap = torch.minimum(high, pixels + 1) - torch.maximum(low, pixels)
    return overlap.clamp_(min=0) / (high - low)


def filter_weights(kernels: Sequence[NDArray[Any]], size: int, device: torch.device) -> Tensor:
    """Weights `(N, size, size)` of filters of one odd length, mirrored at the border.

    The border is OpenCV's and torchvision's own, `dcb|abcd|cba`; a kernel may be longer than the
    line.
    """
    taps = to_device(np.stack(kernels).astype(np.float32), device)
    count, length = taps.shape
    line = np.pad(np.arange(size), length // 2, mode="reflect")
    sources = to_device(np.lib.stride_tricks.sliding_window_view(line, length).copy(), device)
    weights = torch.zeros((count, size, size), device=device)
    return weights.scatter_add_(
        2, sources.expand(count, -1, -1), taps.unsqueeze(1).expand(-1, size, -1)
    )


def resampled(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply weights to the rows and the columns of a batch.

    Args:
        images: `(N, H, M, W)` float32.
        rows: `(N, H', H)`.
        columns: `(N, W', W)`.

    Returns:
        `(N, H', M, W')` float32.
    """
    count, height, middle, width = images.shape
    images = torch.bmm(rows, images.reshape(count, height, middle * width))
    images = torch.bmm(images.reshape(count, -1, width), columns.mT)
    return images.reshape(count, rows.shape[1], middle, columns.shape[1])
