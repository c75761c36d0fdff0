"""Training that goes wrong is noticed: values that are not finite, and a collapsed embedding."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from slic.errors import WorkError
from slic.runs import Run
from slic.runtime.disk import atomic_write

FAILED_STEP = "failed-step.json"
LOOK_EVERY = 32  # steps between two looks at a GPU, each of which waits for it
NAMED = 3


class LossWatch:
    """Watches the losses of an epoch for the first that is not finite.

    A GPU is asked only now and then, since to ask is to wait for it; the step is known all the
    same.

    Args:
        device: of the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._every = LOOK_EVERY if device.type == "cuda" else 1
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def see(self, step: int, loss: Tensor) -> int | None:
        """Take a step's scalar loss; the first bad step, if one is known by now.

        Args:
            step: its number, from 0.
            loss: on the device.
        """
        bad = (self._first < 0) & ~torch.isfinite(loss.detach())
        self._first = torch.where(bad, step, self._first)
        return self.first() if (step + 1) % self._every == 0 else None

    def first(self) -> int | None:
        """The first step whose loss was not finite, or None."""
        step = int(self._first)
        return None if step < 0 else step


def finite_weights(encoder: nn.Module) -> bool:
    """Whether every parameter and running statistic is finite."""
    values = [v for v in encoder.state_dict().values() if v.is_floating_point()]
    return bool(torch.stack([torch.isfinite(v).all() for v in values]).all())


def not_finite(
    run: Run, what: str, batch: Sequence[Any], *, epoch: int, step: int, rate: float
) -> WorkError:
    """The error of a loss or of weights that are not finite; notes the step's clips in the run.

    Args:
        run: it keeps its last good checkpoint.
        what: is not finite: `loss` or `weights`.
        batch: the step's samples, dataclasses.
        epoch: of the step.
        step: its number in the whole run, from 1.
        rate: the step's learning rate.
    """
    about = {"what": what, "epoch": epoch, "step": step, "lr": rate}
    path = run.path / FAILED_STEP
    content = {**about, "samples": [asdict(sample) for sample in batch]}
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())
    videos = named_some(sample.clips[0].video for sample in batch)
    return WorkError(
        f"{run.path}: the {what} of step {step}, in epoch {epoch}, is not finite, with clips of"
        f" {videos} (all are in {path}); the checkpoint before it stays; start a run with a"
        " smaller --lr, or with --precision fp32 on a GPU"
    )


def named_some(ids: Iterable[str]) -> str:
    """Some of the ids, and how many more there are."""
    known = list(ids)
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(map(repr, known[:NAMED])) + more
