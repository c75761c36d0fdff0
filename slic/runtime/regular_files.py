"""Reading files that others made: pipes and devices are refused, long values are shortened."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

SMALL = 1 << 20  # bytes; limit for settings and metadata, of which ours are a few thousand
LARGE = 1 << 30  # bytes; limit for files that grow with the number of videos or epochs


def brief(value: Any, longest: int = 40) -> str:
    """Return a value from a file as it can stand in a message: short, and on one line."""
    if isinstance(value, str):
        return repr(value if len(value) <= longest else f"{value[: longest - 3]}...")
    if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**40):
        return str(value)
    return f"a {type(value).__name__}"


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading, and return its handle, which the caller closes.

    Raises:
        OSError: the file is missing, or is a pipe, a device or a folder.
    """
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return handle


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise OSError where `open_regular` would."""
    os.close(open_regular(path))


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: the file cannot be opened by `open_regular`, or holds more than `limit` bytes.
    """
    with open(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))
        return file.read(limit)
