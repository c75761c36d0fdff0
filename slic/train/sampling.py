"""Which clips make the samples of an epoch (paper, section 3.2).

Every draw depends on (seed, epoch, video id) alone: not on workers, order of videos, or where
a run was interrupted.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slic.clips.positions import clip_span, random_start
from slic.clips.samples import Clip
from slic.clips.seeding import even_batches, seeded
from slic.train.slic_settings import SlicSettings


@dataclass(frozen=True)
class VideoTriplet:
    """One sample: an anchor clip, its positive, and a second view of the anchor's frames.

    Attributes:
        anchor, start: the anchor's video and first frame.
        positive, positive_start: the positive's; the same video, or another of its cluster.
        positive_flow, second_flow: whether that view is optical flow rather than RGB.
        seed: of the three augmentations.
    """

    anchor: str
    start: int
    positive: str
    positive_start: int
    positive_flow: bool
    second_flow: bool
    seed: int

    @property
    def clips(self) -> tuple[Clip, Clip, Clip]:
        """Anchor, positive and second view."""
        return (
            Clip(self.anchor, self.start),
            Clip(self.positive, self.positive_start, self.positive_flow),
            Clip(self.anchor, self.start, self.second_flow),
        )

    @property
    def from_other_video(self) -> bool:
        """Whether the positive was drawn from another video of the cluster."""
        return self.positive != self.anchor


def plan_epoch(
    lengths: Mapping[str, int], clusters: Mapping[str, int], *, settings: SlicSettings, epoch: int
) -> list[list[VideoTriplet]]:
    """The batches of an epoch: every video is an anchor once, in random order.

    Batches differ in size by one at most, so that none is too small for batch statistics; a
    data set smaller than the batch gives one batch of it all.

    Args:
        lengths: `{video id: frames}`.
        clusters: `{video id: pseudo-label}`.
        settings: of the run.
        epoch: its number, from 0.
    """
    ids = sorted(lengths)
    mates: dict[int, list[str]] = defaultdict(list)
    for video in ids:
        mates[clusters[video]].append(video)
    order = seeded(settings.seed, epoch, "order").permutation(len(ids))
    samples = [
        draw_sample(ids[i], mates[clusters[ids[i]]], lengths, settings=settings, epoch=epoch)
        for i in order
    ]
    return even_batches(samples, settings.batch_size)


def draw_sample(
    anchor: str,
    mates: Sequence[str],
    lengths: Mapping[str, int],
    *,
    settings: SlicSettings,
    epoch: int,
) -> VideoTriplet:
    """One video's sample.

    With probability `same_video` (p_alpha), or without another member in its cluster, the
    positive is another clip of the anchor's video; else a clip of another member.

    Args:
        anchor: video id.
        mates: ids of its cluster, itself included, in sorted order.
        lengths: `{video id: frames}`.
        settings: of the run.
        epoch: its number.
    """
    rng = seeded(settings.seed, epoch, anchor)
    span = clip_span(settings.frames, settings.stride)
    own = rng.random() < settings.same_video or len(mates) < 2
    if own:
        positive = anchor
        start, positive_start = apart(lengths[anchor], span, rng)
    else:
        others = len(mates) - 1
        pick = int(rng.integers(others))
        positive = mates[pick] if mates[pick] != anchor else mates[others]
        start = random_start(lengths[anchor], span, rng)
        positive_start = random_start(lengths[positive], span, rng)
    positive_flow, second_flow = (rng.random(2) < settings.flow_probability).tolist()
    seed = int(rng.integers(2**63))
    return VideoTriplet(anchor, start, positive, positive_start, positive_flow, second_flow, seed)


def apart(length: int, span: int, rng: np.random.Generator) -> tuple[int, int]:
    """First frames of two clips of one video that do not overlap, in random order.

    In a video shorter than two spans they overlap as little as can be: one clip at each end;
    in one shorter than a span both wrap, half the video apart.
    """
    if length >= 2 * span:
        first, second = sorted(rng.integers(length - 2 * span + 1, size=2))
        starts = (int(first), int(second) + span)
    elif length >= span:
        starts = (0, length - span)
    else:
        start = random_start(length, span, rng)
        starts = (start, (start + length // 2) % length)
    return starts if rng.random() < 0.5 else starts[::-1]
