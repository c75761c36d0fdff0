"""What a Dask worker runs: a look at what it sees, and one job."""

import asyncio
import platform
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from slic import __version__
from slic.errors import WorkError
from slic.prep.claims import content
from slic.processes import counting

Job = TypeVar("Job")
Result = TypeVar("Result")
PATIENCE_S = 5.0  # for a new file to be seen on another machine
LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Place:
    """What every worker has to see: a claim with its content, and folders."""

    claim: Path
    said: str
    folders: tuple[Path, ...]

    def unseen(self) -> Path | None:
        """The first that is not seen here, if any."""
        if content(self.claim) != self.said:
            return self.claim.parent.parent.parent
        return next((folder for folder in self.folders if not folder.exists()), None)


@dataclass(frozen=True)
class Facts:
    """What a worker is: versions, host, and what it does not see."""

    versions: tuple[str, str]
    host: str
    unseen: Path | None


def versions() -> tuple[str, str]:
    """Of slic, and of Python without its last number."""
    return __version__, ".".join(platform.python_version_tuple()[:2])


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
    if facts.unseen is not None:
        raise WorkError(unseen_line(f"a worker at {facts.host}", facts.unseen))


def unseen_line(who: str, path: Path) -> str:
    """What to say of a worker that does not see a path."""
    return (
        f"{who} does not see {path}: the data set and the store must be on a file system"
        " that all machines share, under the same path"
    )


def run_job(work: Callable[[Job], Result], job: Job, place: Place) -> tuple[Result, int]:
    """A job's outcome, and the units that it told `count` of.

    Raises:
        WorkError: as the job; or this worker does not see the store or the data set.
    """
    _arrive(place)
    with counting() as units:
        return work(job), units()
