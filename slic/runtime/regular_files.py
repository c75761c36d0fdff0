"""Files that strangers may have made: no pipe is waited on, no device read, no long value said."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

SMALL = 1 << 20  # bytes of settings and metadata, of which ours have a few thousand
LARGE = 1 << 30  # bytes of what grows with the videos or the epochs


def brief(value: Any, longest: int = 40) -> str:
    """A value from a file for a message: short, of one line, and safe to make."""
    if isinstance(value, str):
        text = value[:longest] if len(value) <= longest else f"{value[: longest - 3]}..."
        return repr(text)
    if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**40):
        return str(value)
    return f"a {type(value).__name__}"


def open_regular(path: str | os.PathLike[str]) -> int:
    """A handle of a regular file, open for reading; the caller closes it.

    Raises:
        OSError: it is missing, or a pipe, a device or a folder.
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
    """The bytes of a regular file.

    Raises:
        OSError: as `open_regular`, or it holds more than `limit` bytes.
    """
    with open(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))
        return file.read(limit)
