"""Clips that a classifier is trained on: one of each video an epoch, anywhere in it, augmented.

Every draw depends on (seed, epoch, video id) alone, so that training continues exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slic.clips.positions import anywhere, clip_span
from slic.clips.samples import Clip
from slic.clips.seeding import even_batches, seeded
from slic.config import Settings


@dataclass(frozen=True)
class RandomClip:
    """One clip to train on: a sample of a single clip.

    Attributes:
        video, start: id, and first frame.
        seed: of its augmentation and dropout.
    """

    video: str
    start: int
    seed: int

    @property
    def clips(self) -> tuple[Clip]:
        """The clip."""
        return (Clip(self.video, self.start),)


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


def dropout_mask(batch: Sequence[RandomClip], width: int, dropout: float) -> Tensor:
    """What features `(N, D)` are multiplied by: 0 where dropped, 1 / (1 - dropout) elsewhere.

    It is drawn on the host by each clip's seed: alike on every device, however batches fall.
    """
    kept = [seeded(clip.seed, "dropout").random(width) >= dropout for clip in batch]
    return torch.from_numpy(np.stack(kept).astype(np.float32) / np.float32(1 - dropout))
