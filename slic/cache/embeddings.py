"""The embedding cache: one immutable HDF5 file for a store, a checkpoint and a protocol."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic import __version__
from slic.cache.hdf5 import Columns, column, read_attributes, read_columns, write_hdf5
from slic.datasets.segments import window_name
from slic.errors import CacheError
from slic.runtime.regular_files import brief

FORMAT = 2
LATEST_S = 1e12  # seconds into a video: window names are exact up to here
PARTS = {"train", "test", "unused"}
SPLIT_NAMES = {1: "split", 2: "split2", 3: "split3"}


@dataclass(frozen=True)
class WindowPositions:
    """The video and the time span of each of N windows.

    Attributes:
        of: `(N,)` str, ids of the videos.
        start, end: `(N,)` float64, seconds.
    """

    of: NDArray[np.str_]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    def names(self) -> list[str]:
        """Return the name of each window: `<video>#t=<start>,<end>`."""
        rows = zip(self.of.tolist(), self.start.tolist(), self.end.tolist(), strict=True)
        return [window_name(of, start, end) for of, start, end in rows]


class EmbeddingCache:
    """Embeddings of a store's videos, read from one HDF5 file.

    Attributes:
        ids: `(N,)` str, ids of the videos.
        backbone: `(N, D)` float32, before the projection head; D is 512 for R3D-18.
        projection: `(N, 128)` float32, after the projection head.
        labels: `(N,)` str, empty for a video without a label; None if no video has one.
        splits: `{number: (N,) str}` of `train`, `test` or `unused`.
        places: the position of each row, if rows are windows of videos; `ids` then holds the
            names of the windows. None if each row is a video.
        attributes: checkpoint, store, protocol, number of videos, format and version.

    Args:
        path: the file.

    Raises:
        CacheError: the file is missing, damaged, no embedding cache, or of another format.
        DiskError: the system refuses to read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.attributes = cache_attributes(self.path)
        _check_format(self.path, self.attributes["format"])
        try:
            self._load(read_columns(self.path))
        except ValueError as error:
            raise CacheError(f"{self.path}: not an embedding cache ({error})") from None

    def _load(self, columns: Columns) -> None:
        self.ids = column(columns, "video", np.str_)
        self.backbone = column(columns, "backbone", np.float32, ndim=2)
        self.projection = column(columns, "projection", np.float32, ndim=2)
        self.labels = column(columns, "label", np.str_) if "label" in columns else None
        self.splits = {
            number: column(columns, name, np.str_)
            for number, name in SPLIT_NAMES.items()
            if name in columns
        }
        self.places = _places(columns) if "of" in columns else None
        if any(len(rows) != len(self.ids) for rows in columns.values()):
            raise ValueError("its datasets differ in length")
        if len(set(self.ids.tolist())) < len(self.ids):
            raise ValueError("it contains a video twice")
        for number, words in self.splits.items():
            if set(words.tolist()) - PARTS:
                raise ValueError(f"split {number} has other parts than train, test and unused")

    @property
    def videos(self) -> NDArray[np.str_]:
        """The id of each row's video, `(N,)`."""
        return self.ids if self.places is None else self.places.of


def cache_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of a cache of any format, and nothing else of it.

    Raises:
        CacheError: the file is missing, damaged, or no embedding cache.
        DiskError: the system refuses to read it.
    """
    try:
        attributes = read_attributes(path)
    except FileNotFoundError:
        raise CacheError(f"{path}: no such embedding cache") from None
    except ValueError as error:
        raise CacheError(f"{path}: not an embedding cache ({error})") from None
    found = attributes.get("format")
    if type(found) is not int or found < 1:
        raise CacheError(f"{path}: not an embedding cache (format {brief(found)})")
    return attributes


def is_outdated(path: Path) -> bool:
    """Return whether an earlier slic wrote a cache, which must be computed again.

    Raises:
        CacheError, DiskError: as `cache_attributes`.
    """
    return cache_attributes(path)["format"] < FORMAT


def _check_format(path: Path, found: int) -> None:
    if found < FORMAT:
        raise CacheError(
            f"{path}: written by an earlier version of slic (format {found}, now {FORMAT});"
            " delete it and run the same command again"
        )
    if found > FORMAT:
        raise CacheError(f"{path}: format {found}, but this slic reads {FORMAT}; upgrade it")


def _places(columns: Columns) -> WindowPositions:
    of = column(columns, "of", np.str_)
    start, end = (column(columns, name, np.float64) for name in ("start", "end"))
    if len(start) != len(end):
        raise ValueError("its datasets differ in length")
    if not ((start >= 0) & (start < end) & (end <= LATEST_S)).all():
        raise ValueError("a window has impossible times")
    return WindowPositions(of, start, end)


def write_embeddings(
    path: Path,
    ids: Sequence[str],
    *,
    backbone: NDArray[np.float32],
    projection: NDArray[np.float32],
    labels: Sequence[str | None],
    splits: Mapping[int, Sequence[str | None]],
    attributes: Mapping[str, str | int | float],
    places: WindowPositions | None = None,
) -> None:
    """Write a cache aside, then rename it to `path`.

    Args:
        path: the file to create or replace.
        ids: `(N,)` ids of the videos, or names of the windows.
        backbone: `(N, D)` embeddings before the projection head.
        projection: `(N, P)` embeddings after it.
        labels: `(N,)` class names; None where unknown.
        splits: `{number: (N,)}` of `train`, `test`, `unused`, or None outside that split.
        attributes: where the embeddings come from: checkpoint, store, protocol.
        places: positions of N windows; None if each row is a video.

    Raises:
        DiskError: the file system refuses; the previous file stays as it is.
    """
    columns: dict[str, NDArray[Any] | Sequence[str]] = {
        "video": ids,
        "backbone": np.asarray(backbone, np.float32),
        "projection": np.asarray(projection, np.float32),
    }
    if places is not None:
        columns |= {"of": places.of.tolist(), "start": places.start, "end": places.end}
    if any(label is not None for label in labels):
        columns["label"] = [label or "" for label in labels]
    for number, split in splits.items():
        if any(split):
            columns[SPLIT_NAMES[number]] = [word or "unused" for word in split]
    videos = len(set(places.of.tolist())) if places is not None else len(ids)
    write_hdf5(
        path,
        columns,
        {**attributes, "videos": videos, "format": FORMAT, "slic": __version__},
    )
