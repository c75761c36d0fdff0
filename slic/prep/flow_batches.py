"""Collect blocks of frames from many videos, and solve them on a device in common batches."""

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from slic.errors import SlicError, WorkError
from slic.prep.flow_video import Levels
from slic.prep.tvl1.device import DeviceSolver
from slic.runtime.text import first_line

SOLVERS = 2  # threads: one batch is being solved while another is packed or fetched

Kind = tuple[int, int, float]  # height, width, bound
Block = tuple[NDArray[np.uint8], "Future[Levels]"]


class DeviceFailed(Exception):
    """A device, or a compiler for it, failed; the message is one line."""


class Batcher:
    """Collect blocks of frames from many threads, and solve those of one size together.

    Args:
        solver: solves batches on the device.
    """

    def __init__(self, solver: DeviceSolver) -> None:
        self._solver = solver
        self._changed = threading.Condition()
        self._waiting: dict[Kind, list[Block]] = defaultdict(list)
        self._most: dict[Kind, int] = {}
        self._open = True
        self._threads = [threading.Thread(target=self._serve) for _ in range(SOLVERS)]
        for thread in self._threads:
            thread.start()

    def submit(self, frames: NDArray[np.uint8], bound: float) -> Callable[[], Levels]:
        """Submit a block; the function returned waits for its quantised flow."""
        future: Future[Levels] = Future()
        height, width = frames.shape[1:]
        most = self._solver.pairs_at_once(height, width)
        with self._changed:
            if not self._open:
                raise WorkError("stopped")
            self._waiting[height, width, bound].append((frames, future))
            self._most[height, width, bound] = most
            self._changed.notify()
        return future.result

    def close(self) -> None:
        """Fail the blocks that wait, and return when those being solved are done."""
        with self._changed:
            self._open = False
            for blocks in self._waiting.values():
                for _, future in blocks:
                    future.set_exception(WorkError("stopped"))
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        # A stream of this thread's own, so that it does not wait for other threads.
        device = self._solver.device
        stream: AbstractContextManager[object] = nullcontext()
        if device.type == "cuda":
            stream = torch.cuda.stream(torch.cuda.Stream(device))
        with stream:
            while taken := self._take():
                bound, blocks = taken
                try:
                    solved = self._solver.levels([frames for frames, _ in blocks], bound)
                except Exception as error:
                    # A compiler raises anything, even OSError, which is no disk error here.
                    failure: Exception = error
                    if not isinstance(error, SlicError):
                        failure = DeviceFailed(first_line(error))
                    for _, future in blocks:
                        future.set_exception(failure)
                else:
                    for (_, future), levels in zip(blocks, solved, strict=True):
                        future.set_result(levels)

    def _take(self) -> tuple[float, list[Block]] | None:
        """Return the bound and blocks of a batch, of the commonest size; None after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open)
            if not self._waiting:
                return None
            key = max(self._waiting, key=lambda key: len(self._waiting[key]))
            waiting = self._waiting.pop(key)
            pairs = accumulate(len(frames) - 1 for frames, _ in waiting)
            number = max(1, sum(total <= self._most[key] for total in pairs))
            if number < len(waiting):
                self._waiting[key] = waiting[number:]
            return key[-1], waiting[:number]
