"""Who does the jobs of `prep`: processes here, or the workers of a Dask cluster."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from slic.errors import InputError
from slic.prep.tvl1 import resolve_engine
from slic.processes import default_workers, run_jobs


class Job(Protocol):
    """What every job of `prep` tells: video, store, and, on a cluster, its command's claim."""

    @property
    def id(self) -> str: ...
    @property
    def store(self) -> Path: ...
    @property
    def claim(self) -> Path | None: ...


J = TypeVar("J", bound=Job)
Result = TypeVar("Result")


class Crew(Protocol):
    """Does jobs, one a video."""

    def run(
        self,
        work: Callable[[J], Result],
        jobs: Sequence[J],
        *,
        lost: Callable[[J, str], Result],
        counted: Callable[[int], None] | None = None,
        device: str = "cpu",
    ) -> Generator[Result]:
        """Outcomes in order of completion; to be closed where they are not all taken.

        Args:
            work: a function of a module, picklable.
            jobs: its arguments, picklable.
            lost: makes the outcome of a job that no worker survives, and why.
            counted: takes the units that jobs have told `slic.processes.count` of.
            device: on which `work` works.

        Raises:
            WorkError: all cannot go on; what is done so far is kept.
            KeyboardInterrupt: told to stop.
        """
        ...

    def engine(self, engine: str, device: str | None) -> tuple[str, str]:
        """The engine of TV-L1 and the device that are meant; see `resolve_engine`."""
        ...

    def told(self, jobs: int) -> str:
        """Who does so many jobs, for people."""
        ...


class Processes:
    """Worker processes on this machine.

    Args:
        workers: how many; all cores if None.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def run(
        self,
        work: Callable[[J], Result],
        jobs: Sequence[J],
        *,
        lost: Callable[[J, str], Result],
        counted: Callable[[int], None] | None = None,
        device: str = "cpu",
    ) -> Generator[Result]:
        """As `Crew.run`; a worker that dies ends it all."""
        yield from run_jobs(work, jobs, workers=self._count(len(jobs)), counted=counted)

    def engine(self, engine: str, device: str | None) -> tuple[str, str]:
        """As `Crew.engine`, of this machine."""
        return resolve_engine(engine, device)

    def told(self, jobs: int) -> str:
        """As `Crew.told`."""
        count = self._count(jobs)
        return f"in {count} process{'es' * (count > 1)}"

    def _count(self, jobs: int) -> int:
        return max(1, min(self.workers or default_workers(), jobs))


@contextlib.contextmanager
def crew_of(workers: int | None, scheduler: str | None) -> Iterator[Crew]:
    """Processes, or, with the address of a Dask scheduler, its cluster.

    Raises:
        InputError: both are asked for; or the cluster cannot be used.
    """
    if scheduler is None:
        yield Processes(workers)
        return
    if workers is not None:
        raise InputError("--workers has no part in --scheduler: its workers do the work")
    from slic.prep.scheduler import connected

    with connected(scheduler) as cluster:
        yield cluster
