"""Checkpoints: complete, and either whole or absent."""

import io
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from slic import __version__
from slic.config import with_defaults
from slic.encoders.checkpoints import CHECKPOINT_FORMAT, load_checkpoint, statistics_of
from slic.encoders.encoder import Encoder
from slic.encoders.restoring import fitting_state, unfit_weights
from slic.encoders.tensor_files import save_whole
from slic.errors import CheckpointError
from slic.runtime.regular_files import brief

MOST_STEPS = 2**31
_LEAST = {"epoch": 0, "step": 0, "total_steps": 0, "clustered_at": -1, "lines": 0}
_PLAIN = (str, int, float, bool)


@dataclass
class Progress:
    """How far a run is, and what it needs to go on exactly.

    No state of a random generator is among it: every draw depends on (seed, epoch, video id)
    or (seed, epoch, step).

    Attributes:
        epoch: epochs complete.
        step: steps complete within the next one.
        total_steps: steps complete in all.
        clusters: `{video id: pseudo-label}` in use; None before the first clustering.
        clustered_at: epoch of the last clustering made, or -1.
        lines: lines of metrics.jsonl that belong to this state.
        sums: sums of the epoch's metrics so far.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    clusters: dict[str, int] | None = None
    clustered_at: int = -1
    lines: int = 0
    sums: dict[str, float] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    encoder: Encoder,
    optimiser: torch.optim.Optimizer,
    *,
    progress: Progress,
    settings: dict[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all."""
    save_whole(path, _content(encoder, optimiser, progress, settings))


def packed(
    encoder: Encoder,
    optimiser: torch.optim.Optimizer,
    *,
    progress: Progress,
    settings: dict[str, Any],
) -> bytes:
    """A checkpoint for other processes of the same training."""
    file = io.BytesIO()
    torch.save(_content(encoder, optimiser, progress, settings), file)
    return file.getvalue()


def unpack(told: bytes, encoder: Encoder, optimiser: torch.optim.Optimizer) -> Progress:
    """Take over what another process of the same training has `packed`."""
    content = torch.load(io.BytesIO(told), map_location="cpu", weights_only=True)
    encoder.load_state_dict(content["model"])
    encoder.statistics = (tuple(content["mean"]), tuple(content["std"]))
    optimiser.load_state_dict(content["optimiser"])
    return Progress(**content["progress"])


def _content(
    encoder: Encoder,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    settings: dict[str, Any],
) -> dict[str, Any]:
    return {
        "format": CHECKPOINT_FORMAT,
        "slic": __version__,
        "encoder": encoder.name,
        "model": {k: v.detach().cpu() for k, v in encoder.state_dict().items()},
        "optimiser": optimiser.state_dict(),
        "progress": vars(progress),
        "settings": settings,
        "mean": list(encoder.statistics[0]),
        "std": list(encoder.statistics[1]),
    }


def restore(
    path: Path,
    encoder: Encoder,
    optimiser: torch.optim.Optimizer,
    *,
    settings: dict[str, Any],
    videos: Collection[str],
) -> Progress:
    """Restore model, head and optimiser from a checkpoint, all of it or none.

    Args:
        path: the checkpoint.
        encoder: changed, but not if an error is raised.
        optimiser: of the encoder; likewise.
        settings: of the run.
        videos: ids that the run trains on.

    Raises:
        CheckpointError: damaged, of another encoder or other settings, or incomplete.
    """
    content = load_checkpoint(path)
    if not _same_settings(content.get("settings"), settings):
        raise CheckpointError(f"{path}: of other settings than its run's config.toml")
    if content["encoder"] != encoder.name:
        raise CheckpointError(f"{path}: of encoder {brief(content['encoder'])}, not {encoder.name}")
    statistics = statistics_of(content, where=str(path))
    try:
        progress = _progress(content.get("progress"), videos, epochs=settings["epochs"])
        if unfit := unfit_weights(content["model"], encoder.state_dict()):
            raise ValueError(f"weights do not fit: {unfit}")
        state = fitting_state(content.get("optimiser"), optimiser)
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be continued from ({error})") from None
    encoder.load_state_dict(content["model"])
    encoder.statistics = statistics
    optimiser.load_state_dict(state)
    return progress


def _same_settings(found: Any, settings: dict[str, Any]) -> bool:
    if not isinstance(found, dict) or not all(type(v) in _PLAIN for v in found.values()):
        return False
    return with_defaults(found) == settings


def _progress(found: Any, videos: Collection[str], *, epochs: int) -> Progress:
    """Progress as a checkpoint has it; ValueError where it is none of a run of these videos."""
    names = {each.name for each in fields(Progress)}
    if not isinstance(found, dict) or not found.keys() <= names:
        raise ValueError("no record of its progress")
    progress = Progress(**found)
    for name, least in _LEAST.items():
        number = getattr(progress, name)
        if type(number) is not int or not least <= number <= MOST_STEPS:
            raise ValueError(f"{name} of its progress is no number of them")
    if max(progress.epoch, progress.clustered_at) > epochs or progress.step > progress.total_steps:
        raise ValueError("its progress goes beyond its settings")
    sums, clusters = progress.sums, progress.clusters
    if not isinstance(sums, dict) or not all(
        isinstance(name, str) and type(total) in (int, float) for name, total in sums.items()
    ):
        raise ValueError("no sums of its epoch")
    if clusters is None:
        return progress
    if not isinstance(clusters, dict) or clusters.keys() != set(videos):
        raise ValueError("clusters of other videos than its run's")
    if not all(type(c) is int and 0 <= c < MOST_STEPS for c in clusters.values()):
        raise ValueError("clusters that are no numbers")
    return progress
