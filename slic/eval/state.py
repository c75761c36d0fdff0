"""How far the training of a classifier is: kept, and continued from exactly."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slic import __version__
from slic.encoders.restoring import fitting_state, unfit_weights
from slic.encoders.tensor_files import read_pickled, save_whole
from slic.errors import CheckpointError
from slic.eval.classifier import Classifier

FORMAT = 1
_KEYS = {"format", "slic", "encoder", "classes", "model", "optimiser", "state"}


@dataclass
class State:
    """What changes beside network and optimiser.

    Attributes:
        epoch: epochs complete.
        step: steps complete within the next one.
        loss: sum of their losses, each times its clips.
        history: of each: epoch (from 1), lr, loss, validation_top1 (None without validation).
        best_epoch: whose weights are best so far, from 1; 0 before the first.
        best: these weights, of the network's trained part; None where the last are the best.
        finished: training is over, and the network holds the weights to test.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
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
    path: Path,
    network: Classifier,
    optimiser: torch.optim.Optimizer,
    *,
    classes: list[str],
    epochs: int,
) -> State:
    """Continue from a checkpoint: its state, with network and optimiser as they were.

    Args:
        path: the checkpoint.
        network: changed, but not if an error is raised.
        optimiser: of the network; likewise.
        classes: of the training.
        epochs: of the training, all in all.

    Raises:
        CheckpointError: damaged, or not of this training.
    """
    content = read_pickled(path)
    own = network.trained.state_dict()
    try:
        if not isinstance(content, dict) or content.keys() != _KEYS:
            raise ValueError("no checkpoint of a classifier")
        if not _is_of(content, classes):
            raise ValueError("of another format, or other classes")
        state = _state(content["state"], own, epochs=epochs)
        if unfit := unfit_weights(content["model"], own):
            raise ValueError(f"weights do not fit: {unfit}")
        kept = None if state.finished else fitting_state(content["optimiser"], optimiser)
    except ValueError as error:
        raise CheckpointError(
            f"{path}: cannot be continued from ({error}); delete it to begin again"
        ) from None
    network.trained.load_state_dict(content["model"])
    if kept is not None:
        optimiser.load_state_dict(kept)
    return state


def _is_of(content: dict[str, Any], classes: list[str]) -> bool:
    found, names = content["format"], content["classes"]
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return type(found) is int and found == FORMAT and texts and names == classes


def _state(found: Any, own: dict[str, Tensor], *, epochs: int) -> State:
    """A state as a checkpoint has it; ValueError where it is none of such a training."""
    if not isinstance(found, dict) or not found.keys() <= {each.name for each in fields(State)}:
        raise ValueError("no record of its progress")
    state = State(**found)
    counts = (state.epoch, state.step, state.best_epoch)
    if not all(type(count) is int and count >= 0 for count in counts) or not _is_loss(state.loss):
        raise ValueError("its progress holds impossible numbers")
    if not state.best_epoch <= state.epoch <= epochs or not isinstance(state.finished, bool):
        raise ValueError("its progress goes beyond its training")
    if not isinstance(state.history, list) or len(state.history) != state.epoch:
        raise ValueError("its history is not of its epochs")
    validated = {type(_top1(line)) for line in state.history}
    if len(validated) > 1:
        raise ValueError("its history has only some of its epochs validated")
    if (state.finished or state.best is not None) and state.best_epoch == 0:
        raise ValueError("its best epoch is none")
    if state.best is not None and (unfit := unfit_weights(state.best, own)):
        raise ValueError(f"its best weights do not fit: {unfit}")
    return state


def _top1(line: Any) -> float | None:
    """Accuracy of one line of a history, if it was measured."""
    names = {"epoch", "lr", "loss", "validation_top1"}
    if not isinstance(line, dict) or line.keys() != names or type(line["epoch"]) is not int:
        raise ValueError("its history holds what is no epoch")
    top1 = line["validation_top1"]
    if not (_is_loss(line["lr"]) and _is_loss(line["loss"]) and (top1 is None or _is_loss(top1))):
        raise ValueError("its history holds what is no number")
    return top1


def _is_loss(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)
