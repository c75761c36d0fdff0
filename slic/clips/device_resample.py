"""Resampling of batches on a device, with weights per image.

Resizing and blurring are separable and linear: a matrix product along the columns, and one along
the rows. Batches are float32 `(N, H, M, W)`, where M holds what shares a clip's weights (frames
and channels), so that both products are large and nothing is transposed between them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """Copy host values to a device without waiting for it."""
    return torch.from_numpy(values).to(device, non_blocking=True)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Disable autocast, which would compute products in half precision."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def to_levels(images: Tensor) -> Tensor:
    """Round and clamp to 0..255 as uint8 arithmetic does, but keep float32."""
    return images.round().clamp_(0, 255)


def resize_spans(
    lengths: NDArray[np.int64], size: int, *, areas: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Compute the span of source pixels whose mean is each pixel of a resized line.

    Args:
        lengths: `(N,)` lengths of the lines in pixels.
        size: Length of all resized lines.
        areas: `(N,)`: resize as `cv2.INTER_AREA`, whose spans divide the line; else as
            `cv2.INTER_LINEAR`, whose spans are one pixel long and lie within the line.

    Returns:
        `(N, size, 2)` starts and ends of the spans; pixel i extends from i to i + 1.
    """
    length, area = lengths[:, None], areas[:, None]
    step = length / size
    centres = (np.arange(size) + 0.5) * step
    low = np.where(area, centres - step / 2, np.clip(centres - 0.5, 0, length - 1))
    return np.stack((low, low + np.where(area, step, 1)), axis=-1).astype(np.float32)


def span_weights(spans: Tensor, length: int) -> Tensor:
    """Compute `(N, size, length)` weights of pixels in the means over `(N, size, 2)` spans."""
    low, high = spans.unsqueeze(-2).unbind(-1)
    pixels = torch.arange(length, dtype=torch.float32, device=spans.device)
    overlap = torch.minimum(high, pixels + 1) - torch.maximum(low, pixels)
    return overlap.clamp_(min=0) / (high - low)


def filter_weights(kernels: Sequence[NDArray[Any]], size: int, device: torch.device) -> Tensor:
    """Compute `(N, size, size)` weights of N filters of one odd length.

    The border is mirrored as by OpenCV and torchvision, `dcb|abcd|cba`; a kernel may be longer
    than the line.
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
        rows: `(N, H', H)` weights.
        columns: `(N, W', W)` weights.

    Returns:
        `(N, H', M, W')` float32.
    """
    count, height, middle, width = images.shape
    images = torch.bmm(rows, images.reshape(count, height, middle * width))
    images = torch.bmm(images.reshape(count, -1, width), columns.mT)
    return images.reshape(count, rows.shape[1], middle, columns.shape[1])
