"""Colour jitter, grayscale and blur of batches of clips on a device, with parameters per clip.

Batches are planar: float32 levels from 0 to 255, `(N, H, T, 3, W)`. The result of every operation
is rounded and clamped to integer levels, as uint8 arithmetic does, so that differences from the
CPU's augmentation do not accumulate.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from slic.clips.augmentation import JITTER, LUMA, Augmentation, blur_kernel
from slic.clips.device_resample import filter_weights, resampled, to_device, to_levels

Operation = Callable[[Tensor, Sequence[float]], Tensor]


def recolour(clips: Tensor, params: Sequence[Augmentation]) -> None:
    """Apply colour jitter, each clip's in its own order, then grayscale and blur, in place.

    Args:
        clips: `(N, size, T, 3, size)` float32 levels.
        params: N augmentations; their crops and flips are ignored.
    """
    for position in range(len(JITTER)):
        steps = {i: p.jitter[position] for i, p in enumerate(params) if position < len(p.jitter)}
        for name, operation in OPERATIONS.items():
            amounts = {i: amount for i, (step, amount) in steps.items() if step == name}
            _apply(clips, amounts, operation)
    _apply(clips, {i: 1.0 for i, each in enumerate(params) if each.gray}, _gray)
    _apply(clips, {i: each.sigma for i, each in enumerate(params) if each.sigma}, _blur)


def _apply(clips: Tensor, amounts: dict[int, float], operation: Operation) -> None:
    """Apply an operation to the clips whose index has an amount."""
    if amounts:
        which = to_device(np.array(list(amounts)), clips.device)
        changed = operation(clips.index_select(0, which), list(amounts.values()))
        clips.index_copy_(0, which, to_levels(changed))


def _each(amounts: Sequence[float], clips: Tensor) -> Tensor:
    return to_device(np.array(amounts, dtype=np.float32), clips.device).reshape(-1, 1, 1, 1, 1)


def _luma(clips: Tensor) -> Tensor:
    red, green, blue = clips.split(1, dim=3)
    of_red, of_green, of_blue = LUMA.tolist()
    return of_red * red + of_green * green + of_blue * blue


def _brightness(clips: Tensor, factors: Sequence[float]) -> Tensor:
    return clips * _each(factors, clips)


def _contrast(clips: Tensor, factors: Sequence[float]) -> Tensor:
    factor = _each(factors, clips)
    return factor * clips + (1 - factor) * _luma(clips).mean(dim=(1, 4), keepdim=True)


def _saturation(clips: Tensor, factors: Sequence[float]) -> Tensor:
    factor = _each(factors, clips)
    return factor * clips + (1 - factor) * _luma(clips)


def _hue(clips: Tensor, turns: Sequence[float]) -> Tensor:
    red, green, blue = clips.split(1, dim=3)
    most, least = clips.amax(dim=3, keepdim=True), clips.amin(dim=3, keepdim=True)
    chroma = most - least
    # In sixths of a turn; a grey pixel's hue has no effect.
    hue = torch.where(
        most == red,
        green - blue,
        torch.where(most == green, blue - red + 2 * chroma, red - green + 4 * chroma),
    ) / chroma.clamp(min=1)
    # Each channel is the same trapezoid function of the hue, shifted by a third of a turn.
    phases = torch.stack([hue + 6 * _each(turns, clips) + start for start in (5, 3, 1)])
    phases = phases.remainder_(6)
    fall = torch.minimum(phases, 4 - phases).clamp_(0, 1)
    return torch.cat([most - chroma * part for part in fall], dim=3)


def _gray(clips: Tensor, _: Sequence[float]) -> Tensor:
    return _luma(clips).expand_as(clips)


def _blur(clips: Tensor, sigmas: Sequence[float]) -> Tensor:
    size = clips.shape[1]
    kernels = [blur_kernel(sigma, size)[:, 0] for sigma in sigmas]
    weights = filter_weights(kernels, size, clips.device)
    return resampled(clips.flatten(2, 3), weights, weights).reshape(clips.shape)


OPERATIONS: dict[str, Operation] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
