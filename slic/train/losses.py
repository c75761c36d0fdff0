"""The training losses, as plain functions of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from slic.errors import InputError

_ZERO_LENGTH = 1e-8


def unit_rows(embeddings: Tensor) -> Tensor:
    """Scale the rows of `(..., D)` to length one, in float32 or better.

    A row of zeros stays zero and gets no gradient, so that one dead embedding cannot blow up a
    step.
    """
    rows = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / length.clamp_min(_ZERO_LENGTH) * (length > _ZERO_LENGTH)


def full_precision(embeddings: Tensor) -> torch.autocast:
    """Return a context in which autocast is off on the device of `embeddings`."""
    return torch.autocast(embeddings.device.type, enabled=False)


def instance_triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.2,
    valid: Tensor | None = None,
) -> Tensor:
    """Compute the instance loss (paper, section 3): mean of max(0, d(x, x+) - d(x, x-) + m1).

    The distance d is 1 - cosine similarity.

    Args:
        anchor: x, `(B, D)` of any float dtype; the loss is computed in float32.
        positive: x+, `(B, D)`.
        negative: x-, `(B, D)`.
        margin: m1, in cosine distance.
        valid: `(B,)` bool, the triplets that count; all by default. If none counts, the loss is 0.

    Returns:
        Scalar float32.

    Raises:
        InputError: shapes that differ.
    """
    _require_same_shape(anchor, positive, negative)
    x, near, far = unit_rows(anchor), unit_rows(positive), unit_rows(negative)
    excess = (x * far).sum(-1) - (x * near).sum(-1) + margin
    return masked_mean(excess.clamp_min(0), valid)


def temporal_discrimination_loss(
    anchor: Tensor, augmented: Tensor, positive: Tensor, *, margin: float = 0.04
) -> Tensor:
    """Compute the temporal discrimination loss (paper, section 3).

    Mean of max(0, d(x, aug(x)) - d(x, x+) + m2): a second view of the same frames should be nearer
    than a clip of other frames.

    Args:
        anchor: x, `(B, D)` of any float dtype; the loss is computed in float32.
        augmented: aug(x), `(B, D)`, second view of the anchor's frames.
        positive: x+, `(B, D)`.
        margin: m2, in cosine distance, below m1.

    Returns:
        Scalar float32.

    Raises:
        InputError: shapes that differ.
    """
    return instance_triplet_loss(anchor, augmented, positive, margin=margin)


@dataclass(frozen=True)
class PairTriplets:
    """Loss and triplets of all pairs among E entries.

    Attributes:
        loss: scalar float32, the mean over the valid pairs.
        negative: `(E, E)` int64, the entry drawn as the negative of anchor i and positive j.
        valid: `(E, E)` bool, pairs i < j of one cluster whose batch holds another cluster.
        pairs: `(E, E)` bool, pairs i < j of one cluster.
        fallback: `(E, E)` bool, valid pairs without a negative within the margin.
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
    """Compute the instance loss of all pairs that share a pseudo-label (not in the paper).

    The earlier entry of each pair is the anchor x. Its negative is drawn as `select_negatives`
    does: uniformly from the entries of other clusters within d(x, x+) + margin, or else the
    nearest of them. The device is not waited for.

    Args:
        entries: `(E, D)` embeddings: a batch's anchors, then its positives. Memory grows with E^2.
        labels: `(E,)` integer pseudo-labels.
        margin: m1, in cosine distance.
        generator: CPU generator, so that draws do not depend on the device.
        uniforms: `(E, E)` numbers in [0, 1) to use instead of new draws.

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
    same = codes[:, None] == codes[None, :]
    draws = uniforms.to(entries.device, non_blocking=True)
    negative, near = _draw_negatives(distance.detach(), same, margin, draws)
    pairs = same.triu(1)
    valid = pairs & ~same.all(1)[:, None]
    excess = distance - distance.gather(1, negative) + margin
    loss = masked_mean(excess.clamp_min(0), valid)
    return PairTriplets(loss, negative, valid, pairs, valid & ~near)


def _draw_negatives(
    distance: Tensor, same: Tensor, margin: float, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw a negative for each (anchor, positive); also return whether it is within the margin."""
    farther, order = distance.masked_fill(same, torch.inf).sort(dim=1)
    within = torch.searchsorted(farther, distance + margin, right=True)
    rank = (uniforms * within).long()
    return order.gather(1, rank.clamp_max(len(distance) - 1)), within > 0


def pseudo_label_infonce(
    anchor: Tensor,
    positive: Tensor,
    augmented: Tensor | None,
    labels: Tensor,
    *,
    temperature: float = 0.1,
) -> Tensor:
    """Compute InfoNCE over the clips of each sample, with pseudo-labels (not in the paper).

    Each of the 3B embeddings is a query. It is attracted to the two others of its sample and
    repelled by all embeddings of samples with another pseudo-label; other samples with its own
    pseudo-label have no effect. The mean is over ordered (query, positive) pairs.

    Args:
        anchor: `(B, D)` of any float dtype; the loss is computed in float32.
        positive: `(B, D)`, clips of the same video, or of another one of the cluster.
        augmented: `(B, D)`; None to leave the second view out, so that each of 2B embeddings is
            attracted to the other one of its sample.
        labels: `(B,)` integer pseudo-labels of the samples.
        temperature: divisor of the cosine similarities.

    Returns:
        Scalar float32; 0 if the whole batch has one pseudo-label, since there is no negative then.

    Raises:
        InputError: shapes that differ.
    """
    views = [anchor, positive] if augmented is None else [anchor, positive, augmented]
    _require_same_shape(*views)
    if labels.shape != anchor.shape[:1]:
        raise InputError(f"labels must be ({len(anchor)},), got {tuple(labels.shape)}")
    view = unit_rows(torch.stack(views))  # (V, B, D)
    entry = view.flatten(0, 1)
    with full_precision(entry):
        logits = entry @ entry.T / temperature
    codes = labels.to(entry.device, non_blocking=True).repeat(len(views))
    same = codes[:, None] == codes[None, :]
    # The lowest finite value instead of -inf, so that a query without negatives stays finite.
    lowest = torch.finfo(logits.dtype).min
    against = logits.masked_fill(same, lowest).logsumexp(1).view(len(views), -1)
    shifts = range(1, len(views))
    own = torch.stack([(view * view.roll(shift, 0)).sum(-1) for shift in shifts]) / temperature
    return functional.softplus(against - own).mean()


def masked_mean(terms: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of the valid terms, or 0 (with a graph) if there are none.

    The device is not waited for.
    """
    if valid is None:
        valid = torch.ones_like(terms, dtype=torch.bool)
    valid = valid.to(terms.device, non_blocking=True)
    return terms.where(valid, 0).sum() / valid.sum().clamp_min(1)


def _require_same_shape(*embeddings: Tensor) -> None:
    shapes = [tuple(part.shape) for part in embeddings]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise InputError(f"embeddings of a loss must share one shape (B, D), got {shapes}")
