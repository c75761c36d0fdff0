"""Compute flow on devices: threads read and write videos, pairs are solved in common batches."""

import math
import multiprocessing
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

from slic.errors import WorkError
from slic.prep.flow_batches import Batcher, DeviceFailed
from slic.prep.flow_video import FlowJob, FlowResult, store_flow
from slic.prep.tvl1 import Tvl1Parameters, resolve_engine
from slic.prep.tvl1.device import DeviceSolver
from slic.runtime.processes import (
    GRACE_S,
    add_units,
    available_cores,
    in_flight,
    init_worker,
    signals_masked_in_children,
)
from slic.runtime.signals import defer_stops

LOOK_EVERY_S = 1.0


def devices_for(engine: str, device: str) -> list[str]:
    """Return the devices that a choice means: "cuda" without a number is all GPUs."""
    if device != "cuda":
        return [device]
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def flow_on_devices(
    jobs: Sequence[FlowJob],
    devices: Sequence[str],
    *,
    threads: int | None,
    on_units: Callable[[int], None],
) -> Iterator[FlowResult]:
    """Compute videos' flow on devices, in a process per device, or in this one if there is one.

    Args:
        jobs: the videos.
        devices: such as `cuda:0`.
        threads: videos per device that are read and written at once. None: twice the cores.
        on_units: receives the number of pairs of each block that is complete.

    Yields:
        Results in order of completion.

    Raises:
        WorkError: the store cannot be written, a device failed, or a process died.
    """
    # Threads wait half of the time, so there are two for each core.
    threads = threads or max(8, 2 * available_cores())
    solvers = [(jobs[0].engine, device, jobs[0].parameters) for device in devices]
    if len(solvers) == 1:
        yield from _flow_on_device(jobs, DeviceSolver(*solvers[0]), threads, on_units)
        return
    context = multiprocessing.get_context("spawn")
    inbox, outbox = context.Queue(), context.Queue()
    processes = [
        context.Process(target=_serve, args=(solver, threads, inbox, outbox), daemon=True)
        for solver in solvers
    ]
    with signals_masked_in_children():
        for process in processes:
            process.start()
    try:
        yield from _hand_out(jobs, processes, threads, inbox, outbox, on_units)
    finally:
        inbox.cancel_join_thread()
        for process in processes:
            process.kill()
            process.join()


def _flow_on_device(
    jobs: Iterable[FlowJob], solver: DeviceSolver, threads: int, on_units: Callable[[int], None]
) -> Iterator[FlowResult]:
    batcher = Batcher(solver)
    pool = ThreadPoolExecutor(threads)

    def submit(job: FlowJob) -> Future[FlowResult]:
        return pool.submit(store_flow, job, batcher.submit, on_units=on_units)

    try:
        yield from in_flight(submit, jobs, limit=threads)
    except DeviceFailed as error:
        advice = "run the same command again, or with --engine cpu"
        raise WorkError(f"{solver.device} failed: {error}; {advice}") from error
    finally:
        batcher.close()
        pool.shutdown(cancel_futures=True)


def _hand_out(
    jobs: Iterable[FlowJob],
    processes: list[Any],
    threads: int,
    inbox: Any,
    outbox: Any,
    on_units: Callable[[int], None],
) -> Iterator[FlowResult]:
    """Hand jobs to the devices' processes, and yield their results until all have ended.

    After a stop, no more jobs are handed out, and results are awaited for the grace period.
    """
    waiting, deadline, running = iter(jobs), math.inf, len(processes)
    for _ in range(threads * len(processes)):
        inbox.put(next(waiting, None))
    with defer_stops() as stopped:
        while running and time.monotonic() < deadline:
            if stopped() and deadline == math.inf:
                deadline, waiting = time.monotonic() + GRACE_S, iter(())
            try:
                message = outbox.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                if any(process.exitcode for process in processes) and outbox.empty():
                    raise WorkError(
                        "the process of a device died (out of memory?): run the same command again"
                    ) from None
                continue
            if isinstance(message, FlowResult):
                yield message
                inbox.put(next(waiting, None))
            elif isinstance(message, int):
                on_units(message)
            elif message is None:
                running -= 1
            else:
                raise message


def _serve(solver: tuple[Any, ...], threads: int, inbox: Any, outbox: Any) -> None:
    """Run a device's process: take jobs until None; send results and counts, and at last None."""
    init_worker()
    jobs = iter(inbox.get, None)
    try:
        for result in _flow_on_device(jobs, DeviceSolver(*solver), threads, outbox.put):
            outbox.put(result)
        outbox.put(None)
    except WorkError as error:
        outbox.put(error)


# --- on a Dask worker ------------------------------------------------------------------------

_creating = threading.Lock()


@cache
def _batcher(engine: str, device: str, parameters: Tvl1Parameters) -> Batcher:
    """Return the one batcher of this process, shared by its threads."""
    return Batcher(DeviceSolver(*resolve_engine(engine, device), parameters))


def store_flow_on_device(job: FlowJob, *, device: str) -> FlowResult:
    """Compute one video's flow on a Dask worker's device, in batches with its other threads'.

    Raises:
        WorkError: the store cannot be written, or the device failed.
    """
    try:
        with _creating:  # `cache` would let two threads create one each
            batcher = _batcher(job.engine, device, job.parameters)
        return store_flow(job, batcher.submit, on_units=add_units)
    except DeviceFailed as error:
        raise WorkError(
            f"{device} of {socket.gethostname()} failed: {error}; stop that worker, or run the same"
            " command again with --engine cpu"
        ) from None
