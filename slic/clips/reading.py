"""Reader processes: they read clips from a store, and last for a whole run."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from slic.cache import ClipStore
from slic.errors import SlicError, WorkError
from slic.runtime.devices import default_readers
from slic.runtime.disk import process_start_errors
from slic.runtime.processes import init_worker, loader_context, signals_masked_in_children

Result = TypeVar("Result")
CPU = torch.device("cpu")


class ReaderPool:
    """Apply jobs to a store in worker processes, which start once and stay.

    A job is a picklable callable that takes the store, and returns a tensor or an object with a
    method `pin_memory`. The pool serves one stream of results at a time.

    Args:
        store: The store that jobs read from.
        workers: Number of processes; 0 runs the jobs in this one. Default: by device.
        device: The device that results are for; default: the CPU. For a GPU they are copied to
            page-locked memory.
    """

    def __init__(
        self, store: ClipStore, *, workers: int | None = None, device: torch.device = CPU
    ) -> None:
        workers = default_readers(device) if workers is None else workers
        self.store, self.workers = store, workers
        self._queue = _Queue()
        self._loader = DataLoader(
            _Applied(store),
            batch_size=None,
            sampler=self._queue,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            multiprocessing_context=loader_context() if workers else None,
            worker_init_fn=init_worker,
        )

    def results(self, jobs: Iterable[Callable[[ClipStore], Result]]) -> Iterator[Result]:
        """Yield the results of jobs in order; jobs are taken as workers become free.

        Raises:
            SlicError: A job raised it.
            WorkError: A worker died.
        """
        self._queue.jobs = jobs
        with worker_errors():
            if self.workers:
                _check_room(self._loader.multiprocessing_context, self.workers)
            with signals_masked_in_children() if self.workers else contextlib.nullcontext():
                results = iter(self._loader)
            yield from results


def _check_room(context: Any, workers: int) -> None:
    """Make as many queues as a DataLoader does, because its own failure prints a traceback.

    Raises:
        DiskError: The system refuses.
    """
    with process_start_errors():
        queues = [context.Queue() for _ in range(2 * workers + 2)]
    for queue in queues:
        queue.close()


class _Queue:
    """A sampler that yields the current jobs."""

    def __init__(self) -> None:
        self.jobs: Iterable[Callable[[ClipStore], Any]] = ()

    def __iter__(self) -> Iterator[Callable[[ClipStore], Any]]:
        return iter(self.jobs)


class _Applied(Dataset):
    """A data set indexed by the jobs themselves, so that workers need no list of them."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def __getitem__(self, job: Callable[[ClipStore], Result]) -> Result:
        return job(self.store)


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Raise an error of a DataLoader's worker as it was, without the worker's traceback.

    Raises:
        SlicError: The error raised in the worker.
        WorkError: A worker died.
    """
    try:
        yield
    except SlicError as error:
        *traceback, line = str(error).splitlines()
        if not traceback:
            raise
        kind = type(error)
        raise kind(line.removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkError(
            "a reader process died (out of memory?): run the same command again to continue,"
            " with fewer --workers"
        ) from error
