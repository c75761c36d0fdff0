"""Where jobs run: in processes of this machine, or on the workers of a Dask cluster."""

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, TypeAlias

from slic.errors import InputError
from slic.prep.tvl1 import resolve_engine
from slic.prep.workers.jobs import J, Result, Stage
from slic.runtime.processes import available_cores, run_jobs

if TYPE_CHECKING:
    from slic.prep.workers.scheduler import DaskCluster

Executor: TypeAlias = "LocalProcesses | DaskCluster"


class LocalProcesses:
    """Run jobs in processes of this machine.

    Args:
        workers: number of processes. None: one per core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def run(self, stage: Stage[J, Result]) -> Generator[Result]:
        """Yield the results of jobs in order of completion. Close the generator to stop early.

        Raises:
            WorkError: the run cannot go on; results so far are stored.
            KeyboardInterrupt: the command was told to stop.
        """
        workers = self._count(len(stage.jobs))
        yield from run_jobs(stage.work, stage.jobs, workers=workers, on_units=stage.on_units)

    def engine(self, engine: str, device: str | None) -> tuple[str, str]:
        """Resolve `auto` to a TV-L1 engine and device, as `resolve_engine` does."""
        return resolve_engine(engine, device)

    def describe(self, jobs: int) -> str:
        """Return where so many jobs run, for people: `in 2 processes`."""
        count = self._count(jobs)
        return f"in {count} process{'es' * (count > 1)}"

    def _count(self, jobs: int) -> int:
        return max(1, min(self.workers or available_cores(), jobs))


@contextlib.contextmanager
def open_executor(workers: int | None, scheduler: str | None) -> Iterator[Executor]:
    """Open a Dask cluster by the address of its scheduler, or local processes without one.

    Raises:
        InputError: both arguments are given, or the cluster cannot be used.
    """
    if scheduler is None:
        yield LocalProcesses(workers)
        return
    if workers is not None:
        raise InputError("--workers cannot be combined with --scheduler, whose workers are used")
    from slic.prep.workers.scheduler import connect  # Dask need not be installed

    with connect(scheduler) as cluster:
        yield cluster
