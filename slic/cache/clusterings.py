"""clusters.h5 of a run: the cluster of every training video at every clustering."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slic.cache.embeddings import TEXT, whole_hdf5
from slic.cache.hdf5 import GuardedFile
from slic.errors import CheckpointError
from slic.runtime.disk import raise_if_unreadable
from slic.runtime.text import escape

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
    """What a clusters.h5 holds: `video` (N,) ids, and `epoch00000` (N,) int64 each.

    Raises:
        CheckpointError: missing, damaged, or no such file.
        DiskError: the system refuses to read it.
    """
    try:
        with GuardedFile(path) as file:
            return clusterings_in(file)
    # h5py raises many kinds for damaged files.
    except Exception as error:
        raise_if_unreadable(path, error)
        reason = escape(str(error).splitlines()[0][:160]) if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read ({reason}); move it away and run the same command again"
        ) from None


def clusterings_in(file: GuardedFile) -> Clusterings:
    """The same of an open file.

    Raises:
        ValueError: it is not such a file; damaged ones lead to errors of many kinds.
    """
    ids = file.texts(VIDEO).tolist()
    if len(set(ids)) < len(ids):
        raise ValueError("it holds a video twice")
    names = sorted((name for name in file.names() if name != VIDEO), key=epoch_of)
    named = {name: file.numbers(name, dtype=np.int64, ndim=1) for name in names}
    for name, clusters in named.items():
        if len(clusters) != len(ids):
            raise ValueError(f"{name} is of {len(clusters)} videos, not of {len(ids)}")
    return Clusterings(ids, named)


def record_clusters(path: Path, epoch: int, clusters: Mapping[str, int]) -> None:
    """Add one clustering to clusters.h5: `video` (N,) ids, and `epoch00000` (N,) int64 each.

    The file is written anew and renamed, so that a reader or a crash never meets half of it.

    Raises:
        CheckpointError: what is there already is damaged.
    """
    ids = list(clusters)
    known = _known_clusters(path, ids) if path.exists() else {}
    known[clustering_name(epoch)] = np.fromiter(clusters.values(), dtype=np.int64)
    with whole_hdf5(path) as file:
        file.create_dataset(VIDEO, data=ids, dtype=TEXT)
        for key in sorted(known):
            file.create_dataset(key, data=known[key], fletcher32=known[key].size > 0)


def _known_clusters(path: Path, ids: list[str]) -> dict[str, NDArray[np.int64]]:
    """The clusterings of a file of these videos, by name; none of other videos."""
    found = read_clusterings(path)
    return found.named if found.ids == ids else {}
