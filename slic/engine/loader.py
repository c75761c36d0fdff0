"""SLIC's samples: read and augmented by the readers, or cut by them and augmented on a device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slic.cache import ClipStore
from slic.clips.augmentation import Draw, augment_flow, augment_frames, draw
from slic.clips.device_augment import CutClips, augment_cut, cut
from slic.clips.reading import ReaderPool
from slic.clips.seeding import even_batches
from slic.config import Settings
from slic.train.sampling import Sample

READ_AT_ONCE = 8  # samples a job: a batch is shared among readers, which hold two jobs' each
VIEWS = 3


@dataclass(frozen=True)
class SampleClips:
    """Reads some samples: anchors, then positives, then second views.

    Called with a store, it gives `(3 * n, T, size, size, 3)` uint8, or, for the device to
    augment, crops.

    Attributes:
        samples: n of them.
        settings: of the run.
        cut: read crops.
    """

    samples: tuple[Sample, ...]
    settings: Settings
    cut: bool

    def __call__(self, store: ClipStore) -> Tensor | CutClips:
        samples = [read_views(store, sample, settings=self.settings) for sample in self.samples]
        views = [sample[i] for i in range(VIEWS) for sample in samples]
        if self.cut:
            return cut([clip for clip, _ in views], [how for _, how in views])
        return torch.from_numpy(np.stack([_augmented(*view, self.settings) for view in views]))


def read_views(
    store: ClipStore, sample: Sample, *, settings: Settings
) -> list[tuple[NDArray[np.uint8], Draw]]:
    """Anchor, positive and second view as stored, `(T, H, W, 3)` or flow's `(T, H, W, 2)`.

    The draw of each depends on the sample's seed alone.
    """
    rng = np.random.default_rng(sample.seed)

    def clip(video: str, start: int, flow: bool) -> NDArray[np.uint8]:
        count, stride = settings.frames, settings.stride
        return store.read(video, start, count, stride=stride, view="flow" if flow else "frames")

    anchor = clip(sample.anchor, sample.start, False)
    positive = clip(sample.positive, sample.positive_start, sample.positive_flow)
    second = clip(sample.anchor, sample.start, True) if sample.second_flow else anchor
    views = (anchor, positive, second)
    return [(v, draw(v.shape[1], v.shape[2], rng, settings=settings)) for v in views]


def _augmented(clip: NDArray[np.uint8], how: Draw, settings: Settings) -> NDArray[np.uint8]:
    if clip.shape[-1] == 2:
        return augment_flow(clip, how, settings.size, components=settings.components)
    return augment_frames(clip, how, settings.size)


class SampleLoader:
    """Batches of samples, each read by several readers at once.

    Args:
        readers: of the store.
        settings: of the run.
        augment_on_device: let the readers only cut the crops.
    """

    def __init__(
        self, readers: ReaderPool, settings: Settings, *, augment_on_device: bool = False
    ) -> None:
        self.readers, self.settings, self.cut = readers, settings, augment_on_device

    def batches(self, plan: Sequence[Sequence[Sample]]) -> Iterator[list[Tensor] | list[CutClips]]:
        """Read planned batches, in order: the parts of each, as the readers give them."""
        shared = [even_batches(batch, READ_AT_ONCE) for batch in plan]
        jobs = (SampleClips(tuple(p), self.settings, self.cut) for parts in shared for p in parts)
        results = self.readers.results(jobs)
        for parts in shared:
            yield [next(results) for _ in parts]  # type: ignore[misc]

    def on_device(self, parts: Sequence[Tensor | CutClips], device: torch.device) -> Tensor:
        """A batch on the device, augmented: `(3, B, T, size, size, 3)` uint8."""
        clips = [self._clips(part, device).unflatten(0, (VIEWS, -1)) for part in parts]
        return clips[0] if len(clips) == 1 else torch.cat(clips, dim=1)

    def _clips(self, part: Tensor | CutClips, device: torch.device) -> Tensor:
        if isinstance(part, Tensor):
            return part.to(device, non_blocking=True)
        s = self.settings
        return augment_cut(part, size=s.size, components=s.components, device=device)
