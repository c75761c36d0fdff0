"""Data sets over a clip store: SLIC's samples, and plain clips for other training loops."""

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from slic.cache import ClipStore
from slic.clips import as_tensor, centre_view, clip_span, even_starts
from slic.config import Settings
from slic.embed import worker_errors
from slic.errors import StoreError
from slic.processes import loader_context, one_thread
from slic.train.augment import augment_flow, augment_frames, draw
from slic.train.sampling import Sample, anywhere, seeded


class ClipDataset(Dataset):
    """One clip of each video of a store, for people with their own training loop.

    `dataset[i]` is a dict of `clip`, a uint8 tensor `(T, size, size, 3)`, `id` and `label`
    (empty where the video has none, so that batches collate). The clip is the centre one,
    resized and centre-cropped; call `set_epoch` for random clips instead, which depend on
    (seed, epoch, id) alone.

    Args:
        store: a store or its path.
        ids: videos, all by default.
        frames, stride: of a clip.
        size: side in pixels.
        seed: of the random clips.

    Raises:
        StoreError: no store, or it lacks one of the ids.
    """

    def __init__(
        self,
        store: ClipStore | str | os.PathLike[str],
        ids: Iterable[str] | None = None,
        *,
        frames: int = 16,
        stride: int = 1,
        size: int = 112,
        seed: int = 0,
    ) -> None:
        self.store = store if isinstance(store, ClipStore) else ClipStore(store)
        entries = {entry.id: entry for entry in self.store.entries()}
        self.ids = list(entries) if ids is None else list(ids)
        missing = [video for video in self.ids if video not in entries]
        if missing:
            raise StoreError(f"{self.store.path}: holds no video {missing[0]!r}")
        self.labels = [entries[video].label or "" for video in self.ids]
        self.lengths = [entries[video].frames or 0 for video in self.ids]
        self.frames, self.stride, self.size, self.seed = frames, stride, size, seed
        self.epoch: int | None = None

    def set_epoch(self, epoch: int | None) -> None:
        """Draw random clips for an epoch; None for the centre clips.

        Workers that a DataLoader keeps (`persistent_workers`) do not hear of it.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        video, length = self.ids[index], self.lengths[index]
        if self.epoch is None:
            start = even_starts(length, 1, frames=self.frames, stride=self.stride)[0]
        else:
            span = clip_span(self.frames, self.stride)
            start = anywhere(length, span, seeded(self.seed, self.epoch, video))
        clip = self.store.read(video, start, self.frames, stride=self.stride)
        return {
            "clip": as_tensor(centre_view(clip, self.size)),
            "id": video,
            "label": self.labels[index],
        }


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
