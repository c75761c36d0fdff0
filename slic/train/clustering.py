"""Make pseudo-labels for the training videos: clusters, one label a video, or the true labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slic.errors import InputError, LabelsMissing
from slic.metrics import missing_labels
from slic.neighbours.exact import kmeans_assignment, unit_float32
from slic.neighbours.ivf import first_neighbours_of
from slic.runtime import console

if TYPE_CHECKING:
    from torch import Tensor


def finch(
    embeddings: npt.ArrayLike | Tensor,
    *,
    partition: int = 0,
    say: Callable[[str], None] = console.say,
) -> npt.NDArray[np.int64]:
    """Cluster embeddings by FINCH, and return its finest partition or a coarser one.

    Each row is linked to its most similar other row (by cosine; exactly below a million rows, from
    there by an IVF index), and the connected components are the clusters. For the next partition,
    the means of the clusters are linked in the same way.
    Method: Sarfraz et al., "Efficient Parameter-free Clustering Using First Neighbor
    Relations", CVPR 2019; in SLIC: paper, section 3, iterative clustering.

    Args:
        embeddings: `(N, D)` array or tensor of any real dtype; rows need not be normalised.
        partition: how often clusters are merged. Merging stops before a single cluster is left.
        say: called with a line about the IVF index, if one is used.

    Returns:
        `(N,)` int64, clusters numbered from 0 in the order of their first row.

    Raises:
        InputError: not `(N, D)`, no rows, or a partition below 0.
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
            break  # two clusters would be merged into one
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
        embeddings: `(N, D)` array or tensor of any real dtype; rows need not be normalised.
        clusters: number of clusters; some may stay empty.
        seed: seed of the first centres.

    Returns:
        `(N,)` int64, clusters numbered from 0 in the order of their first row.

    Raises:
        InputError: not `(N, D)`, or fewer rows than clusters.
        WorkError: rows that hold NaN or infinity; the message says how many.
    """
    rows = unit_float32(_as_array(embeddings), name="embeddings")
    if not 1 <= clusters <= len(rows):
        raise InputError(f"k-means: {clusters} clusters of {len(rows)} embeddings")
    assignment = kmeans_assignment(rows, clusters, seed=seed)
    _, first, code = np.unique(assignment, return_index=True, return_inverse=True)
    return first.argsort().argsort()[code].astype(np.int64)


def singleton_labels(n: int) -> npt.NDArray[np.int64]:
    """Return pseudo-labels without clustering: each of `n` videos is its own cluster."""
    return np.arange(n, dtype=np.int64)


def label_codes(labels: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """Return true labels as pseudo-labels (the paper's upper bound), numbered in sorted order.

    Args:
        labels: N class names.

    Returns:
        `(N,)` int64.

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
    """Return the mean of each cluster's rows, `(clusters, D)`."""
    sums = np.zeros((labels.max() + 1, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return (sums / np.bincount(labels)[:, None]).astype(np.float32)


def _components(
    rows: npt.NDArray[np.float32], neighbour: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the connected components of N rows that are linked to one neighbour each, `(N,)`."""
    with warnings.catch_warnings():
        # finch-clust asks for pynndescent, which only its own approximate search would use.
        warnings.filterwarnings(
            "ignore", message="pynndescent is not installed", category=UserWarning
        )
        from finch.finch import clust_rank, get_clust
    links, distance, *_ = clust_rank(rows, initial_rank=neighbour)
    labels, _ = get_clust(links, distance)
    return labels.astype(np.int64)
