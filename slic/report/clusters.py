"""The clusters of a run's last clustering, their videos, and how they came about."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from slic.cache.clusterings import Clusterings, epoch_of
from slic.clips.seeding import seeded
from slic.page.videos import Videos
from slic.report.changes import changes, drawn
from slic.report.partition import Labels, Partition, Tally, labels_of, partition, tally

LISTED = 500
SHOWN = 24  # videos of a cluster
TOP_LABELS = 4
MOST_TEXT = 1_500_000  # characters of the names of all videos shown


def last_clustering(found: Clusterings) -> dict[str, int]:
    """`{video id: cluster}` of the last clustering."""
    *_, clusters = found.named.values()
    return dict(zip(found.ids, clusters.tolist(), strict=True))


def clusters(
    found: Clusterings, videos: Videos | None, *, known: Mapping[str, str | None], seed: int
) -> tuple[dict[str, Any], list[str]]:
    """The section `clusters` of a report, and remarks on what it leaves out.

    Args:
        found: one clustering or more, of one video or more.
        videos: takes the videos that are shown: of each listed cluster at most 24, drawn at
            random by `seed`; None where the videos of the clusters are not those of the report.
        known: labels by video id.
        seed: of the draw.

    Returns:
        clustering, epoch, videos, count, singletons, purity, sizes, listed (the 500 largest:
        id, size, purity, labels, videos), changes and columns (see `changes`). Purity is the
        share of a cluster's most frequent label among its videos with a label.
    """
    labels = labels_of(found.ids, known)
    # One clustering at a time: of 240,000 videos there may be hundreds.
    parts = [partition(name, found.named[name]) for name in drawn(list(found.named))]
    last = parts[-1]
    counts = tally(last, labels)
    sizes = np.unique(last.sizes, return_counts=True)
    section = {
        "clustering": last.name,
        "epoch": epoch_of(last.name),
        "videos": len(found.ids),
        "count": len(last.sizes),
        "singletons": int((last.sizes == 1).sum()),
        "purity": counts.purity(),
        "sizes": [[int(size), int(times)] for size, times in zip(*sizes, strict=True)],
        "listed": _listed(last, counts, labels),
        **changes(parts, labels),
    }
    remarks = []
    if len(last.sizes) > LISTED:
        remarks.append(f"The {LISTED} largest of {len(last.sizes):,} clusters are listed.")
    if videos is None:
        return section, remarks
    if not _show(section["listed"], last, found, videos, seed):
        remarks.append("Of some clusters no video is shown: the names of videos are very long.")
    return section, remarks


def _listed(last: Partition, counts: Tally, labels: Labels) -> list[dict[str, Any]]:
    return [
        {
            "id": int(last.clusters[place]),
            "size": int(last.sizes[place]),
            "purity": counts.share(place),
            "labels": [[labels.names[i], n] for i, n in counts.of(place)[:TOP_LABELS]],
            "videos": [],
        }
        for place in last.by_size()[:LISTED].tolist()
    ]


def _show(
    listed: list[dict[str, Any]], last: Partition, found: Clusterings, videos: Videos, seed: int
) -> bool:
    """Draw the videos to show of each listed cluster; whether there was room for all."""
    members = np.argsort(last.of, kind="stable")
    edges = np.concatenate([[0], np.cumsum(last.sizes)])
    room = MOST_TEXT
    for cluster, place in zip(listed, last.by_size()[:LISTED].tolist(), strict=True):
        own = members[edges[place] : edges[place + 1]]
        if len(own) > SHOWN:
            draws = seeded(seed, last.name, cluster["id"])
            own = np.sort(draws.choice(own, SHOWN, replace=False))
        names = [found.ids[i] for i in own.tolist()]
        room -= sum(map(len, names))
        if room < 0:
            return False
        cluster["videos"] = [videos.row_of(name) for name in names]
    return True
