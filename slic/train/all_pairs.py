"""Every pair of a cluster in a batch as anchor and positive: an option beside the paper's one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slic.errors import InputError
from slic.train.losses import full_precision, masked_mean, unit_rows


@dataclass(frozen=True)
class PairTriplets:
    """Triplets of all pairs among E entries.

    Attributes:
        loss: scalar float32, the mean over the valid pairs.
        negative: (E, E) int64, the entry drawn against anchor i and positive j.
        valid: (E, E) bool, pairs of one cluster, i before j, whose batch holds another cluster.
        pairs: (E, E) bool, the same without the last condition.
        fallback: (E, E) bool, valid pairs without a negative within the margin.
    """

    loss: Tensor
    negative: Tensor
    valid: Tensor
    pairs: Tensor
    fallback: Tensor


def all_pairs_triplet_loss(
    entries: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    generator: torch.Generator | None = None,
    uniforms: Tensor | None = None,
) -> PairTriplets:
    """The instance triplet loss (paper, section 3) of all pairs that share a pseudo-label.

    Of each pair of entries the earlier is the anchor x. Its negative is drawn as
    `select_negatives` draws it: uniformly from the entries of other clusters within
    d(x, x+) + margin, else the nearest of them. Nothing waits for the device.

    Args:
        entries: (E, D) embeddings: a batch's anchors, then its positives. Memory is E * E.
        labels: (E,) integer pseudo-labels.
        margin: m1, in cosine distance.
        generator: a CPU generator, whose draws are the same whatever the device.
        uniforms: (E, E) in [0, 1), used in place of fresh draws.

    Raises:
        InputError: shapes that do not fit.
    """
    if entries.ndim != 2 or labels.shape != entries.shape[:1]:
        raise InputError(
            f"entries {tuple(entries.shape)} and labels {tuple(labels.shape)} must be"
            " (E, D) and (E,)"
        )
    count = len(entries)
    if uniforms is None:
        uniforms = torch.rand(count, count, generator=generator)
    codes = labels.to(entries.device, non_blocking=True)
    rows = unit_rows(entries)
    with full_precision(rows):
        distance = 1 - rows @ rows.T
    mates = codes[:, None] == codes[None, :]
    draws = uniforms.to(entries.device, non_blocking=True)
    negative, near = _drawn(distance.detach(), mates, margin, draws)
    pairs = mates.triu(1)
    valid = pairs & ~mates.all(1)[:, None]
    excess = distance - distance.gather(1, negative) + margin
    loss = masked_mean(excess.clamp_min(0), valid)
    return PairTriplets(loss, negative, valid, pairs, valid & ~near)


def _drawn(
    distance: Tensor, mates: Tensor, margin: float, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Negative of each (anchor, positive), and whether one was within the margin."""
    farther, order = distance.masked_fill(mates, torch.inf).sort(dim=1)
    within = torch.searchsorted(farther, distance + margin, right=True)
    rank = (uniforms * within).long()
    return order.gather(1, rank.clamp_max(len(distance) - 1)), within > 0
