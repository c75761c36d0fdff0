"""Encoders: 3-D networks with a projection head."""

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from slic.config import EncoderName
from slic.errors import CheckpointError, InputError
from slic.networks import Body, resnet, s3d
from slic.regular import brief
from slic.restoring import unfit_weights
from slic.tensor_files import is_weight, read_pickled

CHECKPOINT_FORMAT = 1
PROJECTION_DIM = 128
# Kinetics-400 statistics of RGB in 0..1; saved in each checkpoint, used at every stage.
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)


Triple = tuple[float, float, float]
Statistics = tuple[Triple, Triple]


@dataclass(frozen=True)
class Architecture:
    """What tells one encoder from another.

    Attributes:
        build: makes its stem and stages.
        features: length of the backbone embedding.
        hidden: units of the projection head's hidden layer.
        least_frames, least_size: of a clip, below which a layer has nothing left to work on.
    """

    build: Callable[[], Body]
    features: int
    hidden: int
    least_frames: int = 1
    least_size: int = 1


ARCHITECTURES: dict[EncoderName, Architecture] = {
    # Section 4.1: the stem spans 7 frames, at stride 1, where torchvision's spans 3.
    "r3d18": Architecture(
        partial(resnet, width=64, stem_frames=7, stem_stride=1), features=512, hidden=2048
    ),
    "r3d18-tv": Architecture(
        partial(resnet, width=64, stem_frames=3, stem_stride=1), features=512, hidden=2048
    ),
    # Two halvings in time and four in space leave at least 2 of each for the last pooling.
    "s3d": Architecture(s3d, features=1024, hidden=2048, least_frames=5, least_size=17),
    # Half the frames after the stem: half the time a step, and more learnt in it (measured).
    "small": Architecture(
        partial(resnet, width=16, stem_frames=3, stem_stride=2), features=128, hidden=512
    ),
}


def least_input(name: EncoderName) -> tuple[int, int]:
    """Fewest frames and smallest side in pixels of a clip that an encoder can take."""
    return ARCHITECTURES[name].least_frames, ARCHITECTURES[name].least_size


class Encoder(nn.Module):
    """A backbone, R3D-18 in the paper (section 4.1), with a projection head.

    The backbone's embedding is the mean of its maps over time and space; the head is Linear,
    BN, ReLU, Linear. There is no dropout.

    Its attribute `statistics` is the mean and deviation of RGB in 0..1 by which its clips are
    normalised: ours, unless its weights are from elsewhere.

    Args:
        name: which architecture.
    """

    def __init__(self, name: EncoderName) -> None:
        super().__init__()
        self.name = name
        self.statistics: Statistics = (MEAN, STD)
        shape = ARCHITECTURES[name]
        self.stem, self.stages = shape.build()
        self.head = nn.Sequential(
            nn.Linear(shape.features, shape.hidden),
            nn.BatchNorm1d(shape.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(shape.hidden, PROJECTION_DIM),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                # S3D too: with CoCLR's deviation of 0.01 and fresh running statistics, all clips
                # embed alike (features of 1e-13, measured), and the first clusters are rounding.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Embed clips.

        Args:
            clips: `(N, 3, T, H, W)` normalised float.

        Returns:
            backbone `(N, D)` (512 for R3D-18, 1024 for S3D) and projection `(N, 128)`, neither
            normalised.

        Raises:
            InputError: the clips are shorter or smaller than `least_input`.
        """
        frames, height, width = clips.shape[2:]
        least_frames, least_size = least_input(self.name)
        if frames < least_frames or min(height, width) < least_size:
            raise InputError(
                f"{self.name} needs clips of {least_frames} frames of {least_size}x{least_size}"
                f" pixels or more, not {frames} of {width}x{height}"
            )
        for block in self.blocks():
            clips = block(clips)
        return self.embed(clips)

    def blocks(self) -> list[nn.Module]:
        """What is applied in turn before `embed`: the stem, and each block of each stage."""
        return [self.stem, *(b for stage in self.stages.children() for b in stage.children())]

    def embed(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone and projection embeddings of the last block's maps `(N, D, t, h, w)`."""
        features = maps.mean(dim=(2, 3, 4))
        return features, self.head(features)


def new_encoder(name: EncoderName, *, seed: int) -> Encoder:
    """An encoder with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would seed the GPUs' generators as well.
        torch.default_generator.manual_seed(seed)
        return Encoder(name)


def weights_digest(state: dict[str, Tensor]) -> str:
    """Short digest of weights: what an embedding cache is keyed by."""
    content = hashlib.blake2b(digest_size=4)
    for key in sorted(state):
        content.update(key.encode())
        # As bytes, since NumPy has no bfloat16.
        flat = state[key].detach().cpu().contiguous().flatten()
        content.update(flat.view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


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
