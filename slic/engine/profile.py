"""Measure how long each phase of a training takes: waiting for data, and the parts of a step."""

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
    """Seconds spent in each phase of the steps done, and in clustering.

    With a GPU, the end of every phase waits for it, so that a profiled run is somewhat slower.

    Args:
        device: device of the steps.
        enabled: False to measure nothing and never wait.
    """

    def __init__(self, device: torch.device, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.steps = 0
        self.seconds = dict.fromkeys((*PHASES, CLUSTERING), 0.0)
        self._device = device

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as a phase."""
        begin = self._now()
        yield
        self.seconds[name] += self._now() - begin

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """Iterate over batches, measuring the time that each is waited for."""
        end = object()
        while True:
            begin = self._now()
            batch = next(batches, end)
            if batch is end:
                return
            self.seconds[WAITING] += self._now() - begin
            self.steps += 1
            yield cast(T, batch)

    def _now(self) -> float:
        if not self.enabled:
            return 0.0
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def rows(self) -> list[tuple[str, float, float | None, float]]:
        """Return name, seconds, milliseconds a step (None for clustering) and share by phase."""
        total = max(sum(self.seconds.values()), 1e-9)
        steps = max(self.steps, 1)
        return [
            (name, spent, None if name == CLUSTERING else 1000 * spent / steps, spent / total)
            for name, spent in self.seconds.items()
        ]
