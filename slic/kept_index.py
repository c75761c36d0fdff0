"""A faiss index of an embedding cache's rows, built once and kept beside it.

`<cache>.<feature>.faiss` is an exact index (IndexFlatIP) of the rows, each of length one, as
`faiss.read_index` reads it. Behind what faiss reads stand `slic of ` and the CRC-32C of the
cache's rows, then `slic sum` and the CRC-32C of all before it, both little-endian.

faiss itself never parses the file, which a stranger may have made: header and size must be those
of such an index, and the rows, mapped into memory rather than read, are handed to faiss as such.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import google_crc32c
import numpy as np

from slic.cache import EmbeddingCache
from slic.cache.hdf5 import SEAL, check_seal
from slic.config import Feature
from slic.disk import raise_refusal, whole_file
from slic.errors import CacheError, DiskError
from slic.neighbours import FloatRows, unit_float32
from slic.regular import open_regular

_HEADER = struct.Struct("<4siqqqBiQ")  # of faiss: kind, D, N, two fillers, trained, metric, N * D
_FILLER = 1 << 20
_INNER_PRODUCT = 0
_OF = b"slic of "
_SUM_BYTES = 4
_PIECE = 1 << 20  # bytes summed up at a time


def index_path(cache: Path, feature: Feature) -> Path:
    """Where the index of a cache's feature is kept."""
    return cache.with_name(f"{cache.name.removesuffix('.h5')}.{feature}.faiss")


def index_paths(cache: Path) -> list[Path]:
    """The indexes that a cache has."""
    paths = [index_path(cache, feature) for feature in get_args(Feature)]
    return [path for path in paths if path.is_file()]


def stray_indexes(folder: Path) -> list[Path]:
    """Indexes in a folder whose cache is there no more."""
    found = sorted(folder.glob("[!.]*.faiss"))
    return [path for path in found if (of := cache_of(path)) and not of[0].exists()]


def cache_of(index: Path) -> tuple[Path, Feature] | None:
    """The cache that a file is an index of, by its name, and of which feature."""
    for feature in get_args(Feature):
        if index.name.endswith(f".{feature}.faiss"):
            return index.with_name(f"{index.name.removesuffix(f'.{feature}.faiss')}.h5"), feature
    return None


def unit_rows(
    cache: EmbeddingCache, feature: Feature, *, say: Callable[[str], None] = print
) -> FloatRows:
    """A cache's rows, each of length one: from its index, or computed and kept as one.

    Args:
        cache: N videos or windows of them.
        feature: which embedding.
        say: takes a line where an index is damaged, or cannot be kept.

    Returns:
        (N, D) float32, not to be written to: it may be a mapped file.

    Raises:
        WorkError: rows that hold NaN or infinity.
    """
    path = index_path(cache.path, feature)
    rows = _rows(cache, feature)
    own = _sum_of(rows)
    try:
        return _mapped(path, rows.shape, own)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        say(f"{path}: {said}; it is made again")
    unit = unit_float32(rows, name=feature)
    try:
        _write(path, unit, own)
    except DiskError as error:
        say(f"the search index is not kept: {error}")
    return unit


def index_fault(path: Path) -> str | None:
    """What is wrong with a kept index, or None.

    Raises:
        DiskError: the system refuses to read it.
    """
    found = cache_of(path)
    if found is None:
        return "is an index of no known embedding"
    file, feature = found
    try:
        rows = _rows(EmbeddingCache(file), feature)
    except CacheError:
        return "its embedding cache is gone or damaged"
    try:
        _mapped(path, rows.shape, _sum_of(rows))
    except (OSError, ValueError) as error:
        raise_refusal(path, error)
        return str(error)
    return None


def _rows(cache: EmbeddingCache, feature: Feature) -> FloatRows:
    return cache.backbone if feature == "backbone" else cache.projection


def _header(shape: tuple[int, ...]) -> bytes:
    count, width = shape
    sizes = (width, count, _FILLER, _FILLER, 1, _INNER_PRODUCT, count * width)
    return _HEADER.pack(b"IxFI", *sizes)


def _mapped(path: Path, shape: tuple[int, ...], own: bytes) -> FloatRows:
    """The rows of an index file, mapped into memory.

    Raises:
        OSError: it is missing, or cannot be read.
        ValueError: it is damaged, or not of that cache; the message says so.
    """
    count, width = shape
    length = 4 * count * width
    tail = len(_OF) + len(SEAL) + 2 * _SUM_BYTES
    with open(open_regular(path), "rb") as file:
        if file.read(_HEADER.size) != _header(shape):
            raise ValueError(f"is no index of {count:,} rows of {width} numbers")
        if os.fstat(file.fileno()).st_size != _HEADER.size + length + tail:
            raise ValueError("is cut short, or too long")
        if not check_seal(file):
            raise ValueError("has no checksum")
        file.seek(_HEADER.size + length)
        if file.read(len(_OF) + _SUM_BYTES) != _OF + own:
            raise ValueError("is of another cache")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    rows = np.frombuffer(mapped, dtype="<f4", count=count * width, offset=_HEADER.size)
    return rows.reshape(shape)


def _write(path: Path, unit: FloatRows, own: bytes) -> None:
    total = google_crc32c.Checksum()
    with whole_file(path) as file:

        def put(part: bytes) -> None:
            file.write(part)
            total.update(part)

        put(_header(unit.shape))
        for piece in _pieces(unit):
            put(piece)
        put(_OF + own)
        file.write(SEAL + total.digest()[::-1])


def _sum_of(rows: FloatRows) -> bytes:
    total = google_crc32c.Checksum()
    for piece in _pieces(rows):
        total.update(piece)
    return total.digest()[::-1]


def _pieces(rows: FloatRows) -> Iterator[bytes]:
    """The bytes of rows, little-endian, piece by piece."""
    flat = np.ascontiguousarray(rows, dtype="<f4").reshape(-1)
    for begin in range(0, len(flat), _PIECE // 4):
        yield flat[begin : begin + _PIECE // 4].tobytes()
