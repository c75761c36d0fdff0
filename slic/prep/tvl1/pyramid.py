"""What the engines of TV-L1 on PyTorch devices share: scales of frames, and their result."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from slic.prep.tvl1.parameters import SMALLEST_SIDE, Tvl1Parameters


@dataclass(frozen=True)
class Solution:
    """Flow of B pairs, float32 `(B, H, W, 2)`, and how many pixel updates each took, `(B,)`."""

    flow: Tensor
    pixel_iterations: Tensor


def pyramid(frames: Tensor, parameters: Tvl1Parameters) -> list[Tensor]:
    """Gray frames `(F, H, W)` as float32 `(F, h, w)` of every scale, finest first."""
    images, step = [frames.float()], parameters.scale_step
    while len(images) < parameters.nscales:
        image = images[-1]
        size = [round(side * step) for side in image.shape[1:]]
        if min(size) < SMALLEST_SIDE:
            break
        if size != list(image.shape[1:]):  # else OpenCV copies
            image = _resize(_resize(image, step, axis=2), step, axis=1)
        images.append(image)
    return images


def _resize(images: Tensor, step: float, *, axis: int) -> Tensor:
    """Linear resize along an axis by exactly `step`, as OpenCV does it.

    PyTorch's own resize leaves an axis as it is where rounding keeps its size.
    """
    side = images.shape[axis]
    at = np.clip((np.arange(round(side * step)) + 0.5) / step - 0.5, 0, side - 1)
    low = torch.from_numpy(at.astype(np.int64)).to(images.device)
    weight = torch.from_numpy((at % 1).astype(np.float32)).to(images.device)
    larger = images.index_select(axis, (low + 1).clamp_(max=side - 1))
    return images.index_select(axis, low).lerp_(larger, weight if axis == 2 else weight[:, None])


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences across and down of `(F, H, W)`, edges repeated."""
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * 0.5
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * 0.5
    return across, down


def enlarge(flow: Tensor, height: int, width: int, factor: float) -> Tensor:
    """Flow `(A, B, h, w)` at the next finer scale, its vectors times `factor`."""
    size = (height, width)
    return functional.interpolate(flow, size, mode="bilinear", align_corners=False) * factor
