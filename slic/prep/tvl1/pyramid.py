"""Image pyramids and the result type of the TV-L1 engines on PyTorch devices."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from slic.prep.tvl1.parameters import SMALLEST_SIDE, Tvl1Parameters


@dataclass(frozen=True)
class Solution:
    """Flow of B pairs, float32 `(B, H, W, 2)`, and the number of pixel updates of each, `(B,)`."""

    flow: Tensor
    pixel_iterations: Tensor


def pyramid(frames: Tensor, parameters: Tvl1Parameters) -> list[Tensor]:
    """Return gray frames `(F, H, W)` as float32 `(F, h, w)` at every scale, finest first."""
    images, step = [frames.float()], parameters.scale_step
    while len(images) < parameters.nscales:
        image = images[-1]
        size = [round(side * step) for side in image.shape[1:]]
        if min(size) < SMALLEST_SIDE:
            break
        if size != list(image.shape[1:]):  # OpenCV copies an image that keeps its size
            image = _resize(_resize(image, step, axis=2), step, axis=1)
        images.append(image)
    return images


def _resize(images: Tensor, step: float, *, axis: int) -> Tensor:
    """Resize linearly along an axis by exactly `step`, as OpenCV does.

    PyTorch's resize does nothing along an axis whose rounded size stays the same.
    """
    side = images.shape[axis]
    at = np.clip((np.arange(round(side * step)) + 0.5) / step - 0.5, 0, side - 1)
    low = torch.from_numpy(at.astype(np.int64)).to(images.device)
    weight = torch.from_numpy((at % 1).astype(np.float32)).to(images.device)
    larger = images.index_select(axis, (low + 1).clamp_(max=side - 1))
    return images.index_select(axis, low).lerp_(larger, weight if axis == 2 else weight[:, None])


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return central differences of `(F, H, W)` along x and y, with replicated edges."""
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * 0.5
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * 0.5
    return across, down


def enlarge(flow: Tensor, height: int, width: int, factor: float) -> Tensor:
    """Resize flow `(A, B, h, w)` to the next finer scale, and multiply it by `factor`."""
    size = (height, width)
    return functional.interpolate(flow, size, mode="bilinear", align_corners=False) * factor
