"""The file of an IVF index: plain arrays, whose sizes are checked before one is mapped."""

import mmap
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slic.neighbours.lists import Lists

# What it is, N, D, lists, probes, sample, k, recall; 64 bytes, so that all arrays are aligned.
HEADER = struct.Struct("<8sQQQQQQd")
_KIND = b"slic ivf"


def arrays(lists: Lists) -> Iterator[NDArray]:
    """What stands behind the header, in this order, little-endian."""
    for array, kind in (
        (lists.offsets, "<i8"),
        (lists.order, "<i8"),
        (lists.centres, "<f4"),
        (lists.rows, "<f4"),
    ):
        yield np.ascontiguousarray(array, dtype=kind)


def header_of(lists: Lists) -> bytes:
    """The file's beginning."""
    sizes = (*lists.rows.shape, len(lists.centres), lists.probes, lists.sample, lists.k)
    return HEADER.pack(_KIND, *sizes, lists.recall)


def length_of(header: bytes, shape: tuple[int, ...]) -> int:
    """Bytes of header and arrays.

    Raises:
        ValueError: it is no header of an IVF index of rows of this shape.
    """
    kind, count, width, lists, probes, sample, k, recall = HEADER.unpack(header)
    possible = 1 <= probes <= lists <= count and 0 <= recall <= 1 and max(sample, k) <= count
    if kind != _KIND or (count, width) != shape or not possible:
        raise ValueError(f"is no index of lists of {shape[0]:,} rows of {shape[1]} numbers")
    return HEADER.size + 8 * (lists + 1) + 8 * count + 4 * width * (lists + count)


def mapped_lists(file: mmap.mmap) -> Lists:
    """The index in a file whose size is that of its header.

    Raises:
        ValueError: its lists are not those of its rows.
    """
    _, count, width, lists, probes, sample, k, recall = HEADER.unpack(file[: HEADER.size])
    at = HEADER.size

    def numbers(kind: str, *shape: int) -> NDArray:
        nonlocal at
        size = int(np.prod(shape))
        found = np.frombuffer(file, dtype=kind, count=size, offset=at)
        at += found.nbytes
        return found.reshape(shape)

    offsets, order = numbers("<i8", lists + 1), numbers("<i8", count)
    if offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        raise ValueError("has lists that overlap")
    once = np.zeros(count, dtype=bool)
    if order.min() < 0 or order.max() >= count:
        raise ValueError("lists rows that there are not")
    once[order] = True
    if not once.all():
        raise ValueError("does not list each row once")
    centres, rows = numbers("<f4", lists, width), numbers("<f4", count, width)
    told = {"probes": probes, "recall": recall, "sample": sample, "k": k}
    return Lists(centres, offsets, order, rows, **told)
