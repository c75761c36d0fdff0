"""Pseudo-labels for the training videos: clusters, each video alone, or the true labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slic.errors import InputError, LabelsMissing
from slic.metrics import missing_labels
from slic.neighbours.exact import kmeans_assignment, unit_float32
from slic.neighbours.lists import first_neighbours_of
from slic.runtime.console import say as said

if TYPE_CHECKING:
    from torch import Tensor


def finch(
    embeddings: npt.ArrayLike | Tensor,
    *,
    partition: int = 0,
    say: Callable[[str], None] = said,
) -> npt.NDArray[np.int64]:
    """Cluster embeddings by FINCH and take the first, finest partition, or a coarser one.

    Each row is joined to its most similar other row (cosine; exact below a million rows, from
    there by an IVF index); the connected components are the clusters. The next partition joins
    the clusters' means likewise.
    Method: Sarfraz et al., "Efficient Parameter-free Clustering Using First Neighbor
    Relations", CVPR 2019; in SLIC: paper, section 3, iterative clustering.

    Args:
        embeddings: (N, D) array or tensor of any real dtype; need not be normalised.
        partition: how many times to join clusters; where one cluster is all that would be left,
            the partition before it is taken.
        say: takes a line where an IVF index is used: how large, and its recall.

    Returns:
        (N,) int64, clusters numbered from 0 in the order of their first row.

    Raises:
        InputError: not (N, D), no rows, or a partition below 0.
        WorkError: rows that hold NaN or infinity; the message says how many.
    """
    rows = unit_float32(_as_array(embeddings), name="embeddings")
    if len(rows) == 0:
        raise InputError("there are no embeddings to cluster: the training split is empty")
    if partition < 0:
        raise InputError(f"partition {partition}: must be 0 or more")
    if len(rows) == 1:
        return np.zeros(1, dtype=np.int64)
    labels = _components(rows, first_neighbours_of(rows, say=say))
    for _ in range(partition):
        if labels.max() < 2:
            break  # two clusters would be joined into one
        means = unit_float32(_means(rows, labels), name="means")
        coarser = _components(means, first_neighbours_of(means, say=say))[labels]
        if coarser.max() == 0:
            break
        labels = coarser
    return labels


def kmeans(
    embeddings: npt.ArrayLike | Tensor, clusters: int, *, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Cluster embeddings by spherical k-means (cosine), with faiss.

    Args:
        embeddings: (N, D) array or tensor of any real dtype; need not be normalised.
        clusters: how many are asked for; a cluster may stay empty.
        seed: of the first centres.

    Returns:
        (N,) int64, clusters numbered from 0 in the order of their first row.

    Raises:
        InputError: not (N, D), or fewer rows than clusters.
        WorkError: rows that hold NaN or infinity; the message says how many.
    """
    rows = unit_float32(_as_array(embeddings), name="embeddings")
    if not 1 <= clusters <= len(rows):
        raise InputError(f"k-means: {clusters} clusters of {len(rows)} embeddings")
    found = kmeans_assignment(rows, clusters, seed=seed)
    _, first, code = np.unique(found, return_index=True, return_inverse=True)
    return first.argsort().argsort()[code].astype(np.int64)


def singleton_labels(n: int) -> npt.NDArray[np.int64]:
    """Pseudo-labels without clustering: each of `n` videos is its own cluster, (n,) int64."""
    return np.arange(n, dtype=np.int64)


def label_codes(labels: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """True labels as pseudo-labels (the paper's upper bound), numbered in sorted order.

    Args:
        labels: N labels.

    Returns:
        (N,) int64.

    Raises:
        LabelsMissing: any label is None or empty; the message says how many.
    """
    names = np.asarray(labels, dtype=object)
    missing = int(missing_labels(names).sum())
    if missing:
        raise LabelsMissing(
            f"{missing} of {len(names)} videos have no label; add the labels, or cluster instead"
        )
    return np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)


def _as_array(embeddings: npt.ArrayLike | Tensor) -> npt.ArrayLike:
    if hasattr(embeddings, "detach"):
        return embeddings.detach().float().cpu().numpy()
    return embeddings


def _means(rows: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(clusters, D) mean of each cluster's rows."""
    sums = np.zeros((labels.max() + 1, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return (sums / np.bincount(labels)[:, None]).astype(np.float32)


def _components(
    rows: npt.NDArray[np.float32], neighbour: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    with warnings.catch_warnings():
        # finch-clust asks for pynndescent, which only its own approximate search would use.
        warnings.filterwarnings(
            "ignore", message="pynndescent is not installed", category=UserWarning
        )
        from finch.finch import clust_rank, get_clust
    links, distance, *_ = clust_rank(rows, initial_rank=neighbour)
    labels, _ = get_clust(links, distance)
    return labels.astype(np.int64)
