"""HDF5 files that a stranger may have made: no other file is opened for them, no memory filled."""

import os
from typing import Any, BinaryIO

import google_crc32c
import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from slic.cache.text_heaps import check_text_heaps
from slic.runtime.regular_files import open_regular

LONGEST_TEXT = 4096  # characters: the longest path there is
MOST_TEXT = 64  # times the file's size that its texts may take in memory
LEAST_TEXT = 1 << 24  # bytes that they may take in any case
AT_ONCE = 256
SEAL = b"slic sum"
_PLAIN = (str, int, float)
_PIECE = 1 << 20  # bytes read at a time: more than a cache holds takes longer
_SUM_BYTES = 4


def seal_of(body: bytes | memoryview) -> bytes:
    """What is appended to a file's content: HDF5 reads over it, and a damaged file is known by it.

    HDF5's own checksums are of the rows alone.
    """
    total = google_crc32c.Checksum()
    view = memoryview(body)
    for begin in range(0, len(view), _PIECE):
        total.update(bytes(view[begin : begin + _PIECE]))
    return SEAL + total.digest()[::-1]


class GuardedFile:
    """An HDF5 file, open for reading; a context manager.

    Links, virtual and external data sets (which stand in other files), compressed ones and ones
    of which the file holds less than their shape says are refused: slic writes none of them.

    Args:
        path: the file.

    Raises:
        ValueError: it fails its seal (files of before there were seals have none), or its texts
            are damaged.
        OSError: it is missing, or not HDF5. Its methods raise whatever h5py does besides
            ValueError and KeyError, as damaged files lead to errors of many kinds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(open_regular(path), "rb") as file:
            check_seal(file)
            check_text_heaps(file)
        self._bytes = os.stat(path).st_size
        self._file = h5py.File(path, "r")

    def __enter__(self) -> "GuardedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def names(self) -> list[str]:
        """Names of what stands at the top, sorted."""
        return sorted(self._file)

    def attributes(self) -> dict[str, Any]:
        """Its attributes: numbers and texts.

        Raises:
            ValueError: one is something else.
        """
        found = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in self._file.attrs.items()
        }
        foreign = [key for key, value in found.items() if type(value) not in _PLAIN]
        if foreign:
            raise ValueError(f"its attribute {foreign[0][:40]!a} is neither number nor text")
        return found

    def numbers(self, name: str, *, dtype: DTypeLike, ndim: int) -> NDArray[Any]:
        """A whole data set of so many dimensions.

        Raises:
            KeyError: there is none.
            ValueError: it is not of that type, or not the file's own.
        """
        found = self._own(name)
        if found.ndim != ndim or found.dtype.newbyteorder("=") != np.dtype(dtype):
            raise ValueError(f"{name} is {found.dtype} {found.shape}, not {np.dtype(dtype)}")
        return np.asarray(found[()], dtype=dtype)

    def texts(self, name: str) -> NDArray[np.str_]:
        """A whole data set of texts, `(N,)`.

        Raises:
            KeyError: there is none.
            ValueError: it is not of texts, not the file's own, or they are too long.
        """
        found = self._own(name)
        if found.ndim != 1 or h5py.check_string_dtype(found.dtype) is None:
            raise ValueError(f"{name} is no list of texts")
        most = max(LEAST_TEXT, MOST_TEXT * self._bytes)
        rows: list[str] = []
        held = longest = 0
        # Many rows may be one and the same long text in the file.
        for begin in range(0, len(found), AT_ONCE):
            rows += (block := found.asstr()[begin : begin + AT_ONCE].tolist())
            held, longest = held + sum(map(len, block)), max(longest, *map(len, block))
            if longest > LONGEST_TEXT or max(held, 4 * longest * len(found)) > most:
                raise ValueError(f"{name} holds texts of {longest} characters")
        return np.array(rows, dtype=np.str_)

    def _own(self, name: str) -> h5py.Dataset:
        # Asked of the link itself: h5py's `in` and `get` follow it into other files.
        if self._file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{name} is a link to elsewhere")
        found = self._file[name]
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise ValueError(f"{name} is no data set")
        plan = found.id.get_create_plist()
        if found.is_virtual or plan.get_external_count():
            raise ValueError(f"{name} stands in another file")
        filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
        if filters - {h5py.h5z.FILTER_FLETCHER32}:
            raise ValueError(f"{name} is compressed, or filtered otherwise")
        stored = found.id.get_storage_size()
        if not found.size * found.dtype.itemsize <= stored <= self._bytes:
            raise ValueError(f"the file does not hold what the shape of {name} says")
        return found


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
