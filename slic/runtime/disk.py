"""Files that are written completely or not at all, and errors of the file system in one line."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from slic.errors import DiskError

AGAIN = "run the same command again; completed work is kept"
_NO_SPACE = f"free some space there and {AGAIN}"
_NOT_ALLOWED = "choose another place, or get permission to use this one"
_GONE = f"it was removed meanwhile: restore it or start over, and {AGAIN}"
_OPEN_FILES = f"allow more open files (`ulimit -n 4096`), or use fewer --workers, and {AGAIN}"
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _NO_SPACE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _NOT_ALLOWED),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), _GONE),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _OPEN_FILES),
    errno.EFBIG: f"allow larger files there (`ulimit -f`) and {AGAIN}",
}
# Refusals to read, which say nothing about the file's content.
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


def to_disk_error(path: str | os.PathLike[str] | None, error: OSError) -> DiskError:
    """Return a DiskError with the path if it is known, the system's reason, and what to do."""
    code = error.errno or 0
    reason = os.strerror(code) if code else str(error).splitlines()[0]
    where = f"{os.fspath(path)}: " if path is not None else ""
    return DiskError(f"{where}{reason}; {_ADVICE.get(code, f'look into it, and {AGAIN}')}")


def raise_if_unreadable(path: str | os.PathLike[str], error: BaseException | None) -> None:
    """Raise DiskError if the system refused to read, rather than the content being wrong."""
    if isinstance(error, OSError) and error.errno in _UNREADABLE:
        raise to_disk_error(path, error) from error


@contextlib.contextmanager
def disk_errors_at(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's errors inside the block into a DiskError that names `path`.

    Raises:
        DiskError: the system refuses to write, even if a library raises an error of its own for it.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = _os_error_behind(error)
        if cause is None:
            raise
        raise to_disk_error(path, cause) from error


def _os_error_behind(error: BaseException) -> OSError | None:
    """Return the system's error that caused another, if any.

    PyTorch's writer raises a RuntimeError while it handles the system's error.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def check_writable(folder: Path) -> None:
    """Check that files can be made in a folder, before hours of work for them; make the folder.

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
    """Turn errors of starting processes, which need open files and /dev/shm, into a DiskError.

    Raises:
        DiskError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        where = "/dev/shm" if error.errno == errno.ENOSPC else None
        raise to_disk_error(where, error) from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file for writing that replaces `path` at the end of the block.

    If the block fails, the temporary file is removed, and `path` stays as it was.

    Raises:
        DiskError: the file system refuses, or `path` is a pipe, a device or a folder.
    """
    if path.exists() and not path.is_file():
        raise DiskError(f"{path}: not a regular file; choose another name")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with disk_errors_at(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
