"""What a Dask worker runs: a look at what it sees, and one job."""

import asyncio
import os
import platform
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from slic import __version__
from slic.errors import WorkError
from slic.prep.workers.claims import content
from slic.runtime.processes import collect_units

Job = TypeVar("Job")
Result = TypeVar("Result")
PATIENCE_S = 5.0  # for a new file to be seen on another machine
LOOK_EVERY_S = 0.1


def versions() -> tuple[str, str]:
    """Of slic, and of Python without its last number."""
    return __version__, ".".join(platform.python_version_tuple()[:2])


@dataclass(frozen=True)
class Place:
    """What every worker has to see, a claim with its content, and folders; and be, in versions."""

    claim: Path
    said: str
    folders: tuple[Path, ...]
    versions: tuple[str, str] = field(default_factory=versions)

    def unseen(self) -> Path | None:
        """The first that is not seen here, if any."""
        if content(self.claim) != self.said:
            return self.claim.parent.parent.parent
        return next((folder for folder in self.folders if not _holds_something(folder)), None)


def _holds_something(folder: Path) -> bool:
    """Whether a folder is there with what belongs in it: where nothing is mounted, it is empty."""
    try:
        with os.scandir(folder) as found:
            return next(found, None) is not None
    except PermissionError:
        return True  # it may be of use though it cannot be listed
    except OSError:
        return False


@dataclass(frozen=True)
class Facts:
    """What a worker is: versions, host, and what it does not see."""

    versions: tuple[str, str]
    host: str
    unseen: Path | None

    def misfit(self, who: str, place: Place) -> str | None:
        """Why a worker cannot do the jobs of a place, if so, in one line."""
        if self.unseen is not None:
            return unseen_line(who, self.unseen)
        return other_version(who, self.versions, place.versions)


async def look_around(place: Place) -> Facts:
    """The facts of this worker; runs beside its jobs."""
    until = time.monotonic() + PATIENCE_S
    while (unseen := place.unseen()) is not None and time.monotonic() < until:
        await asyncio.sleep(LOOK_EVERY_S)
    return Facts(versions(), socket.gethostname(), unseen)


@cache
def _arrive(place: Place) -> None:
    """Look around once, as a worker may have joined when the others had been asked."""
    import cv2

    cv2.setNumThreads(0)  # its fellows already fill the cores
    facts = asyncio.run(look_around(place))
    if said := facts.misfit(f"a worker at {facts.host}", place):
        raise WorkError(said)


def unseen_line(who: str, path: Path) -> str:
    """What to say of a worker that does not see a path."""
    return (
        f"{who} does not see {path}: the data set and the store must be on a file system"
        " that all machines share, under the same path"
    )


def other_version(who: str, theirs: tuple[str, str], ours: tuple[str, str]) -> str | None:
    """What to say where versions differ, if they do."""
    for what, their, our in zip(("slic", "Python"), theirs, ours, strict=True):
        if their != our:
            return f"{who} has {what} {their}, and this command {our}: install the same on all"
    return None


def run_job(work: Callable[[Job], Result], job: Job, place: Place) -> tuple[Result, int]:
    """A job's outcome, and the units that it told `count` of.

    Raises:
        WorkError: as the job; or this worker does not see the store or the data set.
    """
    _arrive(place)
    with collect_units() as units:
        return work(job), units()
