"""Clusterings and labels as arrays that are quick to count in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """A clustering of N videos into K clusters.

    Attributes:
        name: name in clusters.h5, such as `epoch00019`.
        clusters: `(K,)` numbers of the clusters in clusters.h5, ascending.
        codes: `(N,)` index into `clusters` of each video.
        sizes: `(K,)` videos per cluster.
        order: `(K,)` indices of the clusters, the largest first.
    """

    name: str
    clusters: Numbers
    codes: Numbers
    sizes: Numbers
    order: Numbers


def partition(name: str, clusters: Numbers) -> Partition:
    """Convert a clustering `(N,)` from clusters.h5."""
    numbers, codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return Partition(name, numbers, codes, sizes, np.argsort(-sizes, kind="stable"))


@dataclass(frozen=True)
class Labels:
    """Labels of N videos.

    Attributes:
        names: distinct labels, sorted.
        codes: `(N,)` index into `names`, or -1 without a label.
    """

    names: list[str]
    codes: Numbers


def labels_of(ids: Sequence[str], known: Mapping[str, str | None]) -> Labels:
    """Look up the labels of videos."""
    found = [known.get(video) or "" for video in ids]
    names = sorted(set(found) - {""})
    places = {label: place for place, label in enumerate(names)}
    return Labels(names, np.array([places.get(label, -1) for label in found], np.int64))


class LabelCounts:
    """How often each label occurs in each cluster."""

    def __init__(self, clusters: Partition, labels: Labels) -> None:
        known = labels.codes >= 0
        shape = (len(clusters.sizes), max(1, len(labels.names)))
        cells = (clusters.codes[known], labels.codes[known])
        self._counts = csr_array((np.ones(known.sum(), np.int64), cells), shape=shape)
        self._names = labels.names

    def of(self, cluster: int) -> list[tuple[str, int]]:
        """Return the labels in a cluster with their counts, the most frequent first."""
        row = slice(*self._counts.indptr[cluster : cluster + 2])
        pairs = zip(self._counts.indices[row], self._counts.data[row].tolist(), strict=True)
        return [(self._names[i], n) for i, n in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]

    def purity(self, cluster: int) -> float | None:
        """Return the share of the most frequent label among a cluster's labelled videos."""
        counts = [count for _, count in self.of(cluster)]
        return counts[0] / sum(counts) if counts else None

    def mean_purity(self) -> float | None:
        """Return the purity of all clusters, weighted by their labelled videos."""
        total = int(self._counts.sum())
        return int(self._counts.max(axis=1).sum()) / total if total else None
