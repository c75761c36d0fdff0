"""Work spread over processes: bounded in flight, results as they come, no orphans."""

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
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from slic.errors import WorkError
from slic.runtime.disk import process_start_errors
from slic.runtime.signals import STOPPING, defer_stops, die_with_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Job = TypeVar("Job")
Result = TypeVar("Result")
IN_FLIGHT_PER_WORKER = 3
LOOK_EVERY_S = 1.0
GRACE_S = 3.0  # that a stopped command gives to the jobs under way
# Where a worker can tell who sends a SIGTERM, it need not hear that of others.
UNHEARD = STOPPING if hasattr(signal, "sigwaitinfo") else (signal.SIGINT,)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def init_worker(_worker: int = 0, *, until: "Connection | None" = None) -> None:
    """Keep a worker to one thread, as its fellows already fill the cores, and to its parent.

    It ends as well when the other end of `until` is closed.
    """
    import cv2

    die_with_parent()
    threading.Thread(target=_leave_with_parent, args=(until,), daemon=True).start()
    if signal.SIGTERM in UNHEARD:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_leave_at_parents_word, daemon=True).start()
    cv2.setNumThreads(0)  # any other number would start or join threads, which a fork lacks


def _leave_with_parent(until: "Connection | None") -> None:
    """End this process when the one that asked for it ends, or says so.

    A worker of a fork server is not its child: the server lives for as long as its workers do,
    so that both would outlive a killed run.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel, *([until] if until else [])])
        os._exit(1)


def _leave_at_parents_word() -> None:
    """End this process at its parent's SIGTERM, by which pools end their workers.

    A scheduler sends it to all processes of a command; what becomes of them, the parent decides.
    """
    parent = multiprocessing.parent_process()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != (parent.pid if parent else None):
        pass
    os._exit(1)


@contextmanager
def signals_masked_in_children() -> Iterator[None]:
    """Processes started inside never hear a Ctrl-C or SIGTERM; this one hears it at the end.

    A terminal or scheduler sends it to all of them, and each would die, or answer with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # to start it later would undo the mask
    # Held, as other threads do not share the mask, and what they receive interrupts this one.
    with defer_stops():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def loader_context() -> multiprocessing.context.BaseContext:
    """How a DataLoader starts its workers: never by forking this process.

    Its OpenCV and OpenMP threads do not survive a fork, and what waits for them waits forever.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["slic.clips.reading", "slic.embed.embedding", "slic.engine.loader"]
    )
    return context


_counter: Any = None  # a worker's share in the number that run_jobs watches


def _start_worker(counter: Any, until: "Connection") -> None:
    global _counter
    _counter = counter
    init_worker(until=until)


_thread = threading.local()  # `units` where `counting` adds them up


def add_units(units: int) -> None:
    """Tell the `counted` of `run_jobs`, or else `counting`, of units done, from within a job."""
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += units
    elif hasattr(_thread, "units"):
        _thread.units += units


@contextmanager
def collect_units() -> Iterator[Callable[[], int]]:
    """Add up what `count` is told of in this thread; what is yielded gives the sum."""
    _thread.units = 0
    try:
        yield lambda: _thread.units
    finally:
        del _thread.units


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    counted: Callable[[int], None] | None = None,
) -> Iterator[Result]:
    """Apply `work` to every job in `workers` processes; results in order of completion.

    Told to stop, it begins no further job, and waits a little for those under way.

    Args:
        work: a function of a module, picklable.
        jobs: its arguments, picklable; read as needed.
        workers: processes.
        counted: takes, once a second, the units that jobs have told `count` of since.

    Raises:
        WorkError: a process died; what is done so far is kept.
        KeyboardInterrupt: told to stop, once the results of what could be finished are taken.
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

    def look() -> None:
        nonlocal seen
        now = counter.get_obj().value  # unlocked: a worker may have died with the lock
        if counted is not None and now > seen:
            counted(now - seen)
        seen = now

    try:
        most = IN_FLIGHT_PER_WORKER * workers
        yield from in_flight(submit, jobs, most=most, look=look)
    except BrokenProcessPool:
        stop.close()
        raise WorkError(
            "a worker process died (out of memory?): run the same command again to continue,"
            " with fewer --workers"
        ) from None
    except BaseException:
        stop.close()  # nobody waits for what is under way
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        stop.close()
        until.close()


def in_flight(
    submit: Callable[[Job], "Future[Result]"],
    jobs: Iterable[Job],
    *,
    most: int | Callable[[], int],
    look: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Submit jobs, at most `most` at once; results in order of completion.

    Args:
        submit: starts a job.
        jobs: read as needed.
        most: jobs under way; asked each time if it may change.
        look: called once a second, and before results are handed over.

    Raises:
        KeyboardInterrupt: told to stop, once the results of what could be finished are taken.
    """
    queue = iter(jobs)
    allowed = most if callable(most) else lambda: most
    with defer_stops() as stopped:
        running = {submit(job) for job in islice(queue, allowed())}
        while running and not stopped():
            done, running = wait(running, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
            look()
            for future in done:
                yield future.result()
            if not stopped():
                room = max(0, allowed() - len(running))
                running |= {submit(job) for job in islice(queue, room)}
        yield from _last_results(running)


def _last_results(running: "set[Future[Result]]") -> Iterator[Result]:
    """Results of the jobs under way that are done within the grace, as they come."""
    until = time.monotonic() + GRACE_S
    running = {future for future in running if not future.cancel()}
    while running and (left := until - time.monotonic()) > 0:
        done, running = wait(running, timeout=left, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
