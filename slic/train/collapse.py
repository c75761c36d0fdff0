"""Embeddings that no clustering can use: not finite, or all but alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slic.engine.divergence import named_some
from slic.errors import WorkError

COLLAPSED = 1e-3  # untrained encoders gave 3e-3 and more


def check_embeddings(ids: Sequence[str], rows: NDArray[np.float32], *, where: Path) -> None:
    """Refuse embeddings that are not finite, which no clustering can use.

    Args:
        ids: `(N,)` videos.
        rows: `(N, D)`.
        where: whose they are.

    Raises:
        WorkError: they are not; it names the videos.
    """
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise WorkError(
            f"{where}: the embeddings of {len(bad)} of {len(ids)} videos are not finite"
            f" ({named_some(ids[i] for i in bad.tolist())}); start a run with a smaller --lr"
        )


def mean_distance(rows: NDArray[np.float32]) -> float:
    """Mean cosine distance of all pairs of N rows, `(N, D)` with N >= 2: 1 - cos, in 0 to 2.

    By the length of the sum of the unit rows, so that no pair is looked at; in float64, since
    what matters are small differences of large numbers.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    units = rows / np.maximum(norms, np.finfo(np.float64).tiny)
    cosines = float((units.sum(axis=0) ** 2).sum() - (units**2).sum())
    return max(0.0, 1 - cosines / (len(rows) * (len(rows) - 1)))


def has_collapsed(distance: float) -> bool:
    """Whether videos are all but alike: their mean cosine distance is near zero."""
    return distance < COLLAPSED
