"""Choose a negative for each triplet of a batch (paper, section 3), and count false ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slic.errors import InputError
from slic.train.losses import full_precision, unit_rows
from slic.train.sampling import VideoTriplet

UNKNOWN = -1  # in place of a true label


@dataclass(frozen=True)
class BatchLabels:
    """Labels of a batch, `(B,)` int64 each.

    Attributes:
        cluster: pseudo-labels of the samples.
        anchor, positive: true labels of the two videos, -1 where unknown; only for figures.
    """

    cluster: Tensor
    anchor: Tensor
    positive: Tensor

    def both(self, device: torch.device) -> Tensor:
        """Return the true labels of the anchors, then of the positives: `(2B,)` on a device."""
        return torch.cat((self.anchor, self.positive)).to(device, non_blocking=True)


def batch_labels(
    samples: Sequence[VideoTriplet], clusters: Mapping[str, int], truth: Mapping[str, int]
) -> BatchLabels:
    """Look up the labels of a batch by video id; `truth` may lack videos."""
    return BatchLabels(
        torch.tensor([clusters[s.anchor] for s in samples]),
        torch.tensor([truth.get(s.anchor, UNKNOWN) for s in samples]),
        torch.tensor([truth.get(s.positive, UNKNOWN) for s in samples]),
    )


@dataclass(frozen=True)
class Negatives:
    """One negative for each triplet.

    Attributes:
        index: `(B,)` int64, row of the 2B `candidates`; the anchor itself where not valid.
        valid: `(B,)` bool, False where the batch holds no other cluster: skip these triplets.
        fallback: `(B,)` bool, True where no candidate was within the margin, so that the nearest
            one of another cluster was taken.
    """

    index: Tensor
    valid: Tensor
    fallback: Tensor


def candidates(anchor: Tensor, positive: Tensor) -> Tensor:
    """Return the `(2B, D)` embeddings to choose negatives from: anchors, then positives."""
    return torch.cat((anchor, positive))


@torch.no_grad()
def select_negatives(
    anchor: Tensor,
    positive: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    generator: torch.Generator | None = None,
    uniforms: Tensor | None = None,
) -> Negatives:
    """Draw for each anchor x a negative x- of another cluster with d(x, x-) <= d(x, x+) + margin.

    The draw is uniform. If no candidate of another cluster is that near, the nearest one is taken.
    The distance d is 1 - cosine similarity. The device is not waited for.

    Args:
        anchor: x, `(B, D)` of any float dtype; distances are computed in float32.
        positive: x+, `(B, D)`, each of its anchor's cluster.
        labels: `(B,)` integer pseudo-labels.
        margin: m1, in cosine distance.
        generator: CPU generator, so that draws do not depend on the device.
        uniforms: `(B,)` numbers in [0, 1) to use instead of new draws.

    Raises:
        InputError: shapes that do not fit.
    """
    batch = anchor.shape[0]
    if anchor.ndim != 2 or positive.shape != anchor.shape or labels.shape != anchor.shape[:1]:
        raise InputError(
            f"anchor {tuple(anchor.shape)}, positive {tuple(positive.shape)} and labels "
            f"{tuple(labels.shape)} must be (B, D), (B, D) and (B,)"
        )
    if uniforms is None:
        uniforms = torch.rand(batch, generator=generator)
    labels = labels.to(anchor.device, non_blocking=True)
    uniforms = uniforms.to(anchor.device, non_blocking=True)

    rows, others = unit_rows(anchor), unit_rows(candidates(anchor, positive))
    with full_precision(rows):
        distance = 1 - rows @ others.T
    itself = torch.arange(batch, device=anchor.device)
    limit = distance[itself, itself + batch] + margin
    other = labels[:, None] != labels.repeat(2)[None, :]
    near = other & (distance <= limit[:, None])
    valid, has_near = other.any(1), near.any(1)
    nearest = distance.masked_fill(~other, torch.inf).argmin(1)
    index = torch.where(has_near, _draw(near, uniforms), nearest)
    return Negatives(torch.where(valid, index, itself), valid, valid & ~has_near)


def _draw(allowed: Tensor, uniforms: Tensor) -> Tensor:
    """Draw the column of one True in each row of `(B, C)` bool; C in a row without any."""
    rank = (uniforms * allowed.sum(1)).long()
    return (allowed.cumsum(1) <= rank[:, None]).sum(1)


def count_false_negatives(anchor: Tensor, negative: Tensor, *, valid: Tensor) -> dict[str, Tensor]:
    """Count the negatives whose true labels are known, and those with their anchor's label.

    Args:
        anchor, negative: true labels of both, -1 where unknown.
        valid: the triplets that count; all three are broadcast together.
    """
    known = valid & (anchor != UNKNOWN) & (negative != UNKNOWN)
    return {"false_negatives": (known & (anchor == negative)).sum(), "negatives": known.sum()}
