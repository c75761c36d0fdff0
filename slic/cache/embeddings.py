"""The embedding cache: one immutable HDF5 file for a store, a checkpoint and a protocol."""

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from slic import __version__
from slic.errors import CacheError

FORMAT = 1
TEXT = h5py.string_dtype("utf-8")
SPLIT_NAMES = {1: "split", 2: "split2", 3: "split3"}


class EmbeddingCache:
    """Embeddings of a store's videos, read from one HDF5 file.

    Attributes:
        ids: `(N,)` str, the videos' ids.
        backbone: `(N, D)` float32, before the projection head; D is 512 for R3D-18.
        projection: `(N, 128)` float32, after it.
        labels: `(N,)` str, empty where a video has none; None if no video has one.
        splits: `{number: (N,) str}` of `train`, `test` or `unused`.
        attributes: checkpoint, store, protocol, format and version.

    Args:
        path: the file.

    Raises:
        CacheError: missing, foreign, damaged, or of a newer format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with h5py.File(self.path, "r") as file:
                self._load(file)
        except FileNotFoundError:
            raise CacheError(f"{self.path}: no such embedding cache") from None
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CacheError(f"{self.path}: not an embedding cache ({reason})") from None

    def _load(self, file: h5py.File) -> None:
        self.attributes: dict[str, Any] = {
            k: v.item() if isinstance(v, np.generic) else v for k, v in file.attrs.items()
        }
        if int(self.attributes["format"]) > FORMAT:
            found = self.attributes["format"]
            raise CacheError(f"{self.path}: format {found}, but this slic reads {FORMAT}")
        self.ids: NDArray[np.str_] = _text(file["video"])
        self.backbone: NDArray[np.float32] = file["backbone"][:]
        self.projection: NDArray[np.float32] = file["projection"][:]
        self.labels: NDArray[np.str_] | None = _text(file["label"]) if "label" in file else None
        self.splits: dict[int, NDArray[np.str_]] = {
            number: _text(file[name]) for number, name in SPLIT_NAMES.items() if name in file
        }
        columns = [self.backbone, self.projection, *self.splits.values()]
        columns += [] if self.labels is None else [self.labels]
        if any(len(column) != len(self.ids) for column in columns):
            raise ValueError("its data sets differ in length")


def _text(dataset: h5py.Dataset) -> NDArray[np.str_]:
    return np.array(dataset.asstr()[:], dtype=np.str_)


def write_embeddings(
    path: Path,
    ids: Sequence[str],
    *,
    backbone: NDArray[np.float32],
    projection: NDArray[np.float32],
    labels: Sequence[str | None],
    splits: Mapping[int, Sequence[str | None]],
    attributes: Mapping[str, str | int | float],
) -> None:
    """Write a cache aside and rename it into place, whole.

    Args:
        path: where the cache shall be.
        ids: `(N,)` video ids.
        backbone: `(N, D)` float32.
        projection: `(N, P)` float32.
        labels: `(N,)` class names; None where unknown.
        splits: `{number: (N,)}` of `train`, `test`, `unused`, or None outside that split.
        attributes: what the embeddings are of: checkpoint, store, protocol.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with h5py.File(aside, "w") as file:
            file.attrs.update({**attributes, "format": FORMAT, "slic": __version__})
            file.create_dataset("video", data=list(ids), dtype=TEXT)
            # HDF5 checks these sums as it reads, so that a flipped bit is an error.
            for name, rows in (("backbone", backbone), ("projection", projection)):
                file.create_dataset(name, data=rows.astype(np.float32), fletcher32=rows.size > 0)
            if any(label is not None for label in labels):
                file.create_dataset("label", data=[label or "" for label in labels], dtype=TEXT)
            for number, split in splits.items():
                if any(split):
                    words = [word or "unused" for word in split]
                    file.create_dataset(SPLIT_NAMES[number], data=words, dtype=TEXT)
        _sync_file(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
