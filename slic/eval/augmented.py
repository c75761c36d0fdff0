"""Clips that a classifier is trained on: one of each video an epoch, anywhere in it, augmented.

Every draw depends on (seed, epoch, video id) alone, so that training continues exactly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slic.cache import ClipStore
from slic.clips.augmentation import augment_frames, draw
from slic.clips.positions import anywhere, clip_span
from slic.clips.reading import ReaderPool
from slic.clips.seeding import even_batches, seeded
from slic.config import Settings

READ_AT_ONCE = 8  # clips a job


@dataclass(frozen=True)
class RandomClip:
    """One clip to train on.

    Attributes:
        video, start: id, and first frame.
        seed: of its augmentation and dropout.
    """

    video: str
    start: int
    seed: int


def plan_clips(
    lengths: Mapping[str, int], *, settings: Settings, batch_size: int, seed: int, epoch: int
) -> list[list[RandomClip]]:
    """The batches of an epoch: every video once, in random order, in batches of nearly one size.

    Args:
        lengths: `{video id: frames}`.
        settings: of the run.
        batch_size: clips of the largest batch.
        seed, epoch: of the draws.
    """
    ids = sorted(lengths)
    order = seeded(seed, epoch, "order of clips").permutation(len(ids))
    clips = [_random_clip(ids[i], lengths, settings, seed, epoch) for i in order]
    return even_batches(clips, batch_size)


def _random_clip(
    video: str, lengths: Mapping[str, int], settings: Settings, seed: int, epoch: int
) -> RandomClip:
    rng = seeded(seed, epoch, video)
    start = anywhere(lengths[video], clip_span(settings.frames, settings.stride), rng)
    return RandomClip(video, start, int(rng.integers(2**63)))


@dataclass(frozen=True)
class AugmentedClips:
    """Reads and augments clips as the run's settings say: `(n, T, size, size, 3)` uint8.

    Attributes:
        clips: n of them.
        settings: of the run.
    """

    clips: tuple[RandomClip, ...]
    settings: Settings

    def __call__(self, store: ClipStore) -> Tensor:
        s = self.settings
        views = []
        for clip in self.clips:
            frames = store.read(clip.video, clip.start, s.frames, stride=s.stride)
            how = draw(
                frames.shape[1], frames.shape[2], np.random.default_rng(clip.seed), settings=s
            )
            views.append(augment_frames(frames, how, s.size))
        return torch.from_numpy(np.stack(views))


def read_batches(
    readers: ReaderPool, plan: Sequence[Sequence[RandomClip]], *, settings: Settings
) -> Iterator[list[Tensor]]:
    """Planned batches in order, each in parts, as the readers give them."""
    shared = [
        [batch[i : i + READ_AT_ONCE] for i in range(0, len(batch), READ_AT_ONCE)] for batch in plan
    ]
    jobs = (AugmentedClips(tuple(part), settings) for parts in shared for part in parts)
    results = readers.results(jobs)
    for parts in shared:
        yield [next(results) for _ in parts]


def dropout_mask(batch: Sequence[RandomClip], width: int, dropout: float) -> Tensor:
    """What features `(N, D)` are multiplied by: 0 where dropped, 1 / (1 - dropout) elsewhere.

    It is drawn on the host by each clip's seed: alike on every device, however batches fall.
    """
    kept = [seeded(clip.seed, "dropout").random(width) >= dropout for clip in batch]
    return torch.from_numpy(np.stack(kept).astype(np.float32) / np.float32(1 - dropout))
