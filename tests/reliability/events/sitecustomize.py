"""Counts what a command does to files, over all its processes, and kills it at one of these events.

Python imports this by itself where the folder is on PYTHONPATH; `tests/reliability/harness.py`
puts it there. The environment says what to do:

SLIC_EVENTS         file that grows by a byte an event: `.` of files aside, `P` of those in place
SLIC_EVENTS_UNDER   folder whose files count
SLIC_KILL_AT        number of the event to kill at, from 1; without it events are counted only
SLIC_KILL_WHEN      `before` or `after` the event
SLIC_KILL_WHOM      `main`: the command's first process, which leads the session; or `all`
"""

import builtins
import functools
import io
import os
import shutil  # noqa: F401  (it looks at os.unlink when it is imported)
import signal
import sqlite3
import tempfile  # noqa: F401
import time
from collections.abc import Callable
from typing import Any

WRITES = frozenset("wax+")
ASIDE, IN_PLACE = b".", b"P"


def _path_of(target: object) -> str:
    """Absolute path of a path or handle, or nothing."""
    try:
        if isinstance(target, int):
            return os.readlink(f"/proc/self/fd/{target}")
        return os.path.abspath(os.fsdecode(target))  # type: ignore[arg-type]
    except (OSError, TypeError, ValueError):
        return ""


def _is_aside(path: str) -> bool:
    """Whether a file is not yet, or no more, one that is read."""
    return "/writing/" in path or "/." in path


class _Events:
    def __init__(self) -> None:
        self.under = os.environ["SLIC_EVENTS_UNDER"]
        self.at = int(os.environ.get("SLIC_KILL_AT", "0"))
        self.when = os.environ.get("SLIC_KILL_WHEN", "before")
        self.whom = os.environ.get("SLIC_KILL_WHOM", "main")
        self.counter = os.open(
            os.environ["SLIC_EVENTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )

    def around(self, call: Callable[[], Any], *targets: object) -> Any:
        """Make the call, count it if it is of a file of ours, and kill if it is the one."""
        paths = [path for path in map(_path_of, targets) if path.startswith(self.under)]
        if not paths:
            return call()
        os.write(self.counter, ASIDE if all(map(_is_aside, paths)) else IN_PLACE)
        # After a write in append mode the position is the end of what was written.
        number = os.lseek(self.counter, 0, os.SEEK_CUR)
        if number == self.at and self.when == "before":
            self.kill()
        try:
            return call()
        finally:  # to remove what is gone is an error, and an event
            if number == self.at and self.when == "after":
                self.kill()

    def kill(self) -> None:
        """Kill the command: its main process leads the session, and the group.

        Another process gets no further than this event, until it dies of that.
        """
        leader = os.getsid(0)
        if self.whom == "all":
            os.killpg(leader, signal.SIGKILL)
        os.kill(leader, signal.SIGKILL)
        time.sleep(3600)

    def wrap(self, owner: Any, name: str) -> None:
        """Let calls of a function of files count."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def wrapper(target: Any, *args: Any, **options: Any) -> Any:
            return self.around(lambda: real(target, *args, **options), target, *args[:1])

        setattr(owner, name, wrapper)

    def wrap_open(self, owner: Any) -> None:
        """Let files opened for writing count."""
        real = owner.open

        @functools.wraps(real)
        def wrapper(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not WRITES & set(mode):
                return real(file, mode, *args, **options)
            return self.around(lambda: real(file, mode, *args, **options), file)

        owner.open = wrapper

    def wrap_sqlite(self) -> None:
        """Let statements that write, and commits, count."""
        events, real = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> Any:
                call = functools.partial(super().execute, sql, *args)
                return call() if sql.startswith("SELECT") else events.around(call, events.under)

            def executemany(self, sql: str, *args: Any) -> Any:
                call = functools.partial(super().executemany, sql, *args)
                return events.around(call, events.under)

            def __exit__(self, *args: Any) -> Any:
                return events.around(functools.partial(super().__exit__, *args), events.under)

        sqlite3.connect = functools.partial(real, factory=Connection)  # type: ignore[assignment]


def _begin() -> None:
    events = _Events()
    for name in ("rename", "replace", "fsync", "link", "unlink", "remove", "rmdir", "mkdir"):
        events.wrap(os, name)
    events.wrap_open(builtins)
    events.wrap_open(io)
    events.wrap_sqlite()


if "SLIC_EVENTS" in os.environ:
    _begin()
