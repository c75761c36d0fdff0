"""How far the training of a classifier is: kept each epoch, and continued from exactly."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slic import __version__
from slic.errors import CheckpointError
from slic.eval.classifier import Classifier
from slic.saving import save_whole
from slic.tensor_files import read_pickled

FORMAT = 1


@dataclass
class State:
    """What changes beside network and optimiser.

    Attributes:
        epoch: epochs complete.
        history: of each: epoch (from 1), lr, loss, validation_top1 (None without validation).
        best_epoch: whose weights are best so far, from 1; 0 before the first.
        best: these weights, of the network's trained part; None where the last are the best.
        finished: training is over, and the network holds the weights to test.
    """

    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None
    finished: bool = False


def weights_of(network: Classifier) -> dict[str, Tensor]:
    """A copy of the trained part's weights, on the host."""
    return {k: v.detach().cpu().clone() for k, v in network.trained.state_dict().items()}


def save_state(
    path: Path,
    state: State,
    network: Classifier,
    optimiser: torch.optim.Optimizer,
    *,
    classes: list[str],
) -> None:
    """Write a checkpoint; of a finished training, only the weights to test."""
    content = {
        "format": FORMAT,
        "slic": __version__,
        "encoder": network.backbone.name,
        "classes": classes,
        "model": weights_of(network),
        "optimiser": None if state.finished else optimiser.state_dict(),
        "state": vars(state),
    }
    save_whole(path, content)


def restore_state(
    path: Path, network: Classifier, optimiser: torch.optim.Optimizer, *, classes: list[str]
) -> State:
    """Continue from a checkpoint: its state, with network and optimiser as they were.

    Raises:
        CheckpointError: damaged, or not of this training.
    """
    content = read_pickled(path)
    try:
        if content["format"] != FORMAT or content["classes"] != classes:
            raise ValueError("of another format, or other classes")
        state = State(**content["state"])
        network.trained.load_state_dict(content["model"])
        if not state.finished:
            optimiser.load_state_dict(content["optimiser"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        first = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path}: cannot be continued from ({first}); delete it to begin again"
        ) from None
    return state
