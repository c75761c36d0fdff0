"""Save a training to a checkpoint, which is complete or absent, and restore it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slic import __version__
from slic.encoders.checkpoints import CHECKPOINT_FORMAT, load_checkpoint, statistics_of
from slic.encoders.tensor_files import optimiser_state, save_tensors, state_mismatch
from slic.engine.distributed import SINGLE, Ranks
from slic.engine.task import Task
from slic.errors import CheckpointError
from slic.runtime.regular_files import brief

MAX_COUNT = 2**31
# The first version kept these with its progress; now they belong to the method's state.
_FIRST_VERSION = ("clusters", "clustered_at")


@dataclass
class Progress:
    """Progress of a training.

    Attributes:
        epoch: number of complete epochs.
        step: number of steps done in the current epoch.
        total_steps: number of steps done in all.
        lines: number of lines of the log up to here.
        sums: sums of the current epoch's figures so far.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    lines: int = 0
    sums: dict[str, float] = field(default_factory=dict)


def save_checkpoint(path: Path, task: Task, progress: Progress) -> None:
    """Write a checkpoint, or leave the previous one as it was.

    Raises:
        DiskError: the file system refuses to write.
    """
    mean, std = task.encoder.statistics
    content = {
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
    save_tensors(path, content)


def resume(path: Path, task: Task, *, ranks: Ranks = SINGLE) -> Progress:
    """Restore a task on all ranks from the checkpoint that rank 0 reads, if there is one.

    Raises:
        CheckpointError: as `restore`.
    """
    content = ranks.on_first(lambda: load_checkpoint(path) if path.exists() else None)
    if content is None:
        task.enter(0)
        return Progress()
    return restore(content, task, where=path)


def restore(content: Mapping[str, Any], task: Task, *, where: Path) -> Progress:
    """Restore a task from the content of a checkpoint, completely or not at all.

    Args:
        content: what `load_checkpoint` returned.
        task: its network, optimiser and state are changed; if this fails, its stage at most.
        where: path of the checkpoint, for messages.

    Raises:
        CheckpointError: incomplete, or of another encoder or other settings.
    """
    if not task.has_settings(content.get("settings")):
        raise CheckpointError(f"{where}: has other settings than this training")
    if content["encoder"] != task.encoder.name:
        found = brief(content["encoder"])
        raise CheckpointError(f"{where}: has encoder {found}, not {task.encoder.name}")
    statistics = statistics_of(dict(content), where=str(where))
    try:
        progress, state = _progress(content, task)
        if unfit := state_mismatch(content["model"], task.network.state_dict()):
            raise ValueError(f"weights do not fit: {unfit}")
        task.enter(min(progress.epoch, task.epochs - 1))
        optimiser = optimiser_state(content.get("optimiser"), task.optimiser)
        task.load_state(state, progress.epoch)
    except ValueError as error:
        raise CheckpointError(f"{where}: cannot be continued from ({error})") from None
    task.network.load_state_dict(content["model"])
    task.encoder.statistics = statistics
    task.optimiser.load_state_dict(optimiser)
    return progress


def _progress(content: Mapping[str, Any], task: Task) -> tuple[Progress, dict[str, Any]]:
    """Return progress and the task's state; ValueError if they don't belong to this training."""
    found, state = content.get("progress"), content.get("state", {})
    if not isinstance(found, dict) or not isinstance(state, dict):
        raise ValueError("no record of its progress")
    state = {**{name: found[name] for name in _FIRST_VERSION if name in found}, **state}
    try:
        progress = Progress(**{k: v for k, v in found.items() if k not in _FIRST_VERSION})
    except TypeError:
        raise ValueError("no record of its progress") from None
    counts = (progress.epoch, progress.step, progress.total_steps, progress.lines)
    if not all(map(is_count, counts)):
        raise ValueError("its progress contains values that are not counts")
    if progress.epoch > task.epochs or progress.step > progress.total_steps:
        raise ValueError("its progress exceeds its settings")
    sums = progress.sums
    if not isinstance(sums, dict) or not all(
        isinstance(name, str) and type(total) in (int, float) for name, total in sums.items()
    ):
        raise ValueError("its sums are not numbers")
    return progress, state


def is_count(value: Any, *, least: int = 0) -> bool:
    """Return whether a value read from a checkpoint is a count of epochs, steps or lines."""
    return type(value) is int and least <= value <= MAX_COUNT
