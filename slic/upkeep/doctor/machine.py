"""What the machine has for a command run here: cores, memory, room, open files, locks."""

import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
LOCKS_WORK, NO_LOCKS, NOT_WRITABLE = "work", "do not work", "folder not writable"


def machine() -> dict[str, Any]:
    """Facts by name; None where the system does not say.

    Returns:
        `cores` that this process may use; `memory`, `memory_free`, `disk_free` of the current
        folder and `shm_free` of /dev/shm in bytes; `open_files`, how many a process may have;
        `locks` of files in the current folder: LOCKS_WORK, NO_LOCKS or NOT_WRITABLE.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    total, free = _memory()
    return {
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1,
        "memory": total,
        "memory_free": free,
        "disk_free": _room("."),
        "shm_free": _room("/dev/shm"),
        "open_files": _open_files(),
        "locks": locks(Path()),
    }


def _memory() -> tuple[int | None, int | None]:
    """Total and free bytes; of a container, what it may take."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = {name: int(rest.split()[0]) << 10 for name, rest in (s.split(":") for s in lines)}
        total, free = known["MemTotal"], known["MemAvailable"]
    except (OSError, ValueError, LookupError):
        return None, None
    for path in map(Path, _CGROUPS):
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return total, min(free, total)


def _room(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def locks(folder: Path) -> str | None:
    """Whether a lock on a file of a folder keeps another handle out."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        with (
            tempfile.NamedTemporaryFile(dir=folder, prefix=".slic-") as first,
            open(first.name, "rb") as second,
        ):
            return LOCKS_WORK if _keeps_out(fcntl, first.fileno(), second.fileno()) else NO_LOCKS
    except OSError:
        return NOT_WRITABLE


def _keeps_out(fcntl: ModuleType, first: int, second: int) -> bool:
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
