"""Which executor does the jobs: processes here, or a Dask cluster."""

import contextlib
from collections.abc import Iterator

from slic.errors import InputError
from slic.prep.workers.executor import Executor
from slic.prep.workers.local import LocalProcesses


@contextlib.contextmanager
def executor_of(workers: int | None, scheduler: str | None) -> Iterator[Executor]:
    """LocalProcesses, or, with the address of a Dask scheduler, its cluster.

    Raises:
        InputError: both are asked for; or the cluster cannot be used.
    """
    if scheduler is None:
        yield LocalProcesses(workers)
        return
    if workers is not None:
        raise InputError("--workers has no part in --scheduler: its workers do the work")
    from slic.prep.workers.scheduler import connected  # Dask need not be installed

    with connected(scheduler) as cluster:
        yield cluster
