"""Where an HDF5 file keeps texts of any length: walked before HDF5 does, which may never end there.

A collection is a header of 16 bytes and objects, each of a header of 16 bytes (number, count,
4 bytes reserved, size) and its data, padded to 8 (HDF5 file format specification, III.E). HDF5
2.0 goes on by the sizes as they are: by a size of 0 for ever.
"""

import mmap
import struct
from typing import BinaryIO

_BEGIN = b"GCOL\x01"
_HEADER = 16


def check_text_heaps(file: BinaryIO) -> None:
    """Refuse a file in which a collection of texts cannot be walked to its end.

    Args:
        file: open for reading; where it stands does not matter.

    Raises:
        ValueError: it is damaged.
    """
    try:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # empty
        return
    with content:
        place = content.find(_BEGIN)
        while place >= 0:
            # A text within may begin as a collection does.
            place = content.find(_BEGIN, _walked(content, place))


def _walked(content: mmap.mmap, begin: int) -> int:
    """Where a collection ends."""
    if begin + _HEADER > len(content):
        raise ValueError("its texts are cut off")
    (size,) = struct.unpack_from("<Q", content, begin + 8)
    place, end = begin + _HEADER, begin + size
    if size < _HEADER or end > len(content):
        raise ValueError("its texts are cut off")
    while place + _HEADER <= end:
        (number,) = struct.unpack_from("<H", content, place)
        (held,) = struct.unpack_from("<Q", content, place + 8)
        # Object 0 is the free space, and counts its own header.
        step = _HEADER + -(-held // 8) * 8 if number else held
        if not _HEADER <= step <= end - place:
            raise ValueError("its texts are damaged")
        place += step
    return end
