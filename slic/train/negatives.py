"""Choice of a negative for each triplet of a batch (paper, section 3, instance loss)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slic.errors import InputError
from slic.train.losses import full_precision, unit_rows


@dataclass(frozen=True)
class Negatives:
    """One negative a triplet.

    Attributes:
        index: (B,) int64 into the 2B `candidates`; the anchor itself where not valid.
        valid: (B,) bool, False where the batch holds no other cluster: skip these.
        fallback: (B,) bool, True where no candidate was within the margin and the nearest of
            another cluster was taken.
    """

    index: Tensor
    valid: Tensor
    fallback: Tensor


def candidates(anchor: Tensor, positive: Tensor) -> Tensor:
    """The (2B, D) embeddings a negative is chosen from: anchors, then positives, (B, D) each."""
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

    The draw is uniform. Where no candidate of another cluster is that near, the nearest one
    is taken. Distances are 1 - cosine. Nothing waits for the device.

    Args:
        anchor: (B, D), any float dtype; computed in float32.
        positive: (B, D); each belongs to its anchor's cluster.
        labels: (B,) integer pseudo-labels.
        margin: m1, in cosine distance.
        generator: a CPU generator, whose draws are the same whatever the device.
        uniforms: (B,) in [0, 1), used in place of fresh draws.

    Raises:
        InputError: shapes that do not fit.
    """
    batch = anchor.shape[0]
    _check_shapes(anchor, positive, labels)
    if uniforms is None:
        uniforms = torch.rand(batch, generator=generator)
    labels = labels.to(anchor.device, non_blocking=True)
    uniforms = uniforms.to(anchor.device, non_blocking=True)

    distance = _distances(anchor, candidates(anchor, positive))
    itself = torch.arange(batch, device=anchor.device)
    limit = distance[itself, itself + batch] + margin
    other = labels[:, None] != labels.repeat(2)[None, :]
    near = other & (distance <= limit[:, None])
    valid, has_near = other.any(1), near.any(1)
    nearest = distance.masked_fill(~other, torch.inf).argmin(1)
    index = torch.where(has_near, _draw(near, uniforms), nearest)
    return Negatives(torch.where(valid, index, itself), valid, valid & ~has_near)


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    with full_precision(rows):
        return 1 - unit_rows(rows) @ unit_rows(others).T


def _draw(allowed: Tensor, uniforms: Tensor) -> Tensor:
    """Column of one True of each row of (B, C) bool, uniform; C in a row without any."""
    rank = (uniforms * allowed.sum(1)).long()
    return (allowed.cumsum(1) <= rank[:, None]).sum(1)


def _check_shapes(anchor: Tensor, positive: Tensor, labels: Tensor) -> None:
    if anchor.ndim != 2 or positive.shape != anchor.shape or labels.shape != anchor.shape[:1]:
        raise InputError(
            f"anchor {tuple(anchor.shape)}, positive {tuple(positive.shape)} and labels "
            f"{tuple(labels.shape)} must be (B, D), (B, D) and (B,)"
        )
