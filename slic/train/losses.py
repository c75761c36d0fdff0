"""The training losses, as plain functions of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from slic.errors import InputError

_ZERO_LENGTH = 1e-8


def unit_rows(embeddings: Tensor) -> Tensor:
    """Rows of (..., D) at length one, in float32 or better.

    A row of zeros stays zero and gets no gradient, so that one dead embedding cannot blow up
    a step.
    """
    rows = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / length.clamp_min(_ZERO_LENGTH) * (length > _ZERO_LENGTH)


def full_precision(embeddings: Tensor) -> torch.autocast:
    """Context in which autocast leaves matrix products on `embeddings`' device alone."""
    return torch.autocast(embeddings.device.type, enabled=False)


def instance_triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.2,
    valid: Tensor | None = None,
) -> Tensor:
    """Mean of max(0, d(x, x+) - d(x, x-) + m1), d = 1 - cosine (paper, section 3, instance loss).

    Args:
        anchor: (B, D), any float dtype; computed in float32.
        positive: (B, D).
        negative: (B, D).
        margin: m1, in cosine distance.
        valid: (B,) bool, the triplets that count; all by default. With none, the loss is 0.

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
    """Mean of max(0, d(x, aug(x)) - d(x, x+) + m2) (paper, section 3, temporal discrimination).

    A second view of the same frames is to lie nearer than a clip of other frames.

    Args:
        anchor: (B, D), any float dtype; computed in float32.
        augmented: (B, D), second view of the anchor's frames.
        positive: (B, D).
        margin: m2, in cosine distance, below m1.

    Returns:
        Scalar float32.

    Raises:
        InputError: shapes that differ.
    """
    return instance_triplet_loss(anchor, augmented, positive, margin=margin)


def pseudo_label_infonce(
    anchor: Tensor,
    positive: Tensor,
    augmented: Tensor | None,
    labels: Tensor,
    *,
    temperature: float = 0.1,
) -> Tensor:
    """InfoNCE over the clips of each sample, with pseudo-labels (not in the paper).

    Each of the 3B embeddings is a query and is drawn to the two others of its sample, against
    all embeddings of samples with another pseudo-label. Other samples of its own pseudo-label
    are neither drawn nor pushed. The mean is over ordered (query, positive) pairs.

    Args:
        anchor: (B, D), any float dtype; computed in float32.
        positive: (B, D), possibly a clip of another video of the cluster.
        augmented: (B, D); None to leave the second view out, so that each of 2B embeddings is
            drawn to the other of its sample.
        labels: (B,) integer pseudo-labels of the samples.
        temperature: divides the cosine similarities.

    Returns:
        Scalar float32; 0 if the batch holds one pseudo-label only, so that nobody has a negative.

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
    mate = codes[:, None] == codes[None, :]
    # The lowest finite value and not -inf, so that a query without negatives stays finite.
    lowest = torch.finfo(logits.dtype).min
    against = logits.masked_fill(mate, lowest).logsumexp(1).view(len(views), -1)
    shifts = range(1, len(views))
    own = torch.stack([(view * view.roll(shift, 0)).sum(-1) for shift in shifts]) / temperature
    return functional.softplus(against - own).mean()


def masked_mean(terms: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of the valid terms without a host synchronisation; 0 with a graph if there are none."""
    if valid is None:
        valid = torch.ones_like(terms, dtype=torch.bool)
    valid = valid.to(terms.device, non_blocking=True)
    return terms.where(valid, 0).sum() / valid.sum().clamp_min(1)


def _require_same_shape(*embeddings: Tensor) -> None:
    shapes = [tuple(part.shape) for part in embeddings]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise InputError(f"embeddings of a loss must share one shape (B, D), got {shapes}")
