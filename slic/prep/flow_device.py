"""Flow of many videos on devices: threads read and write, pairs are solved in common batches."""

import math
import multiprocessing
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from slic.errors import WorkError
from slic.prep.flow_batches import Batcher, DeviceFailed
from slic.prep.flow_video import FlowDone, FlowJob, store_flow
from slic.prep.tvl1 import Tvl1Parameters
from slic.prep.tvl1.device import DeviceSolver
from slic.runtime.processes import (
    GRACE_S,
    available_cores,
    in_flight,
    init_worker,
    signals_masked_in_children,
)
from slic.runtime.signals import defer_stops

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class DeviceWork:
    """What a device is to do: engine, device, parameters, and threads that read and write."""

    engine: str
    device: str
    parameters: Tvl1Parameters
    threads: int


def devices_for(engine: str, device: str) -> list[str]:
    """All GPUs where a GPU is meant but none is named, else the device."""
    if device != "cuda":
        return [device]
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def default_threads() -> int:
    """Threads a device: twice the cores, as they wait as often as they work."""
    return max(8, 2 * available_cores())


def flow_on_device(
    jobs: Iterable[FlowJob],
    work: DeviceWork,
    *,
    counted: Callable[[int], None],
    say: Callable[[str], None],
) -> Iterator[FlowDone]:
    """Flow of videos on one device; results in order of completion.

    Args:
        jobs: videos, read as needed.
        work: how.
        counted: takes the pairs of each block that is done.
        say: takes lines for the user.

    Raises:
        WorkError: the store cannot be written, or the device failed.
    """
    solver = DeviceSolver(work.engine, work.device, work.parameters, say=say)
    batcher = Batcher(solver)
    pool = ThreadPoolExecutor(work.threads)

    def submit(job: FlowJob) -> Future[FlowDone]:
        return pool.submit(store_flow, job, batcher.submit, counted=counted)

    try:
        yield from in_flight(submit, jobs, most=work.threads)
    except DeviceFailed as error:
        advice = "run the same command again, or with --engine cpu"
        raise WorkError(f"{work.device} failed: {error}; {advice}") from error
    finally:
        batcher.close()
        pool.shutdown(cancel_futures=True)


def flow_on_devices(
    jobs: Iterable[FlowJob],
    works: list[DeviceWork],
    *,
    counted: Callable[[int], None],
    say: Callable[[str], None],
) -> Iterator[FlowDone]:
    """`flow_on_device` on several devices, one process each; on one, in this process.

    Raises:
        WorkError: as there; or a process died.
    """
    if len(works) == 1:
        yield from flow_on_device(jobs, works[0], counted=counted, say=say)
        return
    context = multiprocessing.get_context("spawn")
    outbox = context.Queue()
    inboxes = [context.Queue() for _ in works]
    processes = [
        context.Process(target=_serve_device, args=(number, work, inbox, outbox), daemon=True)
        for number, (work, inbox) in enumerate(zip(works, inboxes, strict=True))
    ]
    with signals_masked_in_children():
        for process in processes:
            process.start()
    served = _Served(processes, inboxes, outbox)
    try:
        yield from served.results(jobs, works, counted=counted, say=say)
    finally:
        for process, inbox in zip(processes, inboxes, strict=True):
            inbox.cancel_join_thread()
            process.kill()
            process.join()


@dataclass(frozen=True)
class _Served:
    """The processes of devices, the queues of their jobs, and the one of all that they send."""

    processes: list[Any]
    inboxes: list[Any]
    outbox: Any

    def results(
        self,
        jobs: Iterable[FlowJob],
        works: list[DeviceWork],
        *,
        counted: Callable[[int], None],
        say: Callable[[str], None],
    ) -> Iterator[FlowDone]:
        """Outcomes as they come; once told to stop, those that come within the grace."""
        waiting, deadline = iter(jobs), math.inf
        for work, inbox in zip(works, self.inboxes, strict=True):
            for _ in range(work.threads):
                inbox.put(next(waiting, None))
        running = set(range(len(works)))
        with defer_stops() as stopped:
            while running and time.monotonic() < deadline:
                if stopped() and deadline == math.inf:
                    deadline, waiting = time.monotonic() + GRACE_S, iter(())
                    for inbox in self.inboxes:
                        inbox.put(None)
                number, message = self._next_message(running)
                if isinstance(message, FlowDone):
                    yield message
                    self.inboxes[number].put(next(waiting, None))
                elif isinstance(message, int):
                    counted(message)
                elif isinstance(message, str):
                    say(message)
                elif message is None:
                    running.discard(number)
                else:
                    raise message

    def _next_message(self, running: set[int]) -> tuple[int, Any]:
        """A message, and whose it is; after a while without one, that nothing was done."""
        try:
            message: tuple[int, Any] = self.outbox.get(timeout=LOOK_EVERY_S)
            return message
        except queue.Empty:
            died = any(not self.processes[number].is_alive() for number in running)
            if died and self.outbox.empty():
                raise WorkError(
                    "a process of a device died (out of memory?): run the same command again"
                ) from None
            return 0, 0


def _serve_device(number: int, work: DeviceWork, inbox: Any, outbox: Any) -> None:
    """A device's process: jobs come in until None; results, counts and lines go out."""
    init_worker()

    def send(message: object) -> None:
        outbox.put((number, message))

    try:
        for done in flow_on_device(iter(inbox.get, None), work, counted=send, say=send):
            send(done)
        send(None)
    except WorkError as error:
        send(error)
