"""Jobs in worker processes: a bounded number in flight, no process left behind."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from slic.errors import WorkError
from slic.runtime.disk import process_start_errors
from slic.runtime.signals import STOPPING, defer_stops, die_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")
IN_FLIGHT_PER_WORKER = 3  # so that no worker waits while results are handled
POLL_EVERY_S = 1.0
GRACE_S = 3.0  # for the jobs under way when the command is asked to stop
# SIGTERM can be blocked in workers only where they can tell that their parent sent it.
MASKED = STOPPING if hasattr(signal, "sigwaitinfo") else (signal.SIGINT,)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def init_worker(_worker: int = 0, *, until: Connection | None = None) -> None:
    """Set up a worker process: one thread for OpenCV, and no life without its parent.

    Args:
        until: the worker also ends when the other end of this connection is closed.
    """
    import cv2

    die_with_parent()
    threading.Thread(target=_end_with_parent, args=(until,), daemon=True).start()
    if signal.SIGTERM in MASKED:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_on_parents_sigterm, daemon=True).start()
    # The other workers already use the cores, and any other number would start threads.
    cv2.setNumThreads(0)


def _end_with_parent(until: Connection | None) -> None:
    """End this process with its parent, or when `until` is closed.

    A fork server's worker is not a child of the process that asked for it, so that
    `die_with_parent` does not suffice.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel, *([until] if until else [])])
        os._exit(1)


def _end_on_parents_sigterm() -> None:
    """End this process when its parent sends SIGTERM, as pools do to end their workers.

    A scheduler sends SIGTERM to all processes of a command; then the parent decides.
    """
    parent = multiprocessing.parent_process()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != (parent.pid if parent else None):
        pass
    os._exit(1)


@contextmanager
def signals_masked_in_children() -> Iterator[None]:
    """Start processes that never receive Ctrl-C or SIGTERM; this process receives it at the end.

    Terminals and schedulers signal all processes of a command, and workers would answer with
    tracebacks.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # to start it later would undo the mask
    # Other threads of this process have a mask of their own, so deferring is needed as well.
    with defer_stops():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, MASKED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def loader_context() -> multiprocessing.context.BaseContext:
    """Return how a DataLoader starts its workers: never by forking this process.

    OpenCV's and OpenMP's threads do not survive a fork; whoever waits for them waits forever.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["slic.clips.reading", "slic.embed.embedding", "slic.engine.loader"]
    )
    return context


def _ignore(_units: int) -> None:
    """Nobody counts units here."""


_add: ContextVar[Callable[[int], None]] = ContextVar("add", default=_ignore)


def add_units(units: int) -> None:
    """Report units of work that a job has done, for `run_jobs` or `collect_units` to count."""
    _add.get()(units)


@contextmanager
def collect_units() -> Iterator[Callable[[], int]]:
    """Count the units that `add_units` reports in this thread; yields a function for the sum."""
    units: list[int] = []
    token = _add.set(units.append)
    try:
        yield lambda: sum(units)
    finally:
        _add.reset(token)


def _start_worker(counter: Any, until: Connection) -> None:
    def add(units: int) -> None:
        with counter.get_lock():
            counter.value += units

    _add.set(add)
    init_worker(until=until)


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    on_units: Callable[[int], None] = _ignore,
) -> Iterator[Result]:
    """Apply `work` to every job in worker processes; yield results in order of completion.

    After a request to stop, no further job is started, and those under way have `GRACE_S` seconds.

    Args:
        work: a function of a module, so that it can be pickled.
        jobs: its arguments, which are pickled; the iterable is consumed as needed.
        workers: number of processes.
        on_units: called about once a second with the number of units that jobs have reported by
            `add_units` since the last call.

    Raises:
        WorkError: a worker died.
        KeyboardInterrupt: the command was asked to stop; all results in time have been yielded.
    """
    context = multiprocessing.get_context("spawn")
    with process_start_errors():
        counter = context.Value("q", 0)
        until, stop = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(counter, until)
        )
    seen = 0

    def submit(job: Job) -> Future[Result]:
        with signals_masked_in_children():
            return pool.submit(work, job)

    def poll() -> None:
        nonlocal seen
        now = counter.get_obj().value  # unlocked: a worker may have died with the lock
        if now > seen:
            on_units(now - seen)
        seen = now

    try:
        yield from in_flight(submit, jobs, limit=IN_FLIGHT_PER_WORKER * workers, poll=poll)
    except BaseException as error:
        stop.close()  # ends the workers, as nobody waits for their jobs
        if isinstance(error, BrokenProcessPool):
            raise WorkError(
                "a worker process died (out of memory?): run the same command again to continue,"
                " with fewer --workers"
            ) from None
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        stop.close()
        until.close()


def in_flight(
    submit: Callable[[Job], Future[Result]],
    jobs: Iterable[Job],
    *,
    limit: int | Callable[[], int],
    poll: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Submit jobs, a limited number at once; yield results in order of completion.

    Args:
        submit: starts a job.
        jobs: consumed as needed.
        limit: maximum number of jobs under way, or a function that returns it.
        poll: called about once a second, and before results are yielded.

    Raises:
        KeyboardInterrupt: the command was asked to stop; all results in time have been yielded.
    """
    queue = iter(jobs)
    current_limit = limit if callable(limit) else lambda: limit
    with defer_stops() as stop_requested:
        running = {submit(job) for job in islice(queue, current_limit())}
        while running and not stop_requested():
            done, running = wait(running, timeout=POLL_EVERY_S, return_when=FIRST_COMPLETED)
            poll()
            for future in done:
                yield future.result()
            if not stop_requested():
                room = max(0, current_limit() - len(running))
                running |= {submit(job) for job in islice(queue, room)}
        yield from _results_in_grace({future for future in running if not future.cancel()})


def _results_in_grace(running: set[Future[Result]]) -> Iterator[Result]:
    deadline = time.monotonic() + GRACE_S
    while running and (left := deadline - time.monotonic()) > 0:
        done, running = wait(running, timeout=left, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
