"""Augmentation of batches on a GPU, for machines with few processor cores for their GPU.

Readers only decode and `cut` the crops, in NumPy; `augment_cut` resizes, flips and recolours all
clips of a batch at once. Parameters are drawn by `slic.clips.augmentation`, and results equal its
own but for rounding. What depends on the parameters is computed on the host, so that nothing waits
for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from slic.cache.flow_levels import ZERO_LEVEL
from slic.clips.augmentation import Augmentation
from slic.clips.device_colours import recolour
from slic.clips.device_resample import (
    full_precision,
    resampled,
    resize_spans,
    span_weights,
    to_device,
    to_levels,
)
from slic.clips.pixels import Pixels
from slic.config import Components

# Channels of stored flow that the components need.
STORED: dict[Components, slice] = {"u": slice(0, 1), "v": slice(1, 2), "uv": slice(0, 2)}
# Means of levels are often exactly half a level. OpenCV rounds these up where it averages and down
# where it interpolates; this offset, larger than the sums' rounding errors, does the same.
HALVES = 2.0**-9


@dataclass(frozen=True)
class CutClips:
    """Crops of N = F + G clips, padded to common sizes, and the rest of their augmentation.

    Attributes:
        frames: `(F, T, H, W, 3)` uint8, each crop at the top left, and zeros beyond it.
        flow: `(G, T, H', W', 2)` uint8, quantised and padded in the same way.
        params: Augmentations of the F, then of the G clips.
        places: Positions of the F, then of the G clips among the N.
    """

    frames: Tensor
    flow: Tensor
    params: tuple[Augmentation, ...]
    places: tuple[int, ...]

    def pin_memory(self) -> "CutClips":
        """Copy to page-locked memory; called by a DataLoader with `pin_memory`."""
        return replace(self, frames=self.frames.pin_memory(), flow=self.flow.pin_memory())


def cut(clips: Sequence[Pixels], params: Sequence[Augmentation]) -> CutClips:
    """Cut the crop out of each clip.

    Args:
        clips: N arrays of frames `(T, H, W, 3)` or quantised flow `(T, H, W, 2)`, with a common T.
        params: N augmentations.
    """
    places = sorted(range(len(clips)), key=lambda i: clips[i].shape[-1] != 3)  # frames first
    crops = []
    for i in places:
        top, left, height, width = params[i].crop
        crops.append(clips[i][:, top : top + height, left : left + width])
    count = sum(clip.shape[-1] == 3 for clip in clips)
    return CutClips(
        _padded(crops[:count], channels=3),
        _padded(crops[count:], channels=2),
        tuple(params[i] for i in places),
        tuple(places),
    )


def augment_cut(
    cut: CutClips, *, size: int, components: Components, device: torch.device
) -> Tensor:
    """Augment on a device as `augment_frames` and `augment_flow` do on the processor.

    Each operation differs from theirs by at most one level (hue: OpenCV's own steps of 6); a whole
    augmentation differed by a quarter of a level on average and 12 at most, as measured. TF32
    products suffice: they round weights to 2^-11, as OpenCV does.

    Args:
        cut: Crops of N clips, at least one.
        size: Side of the result in pixels.
        components: What views of flow show.
        device: The device to compute on.

    Returns:
        `(N, T, size, size, 3)` uint8 on `device`, in the order given to `cut`.
    """
    groups, count = [], len(cut.frames)
    with full_precision(device):
        if count:
            params = cut.params[:count]
            levels = _resized(cut.frames.to(device, non_blocking=True), params, size)
            recolour(levels, params)
            groups.append(_bytes(levels))
        if len(cut.flow):
            params = cut.params[count:]
            flow = cut.flow.to(device, non_blocking=True)[..., STORED[components]]
            levels = _resized(flow, params, size)
            groups.append(_bytes(_three_channels(levels, params, components)))
    return torch.cat(groups).index_select(0, to_device(np.argsort(cut.places), device))


def _padded(crops: Sequence[Pixels], *, channels: int) -> Tensor:
    shapes = np.array([crop.shape for crop in crops] or [(0, 0, 0, channels)])
    out = np.zeros((len(crops), *shapes.max(axis=0)), dtype=np.uint8)
    for target, crop in zip(out, crops, strict=True):
        target[:, : crop.shape[1], : crop.shape[2]] = crop
    return torch.from_numpy(out)


def _resized(clips: Tensor, params: Sequence[Augmentation], size: int) -> Tensor:
    """Resize and flip padded crops `(N, T, H, W, C)`; return levels `(N, size, T, C, size)`."""
    count, frames, height, width, channels = clips.shape
    planar = clips.permute(0, 2, 1, 4, 3).to(torch.float32, memory_format=torch.contiguous_format)
    sides = np.array([(each.height, each.width) for each in params])
    areas = sides.min(axis=1) > size
    rows, columns = (resize_spans(lengths, size, areas=areas) for lengths in sides.T)
    flips = np.array([each.flip for each in params])
    columns[flips] = columns[flips, ::-1]
    levels = resampled(
        planar.flatten(2, 3),
        span_weights(to_device(rows, clips.device), height),
        span_weights(to_device(columns, clips.device), width),
    )
    halves = np.where(areas, HALVES, -HALVES).astype(np.float32).reshape(-1, 1, 1, 1)
    levels = to_levels(levels.add_(to_device(halves, clips.device)))
    return levels.reshape(count, size, frames, channels, size)


def _three_channels(
    levels: Tensor, params: Sequence[Augmentation], components: Components
) -> Tensor:
    """Make three channels of flow from its `components`; a flip negates u."""
    planes = dict(zip(components, levels.split(1, dim=3), strict=True))
    if "u" in planes:
        flips = to_device(np.array([each.flip for each in params]), levels.device)
        # The unused level 0 counts as 1.
        negated = 256 - planes["u"].clamp(min=1)
        planes["u"] = torch.where(flips.reshape(-1, 1, 1, 1, 1), negated, planes["u"])
    if components == "uv":
        still = torch.full_like(planes["u"], ZERO_LEVEL)
        return torch.cat((planes["u"], planes["v"], still), dim=3)
    return planes[components].expand(-1, -1, -1, 3, -1)


def _bytes(levels: Tensor) -> Tensor:
    """Convert levels `(N, size, T, 3, size)` to clips `(N, T, size, size, 3)` uint8."""
    clips = levels.permute(0, 2, 1, 4, 3)
    return clips.to(torch.uint8, memory_format=torch.contiguous_format)
