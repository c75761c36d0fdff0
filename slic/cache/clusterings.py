"""clusters.h5 of a run: the cluster of every training video at every clustering."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slic.cache.hdf5 import column, read_columns, write_hdf5
from slic.errors import CheckpointError

FILE = "clusters.h5"
VIDEO = "video"
WIDEST_KEY = 5
_NAME = re.compile(r"epoch(\d{1,9})")


@dataclass(frozen=True)
class Clusterings:
    """All clusterings of the same N videos.

    Attributes:
        ids: of the videos, each once.
        named: `{"epoch00019": (N,) int64 clusters}`, in order of epoch.
    """

    ids: list[str]
    named: dict[str, NDArray[np.int64]]


def clustering_name(epoch: int) -> str:
    """`epoch00019`: the clustering made after so many epochs."""
    return f"epoch{epoch:0{WIDEST_KEY}d}"


def epoch_of(name: str) -> int:
    """The epoch of a clustering's name.

    Raises:
        ValueError: it is no such name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name[:40]!a} is no clustering")
    return int(match[1])


def read_clusterings(path: Path) -> Clusterings:
    """Read a clusters.h5: `video` (N,) ids, and `epoch00000` (N,) int64 each.

    Raises:
        CheckpointError: it is missing, damaged, or no such file.
        DiskError: the system refuses to read it.
    """
    try:
        columns = read_columns(path)
        ids = column(columns, VIDEO, np.str_).tolist()
        if len(set(ids)) < len(ids):
            raise ValueError("it holds a video twice")
        names = sorted(columns.keys() - {VIDEO}, key=epoch_of)
        named = {name: column(columns, name, np.int64) for name in names}
        if any(len(clusters) != len(ids) for clusters in named.values()):
            raise ValueError("its datasets differ in length")
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); move it away and run the same command again"
        ) from None
    return Clusterings(ids, named)


def record_clusters(path: Path, epoch: int, clusters: Mapping[str, int]) -> None:
    """Add one clustering to a clusters.h5; clusterings of other videos are dropped.

    The file is written again and renamed, so that neither a reader nor a crash meets half of it.

    Args:
        path: the file; created if missing.
        epoch: number of epochs complete.
        clusters: `{video: cluster}`.

    Raises:
        CheckpointError: the existing file is damaged.
        DiskError: the file system refuses; the previous file stays as it is.
    """
    ids = list(clusters)
    known: dict[str, NDArray[np.int64]] = {}
    if path.exists():
        found = read_clusterings(path)
        known = found.named if found.ids == ids else {}
    known[clustering_name(epoch)] = np.fromiter(clusters.values(), dtype=np.int64)
    write_hdf5(path, {VIDEO: ids, **{name: known[name] for name in sorted(known)}})
