"""Checkpoint files of encoders: read without running code from them, and checked."""

import math
import os
from typing import Any

from slic.encoders.encoder import ARCHITECTURES, Encoder, Statistics, Triple, new_encoder
from slic.encoders.tensor_files import is_state_dict, read_pickled, state_mismatch
from slic.errors import CheckpointError
from slic.runtime.regular_files import brief

CHECKPOINT_FORMAT = 1


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load a checkpoint's content, without running code from it.

    Raises:
        CheckpointError: it is missing, damaged, not slic's, or of a newer format.
    """
    content = read_pickled(path)
    if not is_checkpoint(content):
        raise CheckpointError(f"{path}: not a slic checkpoint")
    check_format(content, where=str(path))
    if not is_state_dict(content["model"]):
        raise CheckpointError(f"{path}: not a slic checkpoint (its model is not a state dict)")
    return content


def is_checkpoint(content: Any) -> bool:
    """Return whether a file's content is a checkpoint of slic, of whatever format."""
    return isinstance(content, dict) and {"format", "encoder", "model"} <= content.keys()


def check_format(content: dict[str, Any], *, where: str) -> None:
    """Raise CheckpointError if a checkpoint has another format than this version reads."""
    found = content["format"]
    if type(found) is not int or found != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{where}: format {brief(found)}, but this slic reads {CHECKPOINT_FORMAT}; upgrade it"
        )


def statistics_of(content: dict[str, Any], *, where: str) -> Statistics:
    """Return the mean and standard deviation that normalise a checkpoint's clips.

    Raises:
        CheckpointError: they are not three finite numbers each, or a deviation is not positive.
    """
    mean, std = (_three_floats(content.get(name)) for name in ("mean", "std"))
    if mean is None or std is None or min(std) <= 0:
        raise CheckpointError(f"{where}: the mean and std for normalisation are missing")
    return mean, std


def _three_floats(row: Any) -> Triple | None:
    if not isinstance(row, list) or len(row) != 3:
        return None
    if not all(isinstance(value, float) and math.isfinite(value) for value in row):
        return None
    return row[0], row[1], row[2]


def encoder_of(content: dict[str, Any], *, where: str) -> Encoder:
    """Build the encoder of a checkpoint's content, in eval mode.

    Raises:
        CheckpointError: unknown encoder, weights that do not fit it, or no usable normalisation.
    """
    name = content["encoder"]
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointError(f"{where}: of an unknown encoder {brief(name)}")
    encoder = new_encoder(name, seed=0)
    encoder.statistics = statistics_of(content, where=where)
    if mismatch := state_mismatch(content["model"], encoder.state_dict()):
        raise CheckpointError(f"{where}: weights do not fit {name} ({mismatch})")
    encoder.load_state_dict(content["model"])
    return encoder.eval()


def load_encoder(file: str | os.PathLike[str]) -> Encoder:
    """Load the encoder of a checkpoint file, in eval mode.

    It maps `(N, 3, T, H, W)` float, normalised by its `statistics`, to backbone embeddings
    `(N, D)` and projections `(N, 128)`; D is 512 for R3D-18.

    Raises:
        CheckpointError: the file is missing, damaged, not slic's, or does not fit its encoder.
    """
    return encoder_of(load_checkpoint(file), where=str(file))
