"""An index of an embedding cache's rows, built once and kept beside it.

`<cache>.<feature>.faiss` is an exact index (IndexFlatIP) of the rows, each of length one, as
`faiss.read_index` reads it; from a million rows, an IVF index (kept_lists.py). Behind either stand
`slic of ` and the CRC-32C of the cache's rows, then `slic sum` and the CRC-32C of all before it,
both little-endian.

faiss itself never parses the file, which a stranger may have made: header and size must be those
of such an index, and the rows, mapped into memory rather than read, are handed to faiss as such.
"""

import math
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, get_args

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.config import Feature
from slic.errors import CacheError, DiskError
from slic.neighbours.exact import FloatRows, unit_float32
from slic.neighbours.kept_lists import HEADER as LISTS_HEADER
from slic.neighbours.kept_lists import arrays, header_of, length_of, mapped_lists
from slic.neighbours.lists import Lists, approximate, build_lists
from slic.runtime.disk import atomic_write, raise_if_unreadable
from slic.runtime.regular_files import open_regular

_HEADER = struct.Struct("<4siqqqBiQ")  # of faiss: kind, D, N, two fillers, trained, metric, N * D
_FILLER = 1 << 20
_INNER_PRODUCT = 0
_OF = b"slic of "
SEAL = b"slic sum"
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
) -> FloatRows | Lists:
    """A cache's rows, each of length one: from its index, or computed and kept as one.

    Args:
        cache: N videos or windows of them.
        feature: which embedding.
        say: takes a line where an index is damaged, cannot be kept, or is an IVF index.

    Returns:
        (N, D) float32, not to be written to: it may be a mapped file; from a million rows, in
        the lists of an IVF index.

    Raises:
        WorkError: rows that hold NaN or infinity.
    """
    path = index_path(cache.path, feature)
    rows = _rows(cache, feature)
    own = _sum_of(rows)
    index: FloatRows | Lists | None = None
    try:
        index = _mapped(path, rows.shape, own)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        say(f"{path}: {said}; it is made again")
    if index is None:
        unit = unit_float32(rows, name=feature)
        index = build_lists(unit, k=1) if approximate(len(unit)) else unit
        try:
            _write(path, index, own)
        except DiskError as error:
            say(f"the search index is not kept: {error}")
    if isinstance(index, Lists):
        say(index.told)
    return index


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
        raise_if_unreadable(path, error)
        return str(error)
    return None


def _rows(cache: EmbeddingCache, feature: Feature) -> FloatRows:
    return cache.backbone if feature == "backbone" else cache.projection


def _header(shape: tuple[int, ...]) -> bytes:
    count, width = shape
    sizes = (width, count, _FILLER, _FILLER, 1, _INNER_PRODUCT, count * width)
    return _HEADER.pack(b"IxFI", *sizes)


def _mapped(path: Path, shape: tuple[int, ...], own: bytes) -> FloatRows | Lists:
    """The rows of an index file, mapped into memory.

    Raises:
        OSError: it is missing, or cannot be read.
        ValueError: it is damaged, or not of that cache; the message says so.
    """
    tail = len(_OF) + len(SEAL) + 2 * _SUM_BYTES
    in_lists = approximate(shape[0])
    with open(open_regular(path), "rb") as file:
        length = _length_in_lists(file, shape) if in_lists else _length(file, shape)
        if os.fstat(file.fileno()).st_size != length + tail:
            raise ValueError("is cut short, or too long")
        if not check_seal(file):
            raise ValueError("has no checksum")
        file.seek(length)
        if file.read(len(_OF) + _SUM_BYTES) != _OF + own:
            raise ValueError("is of another cache")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if in_lists:
        return mapped_lists(mapped)
    rows = np.frombuffer(mapped, dtype="<f4", count=math.prod(shape), offset=_HEADER.size)
    return rows.reshape(shape)


def _length(file: BinaryIO, shape: tuple[int, ...]) -> int:
    if file.read(_HEADER.size) != _header(shape):
        raise ValueError(f"is no index of {shape[0]:,} rows of {shape[1]} numbers")
    return _HEADER.size + 4 * math.prod(shape)


def _length_in_lists(file: BinaryIO, shape: tuple[int, ...]) -> int:
    header = file.read(LISTS_HEADER.size)
    if len(header) < LISTS_HEADER.size:
        raise ValueError("is cut short")
    return length_of(header, shape)


def _write(path: Path, index: FloatRows | Lists, own: bytes) -> None:
    total = google_crc32c.Checksum()
    with atomic_write(path) as file:

        def put(part: bytes) -> None:
            file.write(part)
            total.update(part)

        if isinstance(index, Lists):
            put(header_of(index))
            held = [*arrays(index)]
        else:
            put(_header(index.shape))
            held = [index]
        for array in held:
            for piece in _pieces(array):
                put(piece)
        put(_OF + own)
        file.write(SEAL + total.digest()[::-1])


def _sum_of(rows: FloatRows) -> bytes:
    total = google_crc32c.Checksum()
    for piece in _pieces(rows):
        total.update(piece)
    return total.digest()[::-1]


def _pieces(rows: NDArray) -> Iterator[bytes]:
    """The bytes of an array, little-endian, piece by piece."""
    flat = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<")).reshape(-1)
    step = _PIECE // rows.itemsize
    for begin in range(0, len(flat), step):
        yield flat[begin : begin + step].tobytes()


def seal_of(body: bytes) -> bytes:
    """The checksum at the end of an index file, of all before it."""
    return SEAL + google_crc32c.Checksum(body).digest()[::-1]


def check_seal(file: BinaryIO) -> bool:
    """Whether a file has a seal.

    Raises:
        ValueError: it has, and fails it.
    """
    left = file.seek(0, os.SEEK_END) - len(SEAL) - _SUM_BYTES
    if left < 0:
        return False
    file.seek(left)
    seal = file.read()
    if seal[: len(SEAL)] != SEAL:
        return False
    file.seek(0)
    total = google_crc32c.Checksum()
    while left:
        piece = file.read(min(left, _PIECE))
        total.update(piece)
        left -= len(piece)
    if total.digest() != seal[: len(SEAL) - 1 : -1]:
        raise ValueError("its checksum fails")
    return True
