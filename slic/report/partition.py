"""One clustering in a form that is quick to count in, and the labels in its clusters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """A clustering of N videos into K clusters.

    Attributes:
        name: such as `epoch00019`.
        clusters: `(K,)` their numbers in clusters.h5, ascending.
        of: `(N,)` place in `clusters` of each video's.
        sizes: `(K,)` videos in each.
    """

    name: str
    clusters: Numbers
    of: Numbers
    sizes: Numbers

    def by_size(self) -> Numbers:
        """`(K,)` places of the clusters, the largest first, of equal ones the lower number."""
        return np.argsort(-self.sizes, kind="stable")


def partition(name: str, clusters: Numbers) -> Partition:
    """A clustering `(N,)` as clusters.h5 has it."""
    numbers, of, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return Partition(name, numbers, of, sizes)


@dataclass(frozen=True)
class Labels:
    """Labels of N videos.

    Attributes:
        names: L, sorted.
        of: `(N,)` place in `names`, or -1 where a video has none.
    """

    names: list[str]
    of: Numbers


def labels_of(ids: Sequence[str], known: Mapping[str, str | None]) -> Labels:
    """The labels of videos by id; of one that is not known, none."""
    found = [known.get(video) for video in ids]
    names = sorted({label for label in found if label})
    places = {label: place for place, label in enumerate(names)}
    return Labels(names, np.array([places.get(label or "", -1) for label in found], np.int64))


@dataclass(frozen=True)
class Tally:
    """How often each label occurs in each of K clusters.

    Attributes:
        labels, counts: `(M,)`, cluster by cluster, in each the most frequent label first.
        edges: `(K + 1,)`: those of cluster c stand from `edges[c]` up to before `edges[c + 1]`.
        labelled: `(K,)` videos with a label.
    """

    labels: Numbers
    counts: Numbers
    edges: Numbers
    labelled: Numbers

    def of(self, cluster: int) -> list[tuple[int, int]]:
        """Label and count of one cluster, the most frequent first."""
        part = slice(self.edges[cluster], self.edges[cluster + 1])
        return list(zip(self.labels[part].tolist(), self.counts[part].tolist(), strict=True))

    def share(self, cluster: int) -> float | None:
        """Purity: the share of its most frequent label among its videos with one."""
        found = self.of(cluster)
        return found[0][1] / int(self.labelled[cluster]) if found else None

    def purity(self) -> float | None:
        """Purity of all clusters, weighted by their videos with a label; None without any."""
        total = int(self.labelled.sum())
        firsts = self.edges[:-1][self.labelled > 0]
        return int(self.counts[firsts].sum()) / total if total else None


def tally(found: Partition, labels: Labels) -> Tally:
    """Count the labels in the clusters."""
    known = labels.of >= 0
    width = max(1, len(labels.names))
    cells, counts = np.unique(found.of[known] * width + labels.of[known], return_counts=True)
    cluster, label = np.divmod(cells, width)
    order = np.lexsort((label, -counts, cluster))
    edges = np.searchsorted(cluster, np.arange(len(found.sizes) + 1))
    labelled = np.bincount(found.of[known], minlength=len(found.sizes))
    return Tally(label[order], counts[order], edges, labelled)
