"""Measures of retrieval, clustering and classification, on arrays of labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from slic.errors import InputError, LabelsMissing, WorkError


def missing_labels(labels: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Where labels are None, empty or NaN: bool of the shape of `labels`."""
    values = np.asarray(labels)
    if values.dtype.kind == "U":
        return values == ""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind != "O":
        return np.zeros(values.shape, dtype=bool)
    missing = [value is None or value == "" or value != value for value in values.flat]
    return np.array(missing, dtype=bool).reshape(values.shape)


def recall_at_k(
    query_labels: npt.ArrayLike, neighbour_labels: npt.ArrayLike, ks: Iterable[int]
) -> dict[int, float]:
    """Fraction of queries with at least one neighbour of their label among the k nearest.

    Paper, section 4, video retrieval.

    Args:
        query_labels: (Q,) str or int.
        neighbour_labels: (Q, K) labels of the neighbours, nearest first; one without a label
            is never a hit.
        ks: the k to report; a k above K uses all K.

    Returns:
        {k: fraction in [0, 1]}.

    Raises:
        InputError: shapes or kinds of label that do not fit, no query, or a k below 1.
        LabelsMissing: queries without a label; the message says how many.
    """
    rank = _first_hit(query_labels, neighbour_labels)
    return {k: float(np.mean(rank < _checked_k(k))) for k in ks}


def per_class_recall(
    query_labels: npt.ArrayLike, neighbour_labels: npt.ArrayLike, k: int = 1
) -> dict[Any, float]:
    """`recall_at_k` of each label's own queries: {label: fraction}, sorted by label."""
    hit = _first_hit(query_labels, neighbour_labels) < _checked_k(k)
    names, code = np.unique(np.asarray(query_labels), return_inverse=True)
    fraction = np.bincount(code, weights=hit) / np.bincount(code)
    return dict(zip(names.tolist(), fraction.tolist(), strict=True))


def cluster_agreement(
    labels: npt.ArrayLike, clusters: npt.ArrayLike
) -> tuple[float | None, float | None]:
    """Normalised and adjusted mutual information (arithmetic means) of labels and clusters.

    Items without a label are left out.

    Args:
        labels: (N,) str or int, with None or "" where there is none.
        clusters: (N,) int.

    Returns:
        (NMI, AMI); (None, None) where no item has a label.

    Raises:
        InputError: lengths that differ.
    """
    truth, cluster = np.asarray(labels), np.asarray(clusters)
    if truth.ndim != 1 or truth.shape != cluster.shape:
        raise InputError(f"labels {truth.shape} and clusters {cluster.shape} must both be (N,)")
    known = ~missing_labels(truth)
    if not known.any():
        return None, None
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    code = np.unique(truth[known], return_inverse=True)[1]
    return (
        float(normalized_mutual_info_score(code, cluster[known])),
        float(adjusted_mutual_info_score(code, cluster[known])),
    )


def topk_accuracy(scores: npt.ArrayLike, targets: npt.ArrayLike, k: int) -> float:
    """Fraction of items whose class is among the k highest scores; ties go to the lower class.

    Args:
        scores: (N, C) float.
        targets: (N,) int in [0, C).
        k: a k above C counts every item.

    Raises:
        InputError: shapes that do not fit, no item, a target outside [0, C), or k below 1.
        WorkError: scores that are NaN.
    """
    score, target = np.asarray(scores), np.asarray(targets)
    if score.ndim != 2 or target.shape != score.shape[:1] or len(score) == 0:
        raise InputError(f"scores {score.shape} and targets {target.shape} must be (N, C), (N,)")
    classes = score.shape[1]
    if target.min() < 0 or target.max() >= classes:
        raise InputError(f"targets must lie in 0 to {classes - 1}, got up to {target.max()}")
    broken = int(np.isnan(score).any(axis=1).sum())
    if broken:
        raise WorkError(f"{broken} of {len(score)} items have scores that are NaN")
    own = np.take_along_axis(score, target[:, None], axis=1)
    earlier = np.arange(classes) < target[:, None]
    rank = ((score > own) | ((score == own) & earlier)).sum(axis=1)
    return float(np.mean(rank < _checked_k(k)))


def _first_hit(
    query_labels: npt.ArrayLike, neighbour_labels: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """(Q,) position of the nearest neighbour of the query's label, infinite where there is none."""
    query, neighbour = np.asarray(query_labels), np.asarray(neighbour_labels)
    if query.ndim != 1 or neighbour.ndim != 2 or len(query) != len(neighbour) or not len(query):
        raise InputError(
            f"query labels {query.shape} and neighbour labels {neighbour.shape} "
            "must be (Q,) and (Q, K), with a query or more"
        )
    missing = int(missing_labels(query).sum())
    if missing:
        raise LabelsMissing(
            f"{missing} of {len(query)} queries have no label; add the labels or leave these out"
        )
    if {query.dtype.kind, neighbour.dtype.kind} in ({"U", "i"}, {"U", "u"}, {"U", "S"}):
        raise InputError(
            f"query labels are {query.dtype} and neighbour labels {neighbour.dtype}: "
            "no two of them can be equal"
        )
    hit = neighbour == query[:, None]
    position = np.where(hit, np.arange(hit.shape[1]), np.inf)
    return position.min(axis=1, initial=np.inf)


def _checked_k(k: int) -> int:
    if k < 1:
        raise InputError(f"k must be 1 or more, got {k}")
    return k
