"""Who is writing a clip store, and what killed writers left in it.

Writers share a lock; whoever gets it alone knows that no other of this host lives. The system
drops a lock with its process, however that ends, so that none is stale.
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

LEFTOVER_S = 24 * 3600
PATIENCE_S = 30.0
LOOK_EVERY_S = 0.1
# `unknown`: the file system has no locks.
Company = Literal["alone", "others", "unknown"]


class WriterLock:
    """A store's lock, which this process shares with other writers from `share` on.

    A file of its own, as NFS locks no folders.

    Args:
        store: the store's folder.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.handle: int | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"store": self.store, "handle": None}

    def share(self) -> None:
        """Hold the lock beside other writers, for as long as this object lives.

        Raises:
            StoreError: another process repairs the store.
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
        """Hold the lock alone within, if nobody else has it; afterwards as before."""
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
        """Give the lock up."""
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
            return False  # whoever cannot make this file cannot write either
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
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(self.handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname()) or "host"


def aside_name(key: str) -> str:
    """A new name in `index/writing` for an array under way: it tells the host."""
    return f"{key}.{_host()}.{uuid.uuid4().hex[:8]}"


def leftovers(store: Path, company: Company) -> list[Path]:
    """What killed writers left in `index/writing`, as far as can be known.

    Where this process has the lock alone, that is all of this host; of others, and where there
    are no locks, what is older than a day.
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
    """Remove a leftover, a folder or a file, if it is still there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def company_of(store: Path) -> Company:
    """Whether others are writing a store at this moment."""
    if not (store / "index" / "lock").exists():
        return "alone"
    with WriterLock(store).alone() as company:
        return company
