"""Samples of clips: read from a store and augmented, or cut for a device to augment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slic.cache import ClipStore, View
from slic.clips.augmentation import Draw, augment_flow, augment_frames, draw
from slic.clips.device_augment import CutClips, cut
from slic.config import Settings


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of a video, or the flow between them.

    Attributes:
        video, start: id, and first frame.
        flow: optical flow rather than RGB.
    """

    video: str
    start: int
    flow: bool = False


class Sample(Protocol):
    """Clips that are read together, and augmented one after the other by one seed."""

    @property
    def clips(self) -> tuple[Clip, ...]: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class SampleClips:
    """Reads n samples of V clips each: all first clips, then all second ones, and so on.

    Called with a store, it gives `(V * n, T, size, size, 3)` uint8, or, for the device to augment,
    crops.

    Attributes:
        samples: n of them.
        settings: of the run: shape of a clip, augmentation.
        cut: read crops.
    """

    samples: tuple[Sample, ...]
    settings: Settings
    cut: bool

    def __call__(self, store: ClipStore) -> Tensor | CutClips:
        samples = [read_clips(store, sample, settings=self.settings) for sample in self.samples]
        clips = [clip for same in zip(*samples, strict=True) for clip in same]
        if self.cut:
            return cut([pixels for pixels, _ in clips], [how for _, how in clips])
        views = [_augmented(pixels, how, self.settings) for pixels, how in clips]
        return torch.from_numpy(np.stack(views))


def read_clips(
    store: ClipStore, sample: Sample, *, settings: Settings
) -> Sequence[tuple[NDArray[np.uint8], Draw]]:
    """The clips of a sample as stored, `(T, H, W, 3)` or flow's `(T, H, W, 2)`, and their draws.

    The draw of each depends on the sample's seed alone. The same clip twice is read once.
    """
    rng = np.random.default_rng(sample.seed)
    read: dict[Clip, NDArray[np.uint8]] = {}
    views = []
    for clip in sample.clips:
        if clip not in read:
            view: View = "flow" if clip.flow else "frames"
            read[clip] = store.read(
                clip.video, clip.start, settings.frames, stride=settings.stride, view=view
            )
        height, width = read[clip].shape[1:3]
        views.append((read[clip], draw(height, width, rng, settings=settings)))
    return views


def _augmented(clip: NDArray[np.uint8], how: Draw, settings: Settings) -> NDArray[np.uint8]:
    if clip.shape[-1] == 2:
        return augment_flow(clip, how, settings.size, components=settings.components)
    return augment_frames(clip, how, settings.size)
