"""One training step: three clips of each sample in one forward, the loss, and its counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slic.config import Settings
from slic.engine.distributed import ALONE, Ranks
from slic.engine.forward import Forward
from slic.engine.profile import Profile
from slic.train.all_pairs import all_pairs_triplet_loss
from slic.train.losses import (
    instance_triplet_loss,
    pseudo_label_infonce,
    temporal_discrimination_loss,
)
from slic.train.negatives import select_negatives
from slic.train.sampling import Sample

UNKNOWN = -1


@dataclass(frozen=True)
class BatchLabels:
    """Labels of a batch, as `(B,)` int64 tensors.

    Attributes:
        cluster: pseudo-labels of the samples.
        anchor, positive: true labels of the two videos; -1 where unknown.
    """

    cluster: Tensor
    anchor: Tensor
    positive: Tensor


def batch_labels(
    samples: Sequence[Sample], clusters: Mapping[str, int], truth: Mapping[str, int]
) -> BatchLabels:
    """Look up a batch's labels by video id; `truth` may lack videos."""
    return BatchLabels(
        torch.tensor([clusters[s.anchor] for s in samples]),
        torch.tensor([truth.get(s.anchor, UNKNOWN) for s in samples]),
        torch.tensor([truth.get(s.positive, UNKNOWN) for s in samples]),
    )


def false_positives(samples: Sequence[Sample], truth: Mapping[str, int]) -> tuple[int, int]:
    """(false, all) positives drawn from another video, of those whose labels are known."""
    drawn = [
        truth[s.anchor] != truth[s.positive]
        for s in samples
        if s.from_other_video and s.anchor in truth and s.positive in truth
    ]
    return sum(drawn), len(drawn)


def forward_loss(
    forward: Forward,
    clips: Tensor,
    labels: BatchLabels,
    *,
    settings: Settings,
    generator: torch.Generator,
    profile: Profile,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch (paper, section 3.3), and sums for the epoch's record.

    Args:
        forward: of an encoder in training mode.
        clips: `(3, B, T, size, size, 3)` uint8: anchors, positives, second views; of several
            processes, the share of this one.
        labels: of the whole batch.
        settings: of the run.
        generator: on the CPU, for the choice of negatives.
        profile: takes the time.
        ranks: the processes that share the batch; each computes the loss of it all.

    Returns:
        The scalar loss, and float64 scalars on the device by name, without waiting for it.
    """
    with profile.phase("forward"):
        shares = forward(clips.flatten(0, 1)).chunk(3)
        anchor, positive, second = ranks.whole(shares, len(labels.cluster))
    views = (anchor, positive, second)
    with profile.phase("selection and loss"):
        if settings.objective == "infonce":
            return _infonce(views, labels, settings=settings)
        return _triplet(views, labels, settings=settings, generator=generator)


def _triplet(
    views: tuple[Tensor, Tensor, Tensor],
    labels: BatchLabels,
    *,
    settings: Settings,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    anchor, positive, second = views
    truth = torch.cat((labels.anchor, labels.positive)).to(anchor.device, non_blocking=True)
    instance_part = _all_pairs if settings.pairs == "all" else _one_pair
    instance, counts = instance_part(
        anchor, positive, labels.cluster, truth, margin=settings.margin, generator=generator
    )
    temporal = temporal_discrimination_loss(
        anchor, second, positive, margin=settings.temporal_margin
    )
    loss = instance + settings.temporal_weight * temporal
    sums = {
        "loss": loss.detach() * len(anchor),
        "instance_loss": instance.detach() * len(anchor),
        "temporal_loss": temporal.detach() * len(anchor),
        **counts,
    }
    return loss, {name: value.double() for name, value in sums.items()}


def _one_pair(
    anchor: Tensor,
    positive: Tensor,
    clusters: Tensor,
    truth: Tensor,
    *,
    margin: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of each anchor with its one positive, and counts; `truth` of the 2B entries."""
    chosen = select_negatives(anchor, positive, clusters, margin=margin, generator=generator)
    negative = torch.cat((anchor, positive))[chosen.index]
    loss = instance_triplet_loss(anchor, positive, negative, margin=margin, valid=chosen.valid)
    mine, theirs = truth[: len(anchor)], truth[chosen.index]
    known = chosen.valid & (mine != UNKNOWN) & (theirs != UNKNOWN)
    return loss, {
        "skipped": (~chosen.valid).sum(),
        "fallback": chosen.fallback.sum(),
        "false_negatives": (known & (mine == theirs)).sum(),
        "negatives": known.sum(),
    }


def _all_pairs(
    anchor: Tensor,
    positive: Tensor,
    clusters: Tensor,
    truth: Tensor,
    *,
    margin: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of all pairs of a cluster, and counts of these."""
    entries, codes = torch.cat((anchor, positive)), clusters.repeat(2)
    found = all_pairs_triplet_loss(entries, codes, margin=margin, generator=generator)
    mine, theirs = truth[:, None], truth[found.negative]
    known = found.valid & (mine != UNKNOWN) & (theirs != UNKNOWN)
    return found.loss, {
        "skipped": (found.pairs & ~found.valid).sum(),
        "fallback": found.fallback.sum(),
        "false_negatives": (known & (mine == theirs)).sum(),
        "negatives": known.sum(),
    }


def _infonce(
    views: tuple[Tensor, Tensor, Tensor], labels: BatchLabels, *, settings: Settings
) -> tuple[Tensor, dict[str, Tensor]]:
    anchor, positive, second = views
    # Without the second view's own loss, the second view has no part.
    third = second if settings.temporal_weight > 0 else None
    loss = pseudo_label_infonce(
        anchor, positive, third, labels.cluster, temperature=settings.temperature
    )
    # Every entry of another cluster is a negative: count the pairs of anchor and other sample.
    mine, other = labels.anchor[:, None], torch.cat((labels.anchor, labels.positive))
    pairs = labels.cluster[:, None] != labels.cluster.repeat(2)
    known = pairs & (mine != UNKNOWN) & (other != UNKNOWN)
    sums = {
        "loss": loss.detach() * len(anchor),
        "skipped": (~pairs.any(1)).sum(),
        "false_negatives": (known & (mine == other)).sum(),
        "negatives": known.sum(),
    }
    device = anchor.device
    return loss, {k: v.double().to(device, non_blocking=True) for k, v in sums.items()}
