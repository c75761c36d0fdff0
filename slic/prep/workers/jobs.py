"""The jobs of `slic prep`, and the claim that lets a remote worker publish what it made.

A worker that Dask has given up, because it was cut off or suspended, still completes its job. By
then another worker may have stored the same video, and its flow. It must not replace them.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from slic.cache.writers import aside_name
from slic.errors import DiskError
from slic.runtime.disk import disk_errors_at


@dataclass(frozen=True)
class Job:
    """A video to process.

    Attributes:
        store: path of the clip store that its result goes to.
        claim: file that must exist when the result is published. None: no such condition.
    """

    store: Path
    claim: Path | None = field(default=None, kw_only=True)

    @property
    def id(self) -> str:
        """The video's id."""
        raise NotImplementedError


J = TypeVar("J", bound=Job)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stage(Generic[J, Result]):
    """Jobs of one kind, and what to do with them.

    Attributes:
        work: a function defined in a module, picklable.
        jobs: its arguments, picklable; at least one.
        on_lost: returns the result of a job that kills every worker that tries it, from the job
            and a reason. Only a cluster calls it; locally, a process that dies ends the run.
        on_units: receives the numbers that jobs pass to `slic.runtime.processes.add_units`.
        device: what `work` runs on.
    """

    work: Callable[[J], Result]
    jobs: Sequence[J]
    on_lost: Callable[[J, str], Result]
    on_units: Callable[[int], None] = lambda units: None
    device: str = "cpu"


@contextlib.contextmanager
def new_claim(store: Path) -> Iterator[Path]:
    """Keep a claim file in a store while the block runs.

    Its content is random, so that a worker can prove that it sees the same file system.
    """
    path = store.absolute() / "index" / "writing" / aside_name("claim")
    with disk_errors_at(store):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def renew_claim(claim: Path) -> None:
    """Update a claim's time of change: files a day old in its folder are removed as leftovers."""
    with contextlib.suppress(OSError):
        os.utime(claim)


def read_claim(claim: Path) -> str | None:
    """Return a claim's content, or None if it does not exist."""
    try:  # reading, because NFS may list a file for a while after it was deleted
        return claim.read_text()
    except OSError:
        return None


def check_claim(claim: Path | None) -> None:
    """Raise a DiskError if a claim is given and no longer exists."""
    if claim is not None and read_claim(claim) is None:
        raise DiskError("the command that asked for this has ended")
