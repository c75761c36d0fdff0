"""What training records of triplets: how often positives and negatives are false."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slic.train.sampling import VideoTriplet

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

    def both(self, device: torch.device) -> Tensor:
        """True labels of the anchors, then of the positives: `(2B,)`, on a device."""
        return torch.cat((self.anchor, self.positive)).to(device, non_blocking=True)


def batch_labels(
    samples: Sequence[VideoTriplet], clusters: Mapping[str, int], truth: Mapping[str, int]
) -> BatchLabels:
    """Look up a batch's labels by video id; `truth` may lack videos."""
    return BatchLabels(
        torch.tensor([clusters[s.anchor] for s in samples]),
        torch.tensor([truth.get(s.anchor, UNKNOWN) for s in samples]),
        torch.tensor([truth.get(s.positive, UNKNOWN) for s in samples]),
    )


def triplet_counts(mine: Tensor, theirs: Tensor, *, valid: Tensor) -> dict[str, Tensor]:
    """Count the negatives whose labels are known, and those that are false.

    Args:
        mine, theirs: true labels of anchors and of their negatives, -1 where unknown.
        valid: the triplets that count; all three broadcast together.
    """
    known = valid & (mine != UNKNOWN) & (theirs != UNKNOWN)
    return {"false_negatives": (known & (mine == theirs)).sum(), "negatives": known.sum()}


def false_positives(samples: Sequence[VideoTriplet], truth: Mapping[str, int]) -> tuple[int, int]:
    """(false, all) positives drawn from another video, of those whose labels are known."""
    drawn = [
        truth[s.anchor] != truth[s.positive]
        for s in samples
        if s.from_other_video and s.anchor in truth and s.positive in truth
    ]
    return sum(drawn), len(drawn)


def epoch_record(
    sums: Mapping[str, float], plan: Sequence[Sequence[VideoTriplet]], truth: Mapping[str, int]
) -> dict[str, Any]:
    """The epoch's figures: means a sample, counts, and rates.

    The false-positive rate is of positives drawn from another video, the false-negative rate
    of negatives; both are None where nothing was drawn or labels are unknown.

    Args:
        sums: of the losses and counts of all steps.
        plan: the epoch's batches.
        truth: labels by video id, as far as they are known.
    """
    samples = sum(map(len, plan))
    losses = ("loss", "instance_loss", "temporal_loss")
    record: dict[str, Any] = {k: sums[k] / samples for k in losses if k in sums}
    record |= {k: int(sums[k]) for k in ("skipped", "fallback") if k in sums}
    false, drawn = (
        sum(counts) for counts in zip(*(false_positives(b, truth) for b in plan), strict=True)
    )
    record["false_positive_rate"] = false / drawn if drawn else None
    negatives = sums.get("negatives")
    record["false_negative_rate"] = sums["false_negatives"] / negatives if negatives else None
    return {**record, "samples": samples}
