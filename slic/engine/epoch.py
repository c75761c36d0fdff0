"""One epoch under way: its plan, what its steps add up to, and the watch over their losses."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slic.engine.divergence import LossWatch
from slic.train.sampling import Sample
from slic.train.step import false_positives


class Epoch:
    """What is known of an epoch between its first step and its record.

    Args:
        plan: its batches.
        sums: of the steps already done, from a checkpoint.
        device: of the losses.
    """

    def __init__(
        self, plan: list[list[Sample]], sums: Mapping[str, float], device: torch.device
    ) -> None:
        self.plan = plan
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

    def record(self, truth: Mapping[str, int]) -> dict[str, Any]:
        """The epoch's line of metrics.jsonl; `truth` are the labels known."""
        counts = [false_positives(batch, truth) for batch in self.plan]
        positives = {"false": sum(c[0] for c in counts), "drawn": sum(c[1] for c in counts)}
        return epoch_record(self.sums | positives, samples=sum(map(len, self.plan)))


def epoch_record(sums: Mapping[str, float], *, samples: int) -> dict[str, Any]:
    """The epoch's line of metrics.jsonl from its sums: means a sample, counts, and rates.

    The false-positive rate is of positives drawn from another video, the false-negative rate
    of negatives; both are None where nothing was drawn or labels are unknown.
    """
    losses = ("loss", "instance_loss", "temporal_loss")
    record: dict[str, Any] = {k: sums[k] / samples for k in losses if k in sums}
    record |= {k: int(sums[k]) for k in ("skipped", "fallback") if k in sums}
    rates = {
        "false_positive_rate": ("false", "drawn"),
        "false_negative_rate": ("false_negatives", "negatives"),
    }
    for rate, (part, whole) in rates.items():
        record[rate] = sums[part] / sums[whole] if sums.get(whole) else None
    return {**record, "samples": samples}
