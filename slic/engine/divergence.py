"""Report losses and weights that are not finite."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from slic.errors import WorkError
from slic.runs import Run
from slic.runtime.disk import atomic_write

FAILED_STEP = "failed-step.json"
NAMED = 3  # videos in a message


def finite_weights(network: nn.Module) -> bool:
    """Return whether every parameter and running statistic is finite."""
    values = [v for v in network.state_dict().values() if v.is_floating_point()]
    return bool(torch.stack([torch.isfinite(v).all() for v in values]).all())


def not_finite(
    run: Run, what: str, batch: Sequence[Any], *, epoch: int, step: int, rate: float
) -> WorkError:
    """Write the clips of a failed step to failed-step.json, and return the error to raise.

    Args:
        run: run that failed; its last good checkpoint stays.
        what: what is not finite, `loss` or `weights`.
        batch: samples of the step, which are dataclasses.
        epoch: epoch of the step, from 0.
        step: number of the step in the whole run, from 1.
        rate: learning rate of the step.
    """
    about = {"what": what, "epoch": epoch, "step": step, "lr": rate}
    path = run.path / FAILED_STEP
    content = {**about, "samples": [asdict(sample) for sample in batch]}
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())
    videos = name_some(sample.clips[0].video for sample in batch)
    verb = "are" if what == "weights" else "is"
    return WorkError(
        f"{run.path}: the {what} {verb} not finite at step {step} in epoch {epoch}, with clips of"
        f" {videos} (complete list in {path}). The last checkpoint is not affected; start a run"
        " with a smaller --lr, or with --precision fp32 on a GPU"
    )


def name_some(ids: Iterable[str]) -> str:
    """Name the first few ids, and how many more there are."""
    known = list(ids)
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(map(repr, known[:NAMED])) + more
