"""SLIC's samples: read, augmented, and put into batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from slic.cache import ClipStore
from slic.config import Settings
from slic.embed import worker_errors
from slic.processes import loader_context, one_thread
from slic.train.augment import augment_flow, augment_frames, draw
from slic.train.sampling import Sample


class SampleReader:
    """Reads and augments samples; runs in the loader's workers.

    Args:
        store: where the clips are.
        settings: of the run.
    """

    def __init__(self, store: ClipStore, settings: Settings) -> None:
        self.store = store
        self.settings = settings

    def read(self, sample: Sample) -> NDArray[np.uint8]:
        """Anchor, positive and second view of a sample: `(3, T, size, size, 3)` uint8."""
        rng = np.random.default_rng(sample.seed)
        anchor = (sample.anchor, sample.start)
        positive = (sample.positive, sample.positive_start)
        frames = self._clip(*anchor, flow=False)
        size = self.settings.size
        first = self._augmented(frames, False, rng, size)
        other = self._clip(*positive, flow=sample.positive_flow)
        second = self._clip(*anchor, flow=True) if sample.second_flow else frames
        return np.stack(
            [
                first,
                self._augmented(other, sample.positive_flow, rng, size),
                self._augmented(second, sample.second_flow, rng, size),
            ]
        )

    def _clip(self, video: str, start: int, *, flow: bool) -> NDArray[np.uint8]:
        s = self.settings
        view = "flow" if flow else "frames"
        return self.store.read(video, start, s.frames, stride=s.stride, view=view)  # type: ignore[arg-type]

    def _augmented(
        self, clip: NDArray[np.uint8], flow: bool, rng: np.random.Generator, size: int
    ) -> NDArray[np.uint8]:
        how = draw(clip.shape[1], clip.shape[2], rng, settings=self.settings)
        if flow:
            return augment_flow(clip, how, size, components=self.settings.components)
        return augment_frames(clip, how, size)


class _Samples(Dataset):
    """A data set whose keys are the samples themselves, so that workers outlive an epoch."""

    def __init__(self, reader: SampleReader) -> None:
        self.reader = reader

    def __getitem__(self, sample: Sample) -> NDArray[np.uint8]:
        return self.reader.read(sample)


def _stack(clips: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(clips, axis=1))


class _Plan:
    """The batch sampler: whatever batches are planned for the epoch at hand."""

    def __init__(self) -> None:
        self.batches: Sequence[Sequence[Sample]] = ()

    def __iter__(self) -> Iterator[Sequence[Sample]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class SampleLoader:
    """Batches of samples, read by worker processes that persist over epochs.

    Args:
        store: where the clips are.
        settings: of the run.
        workers: processes; 0 reads in this one.
        pin: page-lock batches for a GPU.
    """

    def __init__(
        self, store: ClipStore, settings: Settings, *, workers: int, pin: bool = False
    ) -> None:
        self._plan = _Plan()
        self._loader = DataLoader(
            _Samples(SampleReader(store, settings)),
            batch_sampler=self._plan,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_stack,
            pin_memory=pin,
            persistent_workers=workers > 0,
            multiprocessing_context=loader_context() if workers else None,
            worker_init_fn=one_thread,
        )

    def batches(self, plan: Sequence[Sequence[Sample]]) -> Iterator[Tensor]:
        """Read planned batches, in order: each `(3, B, T, size, size, 3)` uint8."""
        self._plan.batches = plan
        with worker_errors():
            yield from self._loader
