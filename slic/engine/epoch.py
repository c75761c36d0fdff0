"""The epoch in progress: its batches, sums over its steps, and a watch for losses not finite."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from slic.clips.samples import Sample

LOOK_EVERY = 32  # steps between two looks at a GPU's losses, each of which waits for the GPU


class Epoch:
    """State of an epoch, from its first step until it is logged.

    Args:
        number: number of the epoch, from 0.
        plan: its batches.
        sums: sums of the steps already done, from a checkpoint.
        device: device of the losses.
    """

    def __init__(
        self,
        number: int,
        plan: Sequence[Sequence[Sample]],
        sums: Mapping[str, float],
        device: torch.device,
    ) -> None:
        self.number, self.plan = number, plan
        self._sums = {k: torch.tensor(v, dtype=torch.float64) for k, v in sums.items()}
        self._look_every = LOOK_EVERY if device.type == "cuda" else 1
        self._bad_step = torch.full((), -1, dtype=torch.int64, device=device)

    def add(self, step: int, values: Mapping[str, Tensor]) -> int | None:
        """Add the sums of a step, of which `loss` is one.

        Returns:
            The first step whose loss is not finite, if one is known by now. A GPU is asked only
            every `LOOK_EVERY` steps.
        """
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value
        bad = (self._bad_step < 0) & ~torch.isfinite(values["loss"].detach())
        self._bad_step = torch.where(bad, step, self._bad_step)
        return self.bad_step() if (step + 1) % self._look_every == 0 else None

    def bad_step(self) -> int | None:
        """Return the first step whose loss is not finite, or None; waits for the device."""
        step = int(self._bad_step)
        return None if step < 0 else step

    @property
    def sums(self) -> dict[str, float]:
        """Sums of the steps done; waits for the device."""
        return {name: float(value) for name, value in self._sums.items()}
