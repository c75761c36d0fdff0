"""Training clips of a classifier: one randomly placed, augmented clip of each video per epoch.

Every random choice depends on (seed, epoch, video id) alone, so that training resumes exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slic.clips.positions import clip_span, random_start
from slic.clips.samples import Clip
from slic.clips.seeding import even_batches, seeded
from slic.config import Settings
from slic.eval.recipe import Recipe


@dataclass(frozen=True)
class RandomClip:
    """A sample of one clip.

    Attributes:
        video: Id of the video.
        start: Its first frame.
        seed: Seed of its augmentation and dropout.
    """

    video: str
    start: int
    seed: int

    @property
    def clips(self) -> tuple[Clip]:
        """The clip."""
        return (Clip(self.video, self.start),)


def plan_clips(
    lengths: Mapping[str, int], settings: Settings, recipe: Recipe, epoch: int
) -> list[list[RandomClip]]:
    """Plan an epoch: every video once, in random order, in batches of nearly equal size.

    Args:
        lengths: Number of frames by video id.
        settings: Settings of the run, for the clips' shape.
        recipe: Settings of the classifier, for the batch size and the seed.
        epoch: Number of the epoch.
    """
    ids = sorted(lengths)
    span = clip_span(settings.frames, settings.stride)
    clips = []
    for i in seeded(recipe.seed, epoch, "order of clips").permutation(len(ids)):
        rng = seeded(recipe.seed, epoch, ids[i])
        start = random_start(lengths[ids[i]], span, rng)
        clips.append(RandomClip(ids[i], start, int(rng.integers(2**63))))
    return even_batches(clips, recipe.batch_size)


def dropout_mask(batch: Sequence[RandomClip], width: int, dropout: float) -> Tensor:
    """Draw the `(N, width)` float32 factors of dropout: 0, or 1 / (1 - dropout).

    They are drawn on the host from each clip's seed, so that they are the same on every device
    and in batches of any size.
    """
    kept = [seeded(clip.seed, "dropout").random(width) >= dropout for clip in batch]
    return torch.from_numpy(np.stack(kept).astype(np.float32) / np.float32(1 - dropout))
