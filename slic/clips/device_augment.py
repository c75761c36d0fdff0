"""Augmentation of batches on a device, so that few processor cores feed a large GPU.

Readers decode and `cut` the crops, in NumPy; `augment_cut` resizes, flips and recolours all clips
of a batch at once. The draws are those of `slic.clips.augmentation`, and so is what becomes of
them, but for rounding. All that depends on a draw is worked out on the host: the device is never
waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slic.cache.flow_levels import ZERO_LEVEL
from slic.clips.augmentation import Draw
from slic.clips.device_colours import recolour
from slic.clips.device_resample import (
    full_precision,
    resampled,
    resize_spans,
    span_weights,
    to_device,
    to_levels,
)
from slic.config import Components

# Channels of stored flow from which the components are made.
STORED: dict[Components, slice] = {"u": slice(0, 1), "v": slice(1, 2), "uv": slice(0, 2)}
# Half a level is common in a mean of levels. However the sum's last bits came out, it goes up
# where OpenCV averages, and down where it interpolates.
HALVES = 2.0**-9


@dataclass(frozen=True)
class CutClips:
    """Crops of N = F + G clips, padded to common sizes, and what is still to be done to them.

    Attributes:
        frames: `(F, T, H, W, 3)` uint8; each crop lies at the top left, zeros beyond it.
        flow: `(G, T, H', W', 2)` uint8, quantised; likewise.
        frame_draws, flow_draws: of each.
        frame_places, flow_places: of each among the N.
    """

    frames: Tensor
    flow: Tensor
    frame_draws: tuple[Draw, ...]
    flow_draws: tuple[Draw, ...]
    frame_places: tuple[int, ...]
    flow_places: tuple[int, ...]

    def pin_memory(self) -> "CutClips":
        """The same in page-locked memory; a DataLoader with `pin_memory` calls this."""
        return replace(self, frames=self.frames.pin_memory(), flow=self.flow.pin_memory())


def cut(clips: Sequence[NDArray[np.uint8]], draws: Sequence[Draw]) -> CutClips:
    """Cut the crop out of each clip.

    Args:
        clips: frames `(T, H, W, 3)` and quantised flow `(T, H, W, 2)`, in any mixture; H and W
            are each clip's own, T is common.
        draws: one for each clip.
    """
    frames = [i for i, clip in enumerate(clips) if clip.shape[-1] == 3]
    flow = [i for i, clip in enumerate(clips) if clip.shape[-1] != 3]
    crops = [
        clip[:, how.top : how.top + how.height, how.left : how.left + how.width]
        for clip, how in zip(clips, draws, strict=True)
    ]
    return CutClips(
        _padded([crops[i] for i in frames], channels=3),
        _padded([crops[i] for i in flow], channels=2),
        tuple(draws[i] for i in frames),
        tuple(draws[i] for i in flow),
        tuple(frames),
        tuple(flow),
    )


def augment_cut(
    cut: CutClips, *, size: int, components: Components, device: torch.device
) -> Tensor:
    """Do on a device what `augment_frames` and `augment_flow` do on the processor.

    Each operation's result is theirs within a level (hue: within OpenCV's own steps of 6). A
    draw's operations together stretch that: a quarter of a level on average, 12 at most, as
    measured. TF32 products keep it: they round weights to 2^-11, as OpenCV's own do.

    Args:
        cut: what the readers cut; at least one clip.
        size: side in pixels.
        components: what a view of flow shows.
        device: where to compute.

    Returns:
        `(N, T, size, size, 3)` uint8 on `device`, in the order given to `cut`.
    """
    groups = []
    with full_precision(device):
        if cut.frame_draws:
            levels = _resized(cut.frames.to(device, non_blocking=True), cut.frame_draws, size)
            recolour(levels, cut.frame_draws)
            groups.append(_bytes(levels))
        if cut.flow_draws:
            flow = cut.flow.to(device, non_blocking=True)[..., STORED[components]]
            levels = _resized(flow, cut.flow_draws, size)
            groups.append(_bytes(_shown(levels, cut.flow_draws, components)))
    order = np.argsort(cut.frame_places + cut.flow_places)
    return torch.cat(groups).index_select(0, to_device(order, device))


def _padded(crops: Sequence[NDArray[np.uint8]], *, channels: int) -> Tensor:
    shapes = np.array([crop.shape for crop in crops] or [(0, 0, 0, channels)])
    out = np.zeros((len(crops), *shapes.max(axis=0)), dtype=np.uint8)
    for target, crop in zip(out, crops, strict=True):
        target[:, : crop.shape[1], : crop.shape[2]] = crop
    return torch.from_numpy(out)


def _resized(clips: Tensor, draws: Sequence[Draw], size: int) -> Tensor:
    """Resize and flip padded crops `(N, T, H, W, C)`; give levels `(N, size, T, C, size)`."""
    count, frames, height, width, channels = clips.shape
    planar = clips.permute(0, 2, 1, 4, 3).to(torch.float32, memory_format=torch.contiguous_format)
    sides = np.array([(how.height, how.width) for how in draws])
    areas = sides.min(axis=1) > size
    rows, columns = (resize_spans(lengths, size, areas=areas) for lengths in sides.T)
    flips = np.array([how.flip for how in draws])
    columns[flips] = columns[flips, ::-1]
    levels = resampled(
        planar.flatten(2, 3),
        span_weights(to_device(rows, clips.device), height),
        span_weights(to_device(columns, clips.device), width),
    )
    halves = np.where(areas, HALVES, -HALVES).astype(np.float32).reshape(-1, 1, 1, 1)
    levels = to_levels(levels.add_(to_device(halves, clips.device)))
    return levels.reshape(count, size, frames, channels, size)


def _shown(levels: Tensor, draws: Sequence[Draw], components: Components) -> Tensor:
    """Three channels of flow whose channels are `components`; a flip negates u."""
    planes = dict(zip(components, levels.split(1, dim=3), strict=True))
    if "u" in planes:
        flips = to_device(np.array([how.flip for how in draws]), levels.device)
        # Level 0 is unused, and counts as 1.
        negated = 256 - planes["u"].clamp(min=1)
        planes["u"] = torch.where(flips.reshape(-1, 1, 1, 1, 1), negated, planes["u"])
    if components == "uv":
        still = torch.full_like(planes["u"], ZERO_LEVEL)
        return torch.cat((planes["u"], planes["v"], still), dim=3)
    return planes[components].expand(-1, -1, -1, 3, -1)


def _bytes(levels: Tensor) -> Tensor:
    """Levels `(N, size, T, 3, size)` as clips `(N, T, size, size, 3)` uint8."""
    clips = levels.permute(0, 2, 1, 4, 3)
    return clips.to(torch.uint8, memory_format=torch.contiguous_format)
