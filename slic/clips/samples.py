"""Samples of clips: read from a store and augmented, or only cropped for a GPU to augment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from slic.cache import ClipStore, View
from slic.clips.augmentation import Augmentation, augment_flow, augment_frames, draw_augmentation
from slic.clips.device_augment import CutClips, cut
from slic.clips.pixels import Pixels
from slic.config import Settings


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of a video, or the flow between them.

    Attributes:
        video: Id of the video.
        start: First frame.
        flow: Optical flow instead of RGB.
    """

    video: str
    start: int
    flow: bool = False


class Sample(Protocol):
    """Clips that are read together and augmented one after the other from one seed."""

    @property
    def clips(self) -> tuple[Clip, ...]: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class SampleClips:
    """A job of the readers: the V clips of each of n samples, first clips first.

    Called with a store, it returns `(V * n, T, size, size, 3)` uint8, or with `cut` their crops.

    Attributes:
        samples: The n samples.
        settings: Settings of the run, for the clips' shape and augmentation.
        cut: Only crop, for a GPU to do the rest of the augmentation.
    """

    samples: tuple[Sample, ...]
    settings: Settings
    cut: bool

    def __call__(self, store: ClipStore) -> Tensor | CutClips:
        samples = [read_clips(store, sample, settings=self.settings) for sample in self.samples]
        clips = [clip for same in zip(*samples, strict=True) for clip in same]
        if self.cut:
            return cut([pixels for pixels, _ in clips], [params for _, params in clips])
        views = [_augmented(pixels, params, self.settings) for pixels, params in clips]
        return torch.from_numpy(np.stack(views))


def read_clips(
    store: ClipStore, sample: Sample, *, settings: Settings
) -> Sequence[tuple[Pixels, Augmentation]]:
    """Read a sample's clips, and draw their augmentations from its seed.

    Clips are `(T, H, W, 3)` frames, or `(T, H, W, 2)` quantised flow. A clip that occurs twice is
    read once.
    """
    rng = np.random.default_rng(sample.seed)
    read: dict[Clip, Pixels] = {}
    views = []
    for clip in sample.clips:
        if clip not in read:
            view: View = "flow" if clip.flow else "frames"
            frames, stride = settings.frames, settings.stride
            read[clip] = store.read(clip.video, clip.start, frames, stride=stride, view=view)
        height, width = read[clip].shape[1:3]
        views.append((read[clip], draw_augmentation(height, width, rng, settings=settings)))
    return views


def _augmented(clip: Pixels, params: Augmentation, settings: Settings) -> Pixels:
    if clip.shape[-1] == 2:
        return augment_flow(clip, params, settings.size, components=settings.components)
    return augment_frames(clip, params, settings.size)
