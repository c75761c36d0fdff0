"""Checkpoints: complete, and either whole or absent."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slic import __version__
from slic.config import with_defaults
from slic.encoders import CHECKPOINT_FORMAT, Encoder, load_checkpoint, statistics_of
from slic.errors import CheckpointError
from slic.saving import save_whole


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
    content = {
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
    save_whole(path, content)


def restore(
    path: Path, encoder: Encoder, optimiser: torch.optim.Optimizer, *, settings: dict[str, Any]
) -> Progress:
    """Restore model, head and optimiser from a checkpoint, all of it or none.

    Raises:
        CheckpointError: damaged, of another encoder or other settings, or incomplete.
    """
    content = load_checkpoint(path)
    of = content.get("settings")
    if not isinstance(of, dict) or with_defaults(of) != settings:
        raise CheckpointError(f"{path}: of other settings than its run's config.toml")
    try:
        progress = Progress(**content["progress"])
        encoder.load_state_dict(content["model"])
        encoder.statistics = statistics_of(content, where=str(path))
        for group in content["optimiser"]["param_groups"]:
            # How it computes is not the checkpoint's to say: it may be of another device.
            group["fused"] = optimiser.defaults["fused"]
        optimiser.load_state_dict(content["optimiser"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        first = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: cannot be continued from ({first})") from None
    return progress
