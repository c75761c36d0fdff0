"""Choose the clips of each sample of an epoch (paper, section 3.2).

Every draw depends on (seed, epoch, video id) only: not on reader processes, the order of videos, or
where a run was interrupted.
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
        anchor: id of the anchor's video.
        start: first frame of the anchor and of the second view.
        positive: id of the positive's video, the same or another one of its cluster.
        positive_start: first frame of the positive.
        positive_flow: whether the positive is optical flow instead of RGB.
        second_flow: whether the second view is optical flow instead of RGB.
        seed: seed of the augmentation of the three clips.
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
    """Return the batches of an epoch: every video is an anchor once, in random order.

    Batches differ in size by one at most, so that none is too small for batch statistics; a data
    set smaller than the batch size gives a single batch.

    Args:
        lengths: number of frames by video id.
        clusters: pseudo-label by video id.
        settings: settings of the run.
        epoch: number of the epoch, from 0.
    """
    ids = sorted(lengths)
    cluster_members: dict[int, list[str]] = defaultdict(list)
    for video in ids:
        cluster_members[clusters[video]].append(video)
    order = seeded(settings.seed, epoch, "order").permutation(len(ids))
    samples = [
        draw_sample(
            ids[i], cluster_members[clusters[ids[i]]], lengths, settings=settings, epoch=epoch
        )
        for i in order
    ]
    return even_batches(samples, settings.batch_size)


def draw_sample(
    anchor: str,
    cluster_members: Sequence[str],
    lengths: Mapping[str, int],
    *,
    settings: SlicSettings,
    epoch: int,
) -> VideoTriplet:
    """Draw the sample of one video.

    With probability `same_video` (p_alpha in the paper), or if its cluster has no other member,
    the positive is another clip of the anchor's video; otherwise a clip of another member.

    Args:
        anchor: video id.
        cluster_members: ids of the videos in its cluster, including its own, in sorted order.
        lengths: number of frames by video id.
        settings: settings of the run.
        epoch: number of the epoch, from 0.
    """
    rng = seeded(settings.seed, epoch, anchor)
    span = clip_span(settings.frames, settings.stride)
    if rng.random() < settings.same_video or len(cluster_members) < 2:
        positive = anchor
        start, positive_start = disjoint_starts(lengths[anchor], span, rng)
    else:
        last = len(cluster_members) - 1
        positive = cluster_members[int(rng.integers(last))]
        if positive == anchor:
            positive = cluster_members[last]
        start = random_start(lengths[anchor], span, rng)
        positive_start = random_start(lengths[positive], span, rng)
    positive_flow, second_flow = (rng.random(2) < settings.flow_probability).tolist()
    seed = int(rng.integers(2**63))
    return VideoTriplet(anchor, start, positive, positive_start, positive_flow, second_flow, seed)


def disjoint_starts(length: int, span: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the first frames of two clips of one video that do not overlap, in random order.

    In a video shorter than two spans they overlap as little as possible: one clip is at each end.
    In one shorter than a span both wrap around, half the video apart.
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


def false_positive_rate(
    plan: Sequence[Sequence[VideoTriplet]], truth: Mapping[str, int]
) -> float | None:
    """Return the share of positives from another video whose true label is not their anchor's.

    Args:
        plan: batches of an epoch.
        truth: true labels by video id; videos without one are left out.

    Returns:
        Fraction in 0 to 1; None if nothing was drawn from another video, or labels are unknown.
    """
    false = [
        truth[s.anchor] != truth[s.positive]
        for batch in plan
        for s in batch
        if s.from_other_video and s.anchor in truth and s.positive in truth
    ]
    return sum(false) / len(false) if false else None
