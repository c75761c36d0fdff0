"""Checkpoints: complete, and either whole or absent."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from slic import __version__
from slic.encoders.checkpoints import CHECKPOINT_FORMAT, load_checkpoint, statistics_of
from slic.encoders.tensor_files import optimiser_state, save_tensors, state_mismatch
from slic.engine.distributed import ALONE, Ranks
from slic.engine.task import Task
from slic.errors import CheckpointError
from slic.runtime.regular_files import brief

MOST_STEPS = 2**31
_COUNTS = ("epoch", "step", "total_steps", "lines")
# What the first version kept in its record of progress, and is the method's state now.
_FIRST_VERSION = ("clusters", "clustered_at")


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: epochs complete.
        step: steps complete within the next one.
        total_steps: steps complete in all.
        lines: lines of the log that belong to this state.
        sums: sums of the epoch's figures so far.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    lines: int = 0
    sums: dict[str, float] = field(default_factory=dict)


def save_checkpoint(path: Path, task: Task, progress: Progress) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        DiskError: the file system refuses; what was there before stays.
    """
    save_tensors(path, _content(task, progress))


def packed(task: Task, progress: Progress) -> bytes:
    """A checkpoint for other processes of the same training."""
    file = io.BytesIO()
    torch.save(_content(task, progress), file)
    return file.getvalue()


def unpack(data: bytes, task: Task) -> Progress:
    """Restore a task to what another process of the same training has `packed`."""
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    progress = Progress(**content["progress"])
    task.enter(min(progress.epoch, task.epochs - 1))
    task.load_state(content["state"], progress.epoch)
    task.network.load_state_dict(content["model"])
    task.encoder.statistics = (tuple(content["mean"]), tuple(content["std"]))
    task.optimiser.load_state_dict(content["optimiser"])
    return progress


def _content(task: Task, progress: Progress) -> dict[str, Any]:
    mean, std = task.encoder.statistics
    return {
        "format": CHECKPOINT_FORMAT,
        "slic": __version__,
        "encoder": task.encoder.name,
        "model": {k: v.detach().cpu() for k, v in task.network.state_dict().items()},
        "optimiser": task.optimiser.state_dict(),
        "progress": vars(progress),
        "state": task.state(),
        "settings": task.recorded_settings,
        "mean": list(mean),
        "std": list(std),
    }


def restore(path: Path, task: Task) -> Progress:
    """Restore a task from a checkpoint, all of it or nothing.

    Args:
        path: the checkpoint.
        task: its network, optimiser and state change; if an error is raised, at most its stage.

    Raises:
        CheckpointError: damaged, of another encoder or other settings, or incomplete.
    """
    content = load_checkpoint(path)
    if not task.has_settings(content.get("settings")):
        raise CheckpointError(f"{path}: of other settings than this training's")
    if content["encoder"] != task.encoder.name:
        found = brief(content["encoder"])
        raise CheckpointError(f"{path}: of encoder {found}, not {task.encoder.name}")
    statistics = statistics_of(content, where=str(path))
    try:
        progress, state = _progress(content, task)
        if unfit := state_mismatch(content["model"], task.network.state_dict()):
            raise ValueError(f"weights do not fit: {unfit}")
        task.enter(min(progress.epoch, task.epochs - 1))
        optimiser = optimiser_state(content.get("optimiser"), task.optimiser)
        task.load_state(state, progress.epoch)
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be continued from ({error})") from None
    task.network.load_state_dict(content["model"])
    task.encoder.statistics = statistics
    task.optimiser.load_state_dict(optimiser)
    return progress


def resume(path: Path, task: Task, *, ranks: Ranks = ALONE) -> Progress:
    """Restore a task in all processes from the checkpoint that the first one finds, if any.

    Raises:
        CheckpointError: it does not fit.
    """
    progress = Progress()

    def first() -> bytes:
        nonlocal progress
        if path.exists():
            progress = restore(path, task)
        else:
            task.enter(0)
        return b"" if ranks.alone else packed(task, progress)

    data = ranks.decided(first)
    return progress if ranks.first else unpack(data, task)


def _progress(content: Mapping[str, Any], task: Task) -> tuple[Progress, dict[str, Any]]:
    """Progress and the task's state; ValueError where they are not of this training."""
    found, state = content.get("progress"), content.get("state", {})
    if not isinstance(found, dict) or not isinstance(state, dict):
        raise ValueError("no record of its progress")
    state = {**{name: found[name] for name in _FIRST_VERSION if name in found}, **state}
    known = {name: value for name, value in found.items() if name not in _FIRST_VERSION}
    if not known.keys() <= {each.name for each in fields(Progress)}:
        raise ValueError("no record of its progress")
    progress = Progress(**known)
    for name in _COUNTS:
        if not is_count(getattr(progress, name)):
            raise ValueError(f"{name} of its progress is no number of them")
    if progress.epoch > task.epochs or progress.step > progress.total_steps:
        raise ValueError("its progress goes beyond its settings")
    sums = progress.sums
    if not isinstance(sums, dict) or not all(
        isinstance(name, str) and type(total) in (int, float) for name, total in sums.items()
    ):
        raise ValueError("no sums of its epoch")
    return progress, state


def is_count(value: Any, *, least: int = 0) -> bool:
    """Whether a value read from a checkpoint is a number of epochs, steps or lines."""
    return type(value) is int and least <= value <= MOST_STEPS
