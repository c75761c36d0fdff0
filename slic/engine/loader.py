"""Load batches of samples: several processes read them, and the device gets them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from slic.clips.device_augment import CutClips, augment_cut
from slic.clips.reading import ReaderPool
from slic.clips.samples import Sample, SampleClips
from slic.clips.seeding import even_batches
from slic.config import Settings

SAMPLES_PER_JOB = 8  # readers share a batch; each holds two jobs' results


class SampleLoader:
    """Loads batches of samples; several readers share each batch.

    Args:
        readers: reader processes of the store.
        settings: settings of the run: shape of a clip, augmentation.
        clips: V, number of clips of each sample.
        augment_on_device: let the readers only cut the crops.
    """

    def __init__(
        self,
        readers: ReaderPool,
        settings: Settings,
        *,
        clips: int,
        augment_on_device: bool = False,
    ) -> None:
        self.readers, self.settings, self.clips = readers, settings, clips
        self.cut = augment_on_device

    def batches(self, plan: Sequence[Sequence[Sample]]) -> Iterator[list[Tensor] | list[CutClips]]:
        """Read planned batches in order; each is a list of parts, as the readers return them."""
        batches = [even_batches(batch, SAMPLES_PER_JOB) for batch in plan]
        jobs = (SampleClips(tuple(p), self.settings, self.cut) for parts in batches for p in parts)
        results = self.readers.results(jobs)
        for parts in batches:
            yield [next(results) for _ in parts]  # type: ignore[misc]

    def on_device(self, parts: Sequence[Tensor | CutClips], device: torch.device) -> Tensor:
        """Return a batch on the device, augmented: `(V, B, T, size, size, 3)` uint8."""
        clips = [self._clips(part, device).unflatten(0, (self.clips, -1)) for part in parts]
        return clips[0] if len(clips) == 1 else torch.cat(clips, dim=1)

    def _clips(self, part: Tensor | CutClips, device: torch.device) -> Tensor:
        if isinstance(part, Tensor):
            return part.to(device, non_blocking=True)
        s = self.settings
        return augment_cut(part, size=s.size, components=s.components, device=device)
