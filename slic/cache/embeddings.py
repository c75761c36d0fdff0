"""The embedding cache: one immutable HDF5 file for a store, a checkpoint and a protocol."""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from slic import __version__
from slic.cache.hdf5 import GuardedFile, seal_of
from slic.datasets.segments import window_name
from slic.errors import CacheError
from slic.runtime.disk import atomic_write, raise_if_unreadable
from slic.runtime.text import escape

FORMAT = 1
LATEST_S = 1e12  # seconds into a video
TEXT = h5py.string_dtype("utf-8")
PARTS = {"train", "test", "unused"}
SPLIT_NAMES = {1: "split", 2: "split2", 3: "split3"}


@dataclass(frozen=True)
class Places:
    """Where each of N windows lies.

    Attributes:
        of: `(N,)` str, the videos' ids.
        start, end: `(N,)` float64, seconds.
    """

    of: NDArray[np.str_]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    def names(self) -> list[str]:
        """What each window is called: `<video>#t=<start>,<end>`."""
        rows = zip(self.of.tolist(), self.start.tolist(), self.end.tolist(), strict=True)
        return [window_name(of, start, end) for of, start, end in rows]


class EmbeddingCache:
    """Embeddings of a store's videos, read from one HDF5 file.

    Attributes:
        ids: `(N,)` str, the videos' ids.
        backbone: `(N, D)` float32, before the projection head; D is 512 for R3D-18.
        projection: `(N, 128)` float32, after it.
        labels: `(N,)` str, empty where a video has none; None if no video has one.
        splits: `{number: (N,) str}` of `train`, `test` or `unused`.
        places: where each row lies, if rows are windows of videos, whose ids are then their
            names; None where each row is a video.
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
            raise_if_unreadable(self.path, error)
            reason = (
                escape(str(error).splitlines()[0][:160]) if str(error) else type(error).__name__
            )
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
        self.places = _places(file) if "of" in names else None
        columns = [self.backbone, self.projection, *self.splits.values()]
        columns += [] if self.labels is None else [self.labels]
        if (at := self.places) is not None:
            columns += [at.of, at.start, at.end]
        if any(len(column) != len(self.ids) for column in columns):
            raise ValueError("its data sets differ in length")
        if len(set(self.ids.tolist())) < len(self.ids):
            raise ValueError("it holds a video twice")
        for number, words in self.splits.items():
            if set(words.tolist()) - PARTS:
                raise ValueError(f"split {number} has other parts than train, test and unused")


def _places(file: GuardedFile) -> Places:
    start, end = (file.numbers(name, dtype=np.float64, ndim=1) for name in ("start", "end"))
    if len(start) != len(end):
        raise ValueError("its data sets differ in length")
    if not ((start >= 0) & (start < end) & (end <= LATEST_S)).all():
        raise ValueError("its windows lie nowhere")
    return Places(file.texts("of"), start, end)


def write_embeddings(
    path: Path,
    ids: Sequence[str],
    *,
    backbone: NDArray[np.float32],
    projection: NDArray[np.float32],
    labels: Sequence[str | None],
    splits: Mapping[int, Sequence[str | None]],
    attributes: Mapping[str, str | int | float],
    places: Places | None = None,
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
        places: where N windows lie; None where each row is a video.
    """
    texts = {"video": list(ids)}
    rows = {"backbone": backbone, "projection": projection}
    numbers: dict[str, NDArray[Any]] = {n: np.asarray(v, np.float32) for n, v in rows.items()}
    if places is not None:
        texts["of"] = places.of.tolist()
        numbers |= {"start": places.start, "end": places.end}
    if any(label is not None for label in labels):
        texts["label"] = [label or "" for label in labels]
    for number, split in splits.items():
        if any(split):
            texts[SPLIT_NAMES[number]] = [word or "unused" for word in split]
    about = {**attributes, "format": FORMAT, "slic": __version__}
    with whole_hdf5(path) as file:
        file.attrs.update(about)
        for name, words in texts.items():
            file.create_dataset(name, data=words, dtype=TEXT)
        # HDF5 checks these sums as it reads, so that a flipped bit is an error.
        for name, data in numbers.items():
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
    with atomic_write(path) as target:
        body = content.getbuffer()
        target.write(body)
        target.write(seal_of(body))
