"""The clusters of a run's last clustering, their videos, and how they came about."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from slic.cache.clusterings import Clusterings, epoch_of
from slic.clips.seeding import seeded
from slic.page.videos import Videos
from slic.report.changes import changes, columns_of
from slic.report.partition import LabelCounts, Partition, labels_of, partition

LISTED = 500
VIDEOS_PER_CLUSTER = 24
TOP_LABELS = 4
MOST_TEXT = 1_500_000  # characters of the names of all videos shown


def clusters(
    found: Clusterings, videos: Videos | None, *, known: Mapping[str, str | None], seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Build the section `clusters`, and remarks on what it leaves out.

    Args:
        found: one clustering or more, of one video or more.
        videos: receives the videos that are shown, at most 24 per cluster; None shows none.
        known: labels by video id.
        seed: random seed of the sample of videos.

    Returns:
        clustering, epoch, videos, count, singletons, purity, sizes, listed (the 500 largest:
        id, size, purity, labels, videos), changes and columns (see `changes`). Purity is the
        share of a cluster's most frequent label among its labelled videos.
    """
    labels = labels_of(found.ids, known)
    parts = [partition(name, found.named[name]) for name in columns_of(list(found.named))]
    last = parts[-1]
    counts = LabelCounts(last, labels)
    sizes = np.unique(last.sizes, return_counts=True)
    section = {
        "clustering": last.name,
        "epoch": epoch_of(last.name),
        "videos": len(found.ids),
        "count": len(last.sizes),
        "singletons": int((last.sizes == 1).sum()),
        "purity": counts.mean_purity(),
        "sizes": [[int(size), int(times)] for size, times in zip(*sizes, strict=True)],
        "listed": [
            {
                "id": int(last.clusters[place]),
                "size": int(last.sizes[place]),
                "purity": counts.purity(place),
                "labels": [[label, n] for label, n in counts.of(place)[:TOP_LABELS]],
                "videos": [],
            }
            for place in last.order[:LISTED].tolist()
        ],
        **changes(parts, labels),
    }
    remarks = []
    if len(last.sizes) > LISTED:
        remarks.append(f"The {LISTED} largest of {len(last.sizes):,} clusters are listed.")
    if videos is not None and not _add_videos(section["listed"], last, found, videos, seed):
        remarks.append("Some clusters show no video, because the names of videos are very long.")
    return section, remarks


def _add_videos(
    listed: list[dict[str, Any]], last: Partition, found: Clusterings, videos: Videos, seed: int
) -> bool:
    """Choose the videos of each listed cluster; return whether there was room for all."""
    members = np.split(np.argsort(last.codes, kind="stable"), np.cumsum(last.sizes)[:-1])
    room = MOST_TEXT
    for cluster, place in zip(listed, last.order, strict=False):
        own = members[place]
        if len(own) > VIDEOS_PER_CLUSTER:
            draws = seeded(seed, last.name, cluster["id"])
            own = np.sort(draws.choice(own, VIDEOS_PER_CLUSTER, replace=False))
        names = [found.ids[i] for i in own.tolist()]
        room -= sum(map(len, names))
        if room < 0:
            return False
        cluster["videos"] = [videos.row_of(name) for name in names]
    return True
