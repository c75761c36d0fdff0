"""The embedding cache: one immutable HDF5 file for a store, a checkpoint and a protocol."""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from slic import __version__
from slic.cache.hdf5 import GuardedFile, seal_of
from slic.disk import raise_refusal, whole_file
from slic.errors import CacheError
from slic.listing import shown

FORMAT = 1
TEXT = h5py.string_dtype("utf-8")
PARTS = {"train", "test", "unused"}
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
        DiskError: the system refuses to read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with GuardedFile(self.path) as file:
                self._load(file)
        except CacheError:
            raise
        except FileNotFoundError:
            raise CacheError(f"{self.path}: no such embedding cache") from None
        # h5py raises many kinds for damaged files, AttributeError and SystemError among them.
        except Exception as error:
            raise_refusal(self.path, error)
            reason = shown(str(error).splitlines()[0][:160]) if str(error) else type(error).__name__
            raise CacheError(f"{self.path}: not an embedding cache ({reason})") from None

    def _load(self, file: GuardedFile) -> None:
        self.attributes: dict[str, Any] = file.attributes()
        found = self.attributes["format"]
        if not isinstance(found, int) or found < 1:
            raise ValueError(f"format {found!r}")
        if found > FORMAT:
            raise CacheError(f"{self.path}: format {found}, but this slic reads {FORMAT}")
        names = file.names()
        self.ids: NDArray[np.str_] = file.texts("video")
        self.backbone: NDArray[np.float32] = file.numbers("backbone", dtype=np.float32, ndim=2)
        self.projection: NDArray[np.float32] = file.numbers("projection", dtype=np.float32, ndim=2)
        self.labels: NDArray[np.str_] | None = file.texts("label") if "label" in names else None
        self.splits: dict[int, NDArray[np.str_]] = {
            number: file.texts(name) for number, name in SPLIT_NAMES.items() if name in names
        }
        columns = [self.backbone, self.projection, *self.splits.values()]
        columns += [] if self.labels is None else [self.labels]
        if any(len(column) != len(self.ids) for column in columns):
            raise ValueError("its data sets differ in length")
        if len(set(self.ids.tolist())) < len(self.ids):
            raise ValueError("it holds a video twice")
        for number, words in self.splits.items():
            if set(words.tolist()) - PARTS:
                raise ValueError(f"split {number} has other parts than train, test and unused")


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
    texts = {"video": list(ids)}
    if any(label is not None for label in labels):
        texts["label"] = [label or "" for label in labels]
    for number, split in splits.items():
        if any(split):
            texts[SPLIT_NAMES[number]] = [word or "unused" for word in split]
    about = {**attributes, "format": FORMAT, "slic": __version__}
    with whole_hdf5(path) as file:
        file.attrs.update(about)
        for name, rows in texts.items():
            file.create_dataset(name, data=rows, dtype=TEXT)
        # HDF5 checks these sums as it reads, so that a flipped bit is an error.
        for name, values in (("backbone", backbone), ("projection", projection)):
            data = values.astype(np.float32)
            file.create_dataset(name, data=data, fletcher32=data.size > 0)


@contextlib.contextmanager
def whole_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to fill, which stands at `path` once it is whole.

    It is made in memory: HDF5 itself ends the process with a segmentation fault where a disk
    fills up while it writes (HDF5 2.0).

    Raises:
        DiskError: the file system refuses; what was there before stays.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        yield file
    with whole_file(path) as target:
        body = content.getbuffer()
        target.write(body)
        target.write(seal_of(body))
