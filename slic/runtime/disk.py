"""Files written whole or not at all, and a file system's refusals told in one line."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from slic.errors import DiskError

AGAIN = "run the same command again: what is complete stays"
_DENIED = "choose another place, or see that you may use this one"
_GONE = f"it has gone meanwhile: put it back, or begin it anew, and {AGAIN}"
_OPEN_FILES = f"allow more open files (`ulimit -n 4096`), or fewer --workers, and {AGAIN}"
_ROOM = f"free some space there and {AGAIN}"
ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: f"let files grow there (`ulimit -f`) and {AGAIN}",
    errno.EROFS: _DENIED,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOENT: _GONE,
    errno.ESTALE: _GONE,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
}
UNREAD = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


def to_disk_error(path: str | os.PathLike[str] | None, error: OSError) -> DiskError:
    """One line for the user: the path if known, what the system says of it, and what to do."""
    code = error.errno or 0
    advice = ADVICE.get(code, f"see to it and {AGAIN}")
    said = os.strerror(code) if code else str(error).splitlines()[0]
    where = f"{os.fspath(path)}: " if path is not None else ""
    return DiskError(f"{where}{said}; {advice}")


def raise_if_unreadable(path: str | os.PathLike[str], error: Exception) -> None:
    """Raise DiskError where the system refused to read, which tells nothing of the content."""
    if isinstance(error, OSError) and error.errno in UNREAD:
        raise to_disk_error(path, error) from error


@contextlib.contextmanager
def disk_errors_at(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within, a refusal of the file system is a DiskError that names `path`.

    Raises:
        DiskError: the system refuses to write, also where a library hides that.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = refusal(error)
        if found is None:
            raise
        raise to_disk_error(path, found) from error


def check_writable(folder: Path) -> None:
    """Refuse a folder in which nothing can be made, before hours of work for it.

    Raises:
        DiskError: the file system refuses.
    """
    with disk_errors_at(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex[:8]}"
        probe.touch()
        probe.unlink()


@contextlib.contextmanager
def process_start_errors() -> Iterator[None]:
    """Within, what processes share is made: in /dev/shm, and with open files.

    Raises:
        DiskError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        raise to_disk_error("/dev/shm" if error.errno == errno.ENOSPC else None, error) from error


def refusal(error: BaseException) -> OSError | None:
    """The system's own error that an exception is, or stands for, if any.

    PyTorch's writer raises an error of its own while it handles the system's.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside `path`; synced and renamed to it at the end, or removed.

    Raises:
        DiskError: the file system refuses, or `path` is a device or the like; what was there
            before is there still.
    """
    if path.exists() and not path.is_file():
        raise DiskError(f"{path}: is no plain file; name another")
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with disk_errors_at(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
