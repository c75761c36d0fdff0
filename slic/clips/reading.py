"""Processes that read clips from a store, and live through epochs, clusterings, evaluations."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from slic.cache import ClipStore
from slic.errors import SlicError, WorkError
from slic.runtime.disk import process_start_errors
from slic.runtime.processes import init_worker, loader_context, signals_masked_in_children

Result = TypeVar("Result")


class ReaderPool:
    """Applies jobs to a store in worker processes, which start once and stay.

    A job is a picklable callable that takes the store; what it returns is a tensor, or has a
    method `pin_memory`. One stream of results at a time.

    Args:
        store: what the jobs read from.
        workers: processes; 0 reads in this one.
        pin: page-lock tensors for a GPU.
    """

    def __init__(self, store: ClipStore, *, workers: int, pin: bool = False) -> None:
        self.store, self.workers = store, workers
        self._queue = _Queue()
        self._loader = DataLoader(
            _Applied(store),
            batch_size=None,
            sampler=self._queue,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            persistent_workers=workers > 0,
            multiprocessing_context=loader_context() if workers else None,
            worker_init_fn=init_worker,
        )

    def results(self, jobs: Iterable[Callable[[ClipStore], Result]]) -> Iterator[Result]:
        """Results in the order of the jobs, which are taken as they are needed.

        Raises:
            SlicError: of the kind and with the message of the job's.
            WorkError: a worker died.
        """
        self._queue.jobs = jobs
        with worker_errors():
            if self.workers:
                _check_room(self._loader.multiprocessing_context, self.workers)
            with signals_masked_in_children() if self.workers else contextlib.nullcontext():
                results = iter(self._loader)
            yield from results


def _check_room(context: Any, workers: int) -> None:
    """Fail before a DataLoader does: one that cannot make its queues leaves a traceback.

    Raises:
        DiskError: the system refuses.
    """
    with process_start_errors():
        queues = [context.Queue() for _ in range(2 * workers + 2)]
    for queue in queues:
        queue.close()


class _Queue:
    """The sampler: whatever jobs are at hand."""

    def __init__(self) -> None:
        self.jobs: Iterable[Callable[[ClipStore], Any]] = ()

    def __iter__(self) -> Iterator[Callable[[ClipStore], Any]]:
        return iter(self.jobs)


class _Applied(Dataset):
    """A data set whose keys are the jobs themselves, so that workers need not know them all."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def __getitem__(self, job: Callable[[ClipStore], Result]) -> Result:
        return job(self.store)


def _as_it_is(result: Result) -> Result:
    return result


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Within, an error of a DataLoader's worker is the line it was, without the traceback.

    Raises:
        SlicError: of the kind raised in the worker.
        WorkError: a worker died.
    """
    try:
        yield
    except SlicError as error:
        lines = str(error).splitlines()
        if len(lines) < 2:
            raise
        kind = type(error)
        line = lines[-1].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")
        raise kind(line) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkError(
            "a reading process died (out of memory?): run the same command again to continue,"
            " with fewer --workers"
        ) from error
