"""Checkpoint files of encoders: read without running code from them, and checked."""

import math
import os
from typing import Any

from slic.encoders.encoder import ARCHITECTURES, Encoder, Statistics, Triple, new_encoder
from slic.encoders.restoring import unfit_weights
from slic.encoders.tensor_files import is_weight, read_pickled
from slic.errors import CheckpointError
from slic.runtime.regular_files import brief

CHECKPOINT_FORMAT = 1


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint's content, loaded without running code from it.

    Raises:
        CheckpointError: missing, damaged, not slic's, or of a newer format.
    """
    content = read_pickled(path)
    if not is_checkpoint(content):
        raise CheckpointError(f"{path}: not a checkpoint of slic")
    content = of_this_format(content, where=str(path))
    if not _is_model(content["model"]):
        raise CheckpointError(f"{path}: not a checkpoint of slic (its model is no state dict)")
    return content


def _is_model(state: Any) -> bool:
    if not isinstance(state, dict) or not all(is_weight(*item) for item in state.items()):
        return False
    # A few numbers may be repeated to a tensor of any size.
    return all(value.nbytes <= value.untyped_storage().nbytes() for value in state.values())


def is_checkpoint(content: Any) -> bool:
    """Whether a file's content is a checkpoint of slic, of whatever format."""
    return isinstance(content, dict) and {"format", "encoder", "model"} <= content.keys()


def of_this_format(content: dict[str, Any], *, where: str) -> dict[str, Any]:
    """A checkpoint's content, if it is of the format that this slic reads.

    Raises:
        CheckpointError: it is not.
    """
    found = content["format"]
    if type(found) is not int or found != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{where}: format {brief(found)}, but this slic reads {CHECKPOINT_FORMAT}; upgrade it"
        )
    return content


def statistics_of(content: dict[str, Any], *, where: str) -> Statistics:
    """Mean and deviation by which a checkpoint's clips were normalised.

    Raises:
        CheckpointError: it does not hold three finite numbers of each, deviations above 0.
    """
    mean, std = (_three(content.get(name)) for name in ("mean", "std"))
    if mean is None or std is None or min(std) <= 0:
        raise CheckpointError(f"{where}: holds no mean and std of its normalisation")
    return mean, std


def _three(row: Any) -> Triple | None:
    if not isinstance(row, list) or len(row) != 3:
        return None
    if not all(isinstance(value, float) and math.isfinite(value) for value in row):
        return None
    return row[0], row[1], row[2]


def encoder_of(content: dict[str, Any], *, where: str) -> Encoder:
    """The encoder of a checkpoint's content, in eval mode.

    Raises:
        CheckpointError: an unknown encoder, weights of another, or no usable normalisation.
    """
    name = content["encoder"]
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointError(f"{where}: of an unknown encoder {brief(name)}")
    encoder = new_encoder(name, seed=0)
    encoder.statistics = statistics_of(content, where=where)
    if unfit := unfit_weights(content["model"], encoder.state_dict()):
        raise CheckpointError(f"{where}: weights do not fit {name} ({unfit})")
    encoder.load_state_dict(content["model"])
    return encoder.eval()


def load_encoder(file: str | os.PathLike[str]) -> Encoder:
    """The encoder of a checkpoint file, in eval mode.

    It maps `(N, 3, T, H, W)` float, normalised by the checkpoint's mean and std, to
    (backbone `(N, D)`, projection `(N, 128)`); D is 512 for R3D-18.

    Raises:
        CheckpointError: missing, damaged, foreign, or of another encoder.
    """
    return encoder_of(load_checkpoint(file), where=str(file))
