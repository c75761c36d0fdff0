"""How clusters merged and split from one clustering to a later one."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from slic.cache.clusterings import epoch_of
from slic.report.partition import LabelCounts, Labels, Numbers, Partition
from slic.runtime.text import counted

MOST_COLUMNS = 6
LARGEST = 15


def columns_of(names: Sequence[str]) -> list[str]:
    """Choose the clusterings to draw: at most six, evenly spaced, with the first and the last."""
    places = np.linspace(0, len(names) - 1, min(MOST_COLUMNS, len(names))).round().astype(int)
    return [names[place] for place in dict.fromkeys(places.tolist())]


def shared(before: Partition, after: Partition) -> Numbers:
    """Return `(P, 3)`: index of an earlier cluster, of a later one, and videos in both."""
    width = len(after.sizes)
    cells, counts = np.unique(before.codes * width + after.codes, return_counts=True)
    return np.stack([*np.divmod(cells, width), counts], axis=1)


def merged(cells: Numbers, before: Partition, after: Partition) -> int:
    """Count the later clusters that contain more than half of each of two or more earlier ones.

    Earlier clusters of a single video do not count.
    """
    row, column, videos = cells.T
    most = (2 * videos > before.sizes[row]) & (before.sizes[row] > 1)
    return int((np.bincount(column[most], minlength=1) > 1).sum())


def changes(parts: Sequence[Partition], labels: Labels) -> dict[str, Any]:
    """Compare successive clusterings of the same videos.

    Returns:
        `changes`, one per pair of clusterings: from, to, agreement (adjusted mutual information),
        merged, split (the reverse of merged), same (clusters of exactly the same videos) and
        flows [[node before, node after, videos]]; and `columns`, one per clustering: clustering,
        epoch, count, nodes (its 15 largest clusters, and one node for all others).
    """
    return {
        "changes": [_change(before, after) for before, after in pairwise(parts)],
        "columns": [_column(part, labels) for part in parts],
    }


def _change(before: Partition, after: Partition) -> dict[str, Any]:
    cells = shared(before, after)
    row, column, videos = cells.T
    same = (videos == before.sizes[row]) & (videos == after.sizes[column])
    flows = np.zeros((LARGEST + 1, LARGEST + 1), dtype=np.int64)
    np.add.at(flows, (_nodes(before)[row], _nodes(after)[column]), videos)
    return {
        "from": before.name,
        "to": after.name,
        "agreement": agreement(cells, before.sizes, after.sizes),
        "merged": merged(cells, before, after),
        "split": merged(cells[:, [1, 0, 2]], after, before),
        "same": int(same.sum()),
        "flows": [[i, j, int(flows[i, j])] for i, j in np.argwhere(flows).tolist()],
    }


def _nodes(part: Partition) -> Numbers:
    """Return `(K,)` the node that each cluster is drawn in."""
    nodes = np.full(len(part.sizes), LARGEST)
    largest = part.order[:LARGEST]
    nodes[largest] = np.arange(len(largest))
    return nodes


def _column(part: Partition, labels: Labels) -> dict[str, Any]:
    counts = LabelCounts(part, labels)
    nodes = [
        {
            "name": f"cluster {part.clusters[place]}",
            "size": int(part.sizes[place]),
            "label": next((label for label, _ in counts.of(place)), None),
            "share": counts.purity(place),
        }
        for place in part.order[:LARGEST].tolist()
    ]
    if rest := part.order[LARGEST:].tolist():
        size = int(part.sizes[rest].sum())
        nodes.append(
            {"name": counted(len(rest), "other"), "size": size, "label": None, "share": None}
        )
    about = {"clustering": part.name, "epoch": epoch_of(part.name), "count": len(part.sizes)}
    return {**about, "nodes": nodes}


def agreement(cells: Numbers, rows: Numbers, columns: Numbers) -> float:
    """Compute the adjusted mutual information (arithmetic mean) of two clusterings.

    1 for equal clusterings, about 0 for unrelated ones: Vinh et al., "Information Theoretic
    Measures for Clusterings Comparison", JMLR 2010. scikit-learn's takes a step for every pair
    of clusters, hours for two clusterings of 50,000. Its expectation depends only on the sizes
    of the clusters, of which there are few, so here it takes a step for every pair of sizes.

    Args:
        cells: `(P, 3)`, from `shared`.
        rows: `(R,)` sizes of one clustering's clusters.
        columns: `(C,)` sizes of the other's.
    """
    from scipy.stats import entropy

    if len(cells) == len(rows) == len(columns):
        return 1.0  # equal clusterings
    videos, total = cells[:, 2], int(rows.sum())
    independent = rows[cells[:, 0]].astype(float) * columns[cells[:, 1]]
    information = float((videos / total * np.log(videos * total / independent)).sum())
    sizes = zip(*np.unique(rows, return_counts=True), strict=True)
    others, times = np.unique(columns, return_counts=True)
    expected = sum(n * _expected_share(int(size), others, times, total) for size, n in sizes)
    mean = (entropy(rows) + entropy(columns)) / 2
    # Some clusterings leave nothing to chance, such as one cluster of all videos.
    if mean - expected <= np.finfo(float).eps:
        return 0.0
    return float((information - expected) / (mean - expected))


def _expected_share(size: int, others: Numbers, times: Numbers, total: int) -> float:
    """Compute one cluster's expected share of the information, with `times` clusters of `others`.

    The number of videos that two random clusters share is hypergeometric.
    """
    from scipy.special import gammaln

    def log_choose(n: Any, k: Any) -> Any:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    least = np.maximum(1, size + others - total)
    count = np.minimum(size, others) - least + 1
    other = np.repeat(others, count)
    videos = np.arange(len(other)) - np.repeat(np.cumsum(count) - count - least, count)
    chance = np.exp(
        log_choose(other, videos)
        + log_choose(total - other, size - videos)
        - log_choose(total, size)
    )
    gain = videos / total * np.log(videos * (total / (size * other.astype(float))))
    return float((np.repeat(times, count) * gain * chance).sum())
