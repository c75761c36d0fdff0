"""Bicubic warp and median filter of the PyTorch engine of TV-L1."""

import torch
from torch import Tensor
from torch.nn import functional

from slic.prep.tvl1.median_network import middle_of_13, over, sort3, sort5

PAD = 4  # zeros around a frame: a cubic kernel outside of it reads only zeros
_SHARPNESS = -0.75  # of the cubic kernel, as in OpenCV's remap
_MEDIANS_ON_CPU = 2**15  # at a time: caches are small

_sort3, _sort5, _middle_of_13 = (
    over(network, low=torch.minimum, high=torch.maximum) for network in (sort3, sort5, middle_of_13)
)


def warp(stack: Tensor, flow: Tensor) -> Tensor:
    """Sample a stack of padded planes bicubically, displaced by a flow: `(3, B, H, W)`.

    `grid_sample` has no bicubic mode on MPS, and rounds positions of whole pixels.
    """
    count, rows, columns = stack.shape[1:]
    height, width = flow.shape[2:]
    column, across = _aim(flow[0], torch.arange(width, device=flow.device))
    row, down = _aim(flow[1], torch.arange(height, device=flow.device)[:, None])
    start = torch.arange(0, count * rows * columns, rows * columns, device=flow.device)
    corner = (start.view(-1, 1, 1) + row * columns + column).flatten()
    planes, warped = stack.flatten(1), flow.new_zeros(3, len(corner))
    for y, weight_y in enumerate(down):
        for x, weight_x in enumerate(across):
            weight = (weight_y * weight_x).flatten()
            for plane, total in zip(planes, warped, strict=True):
                sample = plane[y * columns + x :].index_select(0, corner)
                total.addcmul_(sample, weight)
    return warped.view(3, *flow.shape[1:])


def _aim(shift: Tensor, origin: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the first of the four padded samples along an axis, and their cubic weights."""
    size = origin.numel()
    at = (origin + shift).clamp_(1 - PAD, size + 1).add_(PAD)
    cell = at.floor()
    t, a = at - cell, _SHARPNESS
    s, r = t + 1, 1 - t
    first = ((a * s - 5 * a) * s + 8 * a) * s - 4 * a
    second = ((a + 2) * t - (a + 3)) * t * t + 1
    third = ((a + 2) * r - (a + 3)) * r * r + 1
    # Clamped again, so that a flow that is NaN does not read outside.
    cells = (cell.long() - 1).clamp_(0, size + 2 * PAD - 4)
    return cells, (first, second, third, 1 - first - second - third)


def median_filter(planes: Tensor, size: int) -> Tensor:
    """Return the median of each window of 1, 3 or 5 pixels per side, of `(N, B, H, W)`."""
    if size == 1:
        return planes
    height = planes.shape[2]
    band = height
    if planes.device.type == "cpu":
        band = max(_MEDIANS_ON_CPU * height // planes.numel(), 1)
    padded = functional.pad(planes, (size // 2,) * 4, mode="replicate")
    bands = [padded[:, :, y : y + band + size - 1] for y in range(0, height, band)]
    return torch.cat([_medians(rows, size) for rows in bands], dim=2)


def _medians(padded: Tensor, size: int) -> Tensor:
    """Sort columns once for all windows that share them, then each rank across columns."""
    height, width = padded.shape[2] - size + 1, padded.shape[3] - size + 1
    sort = _sort3 if size == 3 else _sort5
    columns = sort(*(padded[:, :, y : y + height] for y in range(size)))
    ranks = [sort(*(rank[..., x : x + width] for x in range(size))) for rank in columns]
    if size == 3:
        (_, _, low), (_, middle, _), (high, _, _) = ranks
        return _sort3(low, middle, high)[1]
    (*_, a3, a4), (_, _, *b), (_, *c, _), (*d, _, _), (e0, e1, *_) = ranks
    return _middle_of_13(a3, a4, *b, *c, *d, e0, e1)
