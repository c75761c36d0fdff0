"""The clusterings of a run (clusters.h5), and the names that people gave to clusters (csv)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slic.cache.hdf5 import column, read_columns, write_hdf5
from slic.datasets.listing import csv_lines
from slic.errors import CheckpointError, InputError
from slic.runtime.regular_files import brief
from slic.runtime.text import escape, is_one_line

FILE = "clusters.h5"
VIDEO = "video"
NAME_COLUMNS = ["clustering", "cluster", "name"]
LONGEST_NAME = 200  # characters
_EPOCH_DIGITS = 5
_MOST_DIGITS = 18  # of a number that an int64 holds
_NAME = re.compile(r"epoch(\d{1,9})")


@dataclass(frozen=True)
class Clusterings:
    """All clusterings of the same N videos.

    Attributes:
        ids: ids of the videos, each once.
        named: `{"epoch00019": (N,) int64 clusters}`, in order of epoch.
    """

    ids: list[str]
    named: dict[str, NDArray[np.int64]]

    @property
    def last(self) -> tuple[str, dict[str, int]]:
        """Name of the last clustering, and its `{video id: cluster}`."""
        *_, (name, clusters) = self.named.items()
        return name, dict(zip(self.ids, clusters.tolist(), strict=True))


def clustering_name(epoch: int) -> str:
    """Name the clustering made after a number of epochs, such as `epoch00019`."""
    return f"epoch{epoch:0{_EPOCH_DIGITS}d}"


def epoch_of(name: str) -> int:
    """Return the epoch in the name of a clustering.

    Raises:
        ValueError: it is no such name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name[:40]!a} is not the name of a clustering")
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
            raise ValueError("it contains a video twice")
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


def read_names(
    path: Path, clustering: str | None = None, *, known: Collection[int] | None = None
) -> dict[int, str]:
    """Read names of clusters from a csv with the columns `clustering,cluster,name`.

    Args:
        path: the file, in UTF-8 with or without byte order mark; blank lines are skipped.
        clustering: the clustering that they must belong to, such as `epoch00019`. Default: that
            of the first line.
        known: the existing clusters. Default: not checked.

    Returns:
        `{cluster: name}`, without spaces around names.

    Raises:
        InputError: it is no such csv; the message names the line.
    """
    lines = csv_lines(path)
    _check_header(path, next(lines)[1])
    named: dict[int, str] = {}
    for line, cells in lines:
        where = f"{escape(path)} line {line}"
        clustering, cluster, name = _row(where, cells, clustering)
        if known is not None and cluster not in known:
            raise InputError(f"{where}: {clustering} has no cluster {cluster}")
        if cluster in named:
            raise InputError(f"{where}: cluster {cluster} has a name already; keep one of them")
        named[cluster] = name
    return named


def _check_header(path: Path, header: list[str]) -> None:
    if [cell.strip().lower() for cell in header] != NAME_COLUMNS:
        found = ",".join(escape(cell[:40]) for cell in header[: len(NAME_COLUMNS)]) or "none"
        raise InputError(
            f"{escape(path)} line 1: columns found: {found}; expected:"
            f" {','.join(NAME_COLUMNS)}, as the report's page saves them"
        )


def _row(where: str, cells: list[str], clustering: str | None) -> tuple[str, int, str]:
    of, number, name = (cell.strip() for cell in cells)
    if clustering is not None and of != clustering:
        raise InputError(
            f"{where}: names a cluster of {brief(of)}, not of {clustering}: cluster numbers"
            " differ between clusterings"
        )
    # int() takes digits of other scripts and underscores as well.
    if not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        raise InputError(f"{where}: {brief(number)} is not a cluster number")
    if not name or len(name) > LONGEST_NAME or not is_one_line(name):
        raise InputError(f"{where}: a name must be one line of 1 to {LONGEST_NAME} characters")
    return of, int(number), name
