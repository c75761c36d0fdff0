"""Locking of a clip store by its writers, and the files that killed writers leave.

Writers share a lock; a process that gets it exclusively knows that there is no other writer on
this host. The system releases a lock when its process ends, however it ends.
"""

import contextlib
import os
import re
import shutil
import socket
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from slic.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEFTOVER_S = 24 * 3600  # age at which a file that no lock vouches for counts as abandoned
PATIENCE_S = 30.0  # a repair is waited for so long
LOOK_EVERY_S = 0.1
# Other writers of the store; `unknown` if the file system has no locks.
Company = Literal["alone", "others", "unknown"]


class WriterLock:
    """The lock of a store: a file of its own, because NFS locks no folders.

    Args:
        store: the store's folder.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.handle: int | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"store": self.store, "handle": None}

    def share(self) -> None:
        """Share the lock with other writers until `close`, or as long as this object lives.

        Raises:
            StoreError: another process is repairing the store.
        """
        if self.handle is None and not self._opened():
            return
        until = time.monotonic() + PATIENCE_S
        while not self._try(alone=False):
            if time.monotonic() > until:
                raise StoreError(f"{self.store}: is being repaired by another process")
            time.sleep(LOOK_EVERY_S)

    @contextlib.contextmanager
    def alone(self) -> Iterator[Company]:
        """Hold the lock exclusively within the block, if no other process has it.

        Yields:
            `alone`, or who else there is.
        """
        shared = self.handle is not None
        if not shared and not self._opened():
            yield "unknown"
            return
        try:
            yield "alone" if self._try(alone=True) else "others"
        finally:
            if shared:
                self.share()
            else:
                self.close()

    def close(self) -> None:
        """Release the lock."""
        if self.handle is not None:
            self._finalizer()
            self.handle = None

    def _opened(self) -> bool:
        path = self.store / "index" / "lock"
        if fcntl is None:
            return False
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return False  # a process that cannot create this file cannot write either
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:
            os.close(handle)
            return False
        self.handle = handle
        self._finalizer = weakref.finalize(self, os.close, handle)
        return True

    def _try(self, *, alone: bool) -> bool:
        assert self.handle is not None
        mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(self.handle, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname()) or "host"


def aside_name(key: str) -> str:
    """Return a new name in `index/writing` for an incomplete array; it contains the host."""
    return f"{key}.{_host()}.{uuid.uuid4().hex[:8]}"


def leftovers(store: Path, company: Company) -> list[Path]:
    """List what killed writers left in `index/writing`.

    With the exclusive lock (`company` is `alone`) that is everything of this host. Of other
    hosts, and without locks, it is what is older than a day.
    """
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(store / "index" / "writing") as items:
        for item in items:
            parts = item.name.split(".")
            ours = company == "alone" and len(parts) == 3 and parts[1] == _host()
            with contextlib.suppress(FileNotFoundError):
                if ours or time.time() - item.stat().st_mtime > LEFTOVER_S:
                    found.append(Path(item.path))
    return sorted(found)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is still there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def company_of(store: Path) -> Company:
    """Return whether others are writing a store at this moment."""
    if not (store / "index" / "lock").exists():
        return "alone"
    with WriterLock(store).alone() as company:
        return company
