"""What a Dask worker runs: a check that it fits the command, and one job at a time."""

import asyncio
import os
import platform
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from slic import __version__
from slic.errors import WorkError
from slic.prep.workers.jobs import J, Result, read_claim
from slic.runtime.processes import collect_units

PATIENCE_S = 5.0  # until a file made on one machine must be visible on another (NFS)
POLL_S = 0.1


def versions() -> tuple[str, str]:
    """Return the versions of slic and of Python, the latter without its patch level."""
    return __version__, ".".join(platform.python_version_tuple()[:2])


def find_version_problem(required: tuple[str, str]) -> str | None:
    """Return which version here is not the command's, as the rest of a sentence, or None."""
    for name, here, command in zip(("slic", "Python"), versions(), required, strict=True):
        if here != command:
            return f"has {name} {here}, but this command has {command}: install the same everywhere"
    return None


@dataclass(frozen=True)
class Requirements:
    """What every worker must share with the command.

    Attributes:
        claim: a file in the store's folder `index/writing`.
        content: its content.
        folders: folders that must not be empty, as one is where nothing is mounted.
        versions: of slic and Python.
    """

    claim: Path
    content: str
    folders: tuple[Path, ...]
    versions: tuple[str, str]

    def missing(self) -> Path | None:
        """Return the first path that this machine does not see; None if it sees all."""
        if read_claim(self.claim) != self.content:
            return self.claim.parents[2]
        return next((folder for folder in self.folders if _is_empty(folder)), None)


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except PermissionError:
        return False  # its files may be readable all the same
    except OSError:
        return True


async def find_problem(required: Requirements) -> str | None:
    """Return why this worker does not fit the command, as the rest of a sentence, or None.

    It is a coroutine, so that a worker goes on with its jobs while it waits for a file.
    """
    deadline = time.monotonic() + PATIENCE_S
    while (path := required.missing()) is not None:
        if time.monotonic() > deadline:
            return (
                f"on {socket.gethostname()} does not see {path}: the data set and the store must"
                " be on a file system that all machines share, under the same path"
            )
        await asyncio.sleep(POLL_S)
    return find_version_problem(required.versions)


@cache
def _check_once(required: Requirements) -> None:
    """Check this worker before its first job: it may have joined after the command's own check."""
    import cv2

    cv2.setNumThreads(0)  # other workers already keep the cores busy
    if problem := asyncio.run(find_problem(required)):
        raise WorkError(f"a worker {problem}")


def run_job(work: Callable[[J], Result], job: J, required: Requirements) -> tuple[Result, int]:
    """Return a job's result, and the units that it passed to `add_units`.

    Raises:
        WorkError: the job's own, or this worker does not fit the command.
    """
    _check_once(required)
    with collect_units() as units:
        return work(job), units()
