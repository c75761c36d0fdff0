"""One epoch under way: its plan, what its steps add up to, and the watch over their losses."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from slic.clips.samples import Sample
from slic.engine.divergence import LossWatch


class Epoch:
    """What is known of an epoch between its first step and its record.

    Args:
        number: from 0.
        plan: its batches.
        sums: of the steps already done, from a checkpoint.
        device: of the losses.
    """

    def __init__(
        self,
        number: int,
        plan: Sequence[Sequence[Sample]],
        sums: Mapping[str, float],
        device: torch.device,
    ) -> None:
        self.number, self.plan = number, plan
        self.watch = LossWatch(device)
        self._sums = {k: torch.tensor(v, dtype=torch.float64) for k, v in sums.items()}

    def add(self, step: int, values: Mapping[str, Tensor]) -> int | None:
        """Add a step's sums; the first step whose loss is not finite, if one is known by now."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value
        return self.watch.see(step, values["loss"])

    @property
    def sums(self) -> dict[str, float]:
        """Sums of the steps done; to read them is to wait for the device."""
        return {name: float(value) for name, value in self._sums.items()}
