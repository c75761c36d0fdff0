"""How clusters merged and split from one clustering to a later one."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from slic.cache.clusterings import epoch_of
from slic.report.agreement import agreement
from slic.report.partition import Labels, Numbers, Partition, tally
from slic.runtime.text import counted

MOST_COLUMNS = 6
LARGEST = 15


def drawn(names: Sequence[str]) -> list[str]:
    """The clusterings to draw: at most six, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(names) - 1, min(MOST_COLUMNS, len(names))).round().astype(int)
    return [names[place] for place in dict.fromkeys(places.tolist())]


def shared(before: Partition, after: Partition) -> Numbers:
    """`(P, 3)`: place of a cluster before, of one after, and the videos that both hold."""
    width = len(after.sizes)
    cells, counts = np.unique(before.of * width + after.of, return_counts=True)
    return np.stack([*np.divmod(cells, width), counts], axis=1)


def merged(cells: Numbers, before: Partition, after: Partition) -> int:
    """Later clusters that hold more than half of each of two or more earlier ones.

    Earlier clusters of a single video do not count.
    """
    row, column, videos = cells.T
    most = (2 * videos > before.sizes[row]) & (before.sizes[row] > 1)
    return int((np.bincount(column[most], minlength=1) > 1).sum())


def split(cells: Numbers, before: Partition, after: Partition) -> int:
    """Earlier clusters that hold more than half of each of two or more later ones.

    Later clusters of a single video do not count.
    """
    return merged(cells[:, [1, 0, 2]], after, before)


def same(cells: Numbers, before: Partition, after: Partition) -> int:
    """Clusters of the same videos before and after, those of a single video among them."""
    row, column, videos = cells.T
    return int(((videos == before.sizes[row]) & (videos == after.sizes[column])).sum())


def changes(chosen: Sequence[Partition], labels: Labels) -> dict[str, Any]:
    """What the section `clusters` says of several clusterings of the same videos.

    Returns:
        `changes`, from each to the next: from, to, agreement (adjusted mutual information),
        merged, split, same, and flows [[node before, node after, videos]]; and `columns`, of
        each: clustering, epoch, count, nodes: its 15 largest clusters and one of all others.
    """
    nodes = [_nodes_of(found) for found in chosen]
    steps = zip(pairwise(chosen), pairwise(nodes), strict=True)
    return {
        "changes": [_change(*pair, *between) for pair, between in steps],
        "columns": [_column(found, labels) for found in chosen],
    }


def _nodes_of(found: Partition) -> Numbers:
    """`(K,)` the node that draws each cluster."""
    nodes = np.full(len(found.sizes), LARGEST)
    largest = found.by_size()[:LARGEST]
    nodes[largest] = np.arange(len(largest))
    return nodes


def _change(
    before: Partition, after: Partition, nodes_before: Numbers, nodes_after: Numbers
) -> dict[str, Any]:
    cells = shared(before, after)
    flows = np.zeros((LARGEST + 1, LARGEST + 1), dtype=np.int64)
    np.add.at(flows, (nodes_before[cells[:, 0]], nodes_after[cells[:, 1]]), cells[:, 2])
    return {
        "from": before.name,
        "to": after.name,
        "agreement": agreement(cells, before.sizes, after.sizes),
        "merged": merged(cells, before, after),
        "split": split(cells, before, after),
        "same": same(cells, before, after),
        "flows": [[i, j, int(flows[i, j])] for i, j in np.argwhere(flows).tolist()],
    }


def _column(found: Partition, labels: Labels) -> dict[str, Any]:
    order = found.by_size()
    counts = tally(found, labels)
    nodes = []
    for place in order[:LARGEST].tolist():
        most = counts.of(place)[:1]
        nodes.append(
            {
                "name": f"cluster {found.clusters[place]}",
                "size": int(found.sizes[place]),
                "label": labels.names[most[0][0]] if most else None,
                "share": counts.share(place),
            }
        )
    if len(order) > LARGEST:
        name = counted(len(order) - LARGEST, "other")
        size = int(found.sizes[order[LARGEST:]].sum())
        nodes.append({"name": name, "size": size, "label": None, "share": None})
    count = len(order)
    return {"clustering": found.name, "epoch": epoch_of(found.name), "count": count, "nodes": nodes}
