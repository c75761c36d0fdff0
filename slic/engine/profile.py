"""Where a training's time goes: waiting for data, and each part of a step."""

import contextlib
import time
from collections.abc import Iterator
from typing import TypeVar, cast

import torch

T = TypeVar("T")
WAITING = "waiting for data"
PHASES = (WAITING, "to the device", "forward", "selection and loss", "backward", "optimiser")
CLUSTERING = "clustering"


class Profile:
    """Seconds of each phase of the steps done, and of clustering.

    A GPU is waited for at the end of every phase, so that a profiled run is somewhat slower.

    Args:
        device: where the steps are computed.
        wanted: False to measure nothing, and wait for nothing.
    """

    def __init__(self, device: torch.device, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.steps = 0
        self.seconds = dict.fromkeys((*PHASES, CLUSTERING), 0.0)
        self._device = device

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done inside as a phase."""
        if not self.wanted:
            yield
            return
        begin = self._now()
        yield
        self.seconds[name] += self._now() - begin

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """The batches, each waited for; the end of them is not."""
        end = object()
        while True:
            begin = self._now() if self.wanted else 0.0
            batch = next(batches, end)
            if batch is end:
                return
            if self.wanted:
                self.seconds[WAITING] += self._now() - begin
            self.steps += 1
            yield cast(T, batch)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def rows(self) -> list[tuple[str, float, float | None, float]]:
        """Of each phase: name, seconds, milliseconds a step (None of clustering), share."""
        total = max(sum(self.seconds.values()), 1e-9)
        steps = max(self.steps, 1)
        return [
            (name, spent, None if name == CLUSTERING else 1000 * spent / steps, spent / total)
            for name, spent in self.seconds.items()
        ]
