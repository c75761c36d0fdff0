"""Encoders: 3-D ResNets with a projection head, built of torchvision's video blocks."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

from slic.config import EncoderName
from slic.errors import CheckpointError

CHECKPOINT_FORMAT = 1
PROJECTION_DIM = 128
# Kinetics-400 statistics of RGB in 0..1; saved in each checkpoint, used at every stage.
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True)
class Architecture:
    """What tells one 3-D ResNet of 18 layers from another.

    Attributes:
        width: channels of the first stage.
        hidden: units of the projection head's hidden layer.
        stem_frames: frames that the stem's convolution spans.
        stem_stride: its step in frames.
    """

    width: int
    hidden: int
    stem_frames: int
    stem_stride: int

    @property
    def features(self) -> int:
        """Length of the backbone embedding."""
        return 8 * self.width


ARCHITECTURES: dict[EncoderName, Architecture] = {
    "r3d18": Architecture(width=64, hidden=2048, stem_frames=7, stem_stride=1),  # section 4.1
    # Half the frames after the stem: half the time a step, and more learnt in it (measured).
    "small": Architecture(width=16, hidden=512, stem_frames=3, stem_stride=2),
}


class Encoder(nn.Module):
    """R3D-18 with a projection head (paper, section 4.1), and its small sister.

    The stem is one convolution, 7x7 in space and of stride 2 there (for R3D-18 7 frames long
    and of stride 1 in time), without max-pooling; shortcuts are 1x1x1 convolutions with batch
    normalisation; the head is Linear, BN, ReLU, Linear.

    Args:
        name: which architecture.
    """

    def __init__(self, name: EncoderName) -> None:
        super().__init__()
        self.name = name
        shape = ARCHITECTURES[name]
        widths = [shape.width * factor for factor in (1, 2, 4, 8)]
        self.stem = nn.Sequential(
            nn.Conv3d(
                3,
                widths[0],
                (shape.stem_frames, 7, 7),
                stride=(shape.stem_stride, 2, 2),
                padding=(shape.stem_frames // 2, 3, 3),
                bias=False,
            ),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
        )
        stages = []
        for stage, width in enumerate(widths):
            stages.append(_stage(widths[max(0, stage - 1)], width, stride=1 if stage == 0 else 2))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.Linear(shape.features, shape.hidden),
            nn.BatchNorm1d(shape.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(shape.hidden, PROJECTION_DIM),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Embed clips.

        Args:
            clips: `(N, 3, T, H, W)` normalised float.

        Returns:
            backbone `(N, D)` (512 for R3D-18) and projection `(N, 128)`, neither normalised.
        """
        for block in self.blocks():
            clips = block(clips)
        return self.embed(clips)

    def blocks(self) -> list[nn.Module]:
        """What is applied in turn before `embed`: the stem, and each residual block."""
        return [self.stem, *(b for stage in self.stages.children() for b in stage.children())]

    def embed(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone and projection embeddings of the last block's maps `(N, D, t, h, w)`."""
        features = maps.mean(dim=(2, 3, 4))
        return features, self.head(features)


def _stage(channels_in: int, channels: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or channels_in != channels:
        shortcut = nn.Sequential(
            nn.Conv3d(channels_in, channels, 1, stride=stride, bias=False),
            nn.BatchNorm3d(channels),
        )
    first = BasicBlock(channels_in, channels, Conv3DSimple, stride, shortcut)
    return nn.Sequential(first, BasicBlock(channels, channels, Conv3DSimple))


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
        content.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint's content, loaded without running code from it.

    Raises:
        CheckpointError: missing, damaged, not slic's, or of a newer format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    # torch raises many kinds for damaged or foreign files, pickle's and zip's among them.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a checkpoint ({reason[:120]})") from None
    if not isinstance(content, dict) or not {"format", "encoder", "model"} <= content.keys():
        raise CheckpointError(f"{path}: not a checkpoint of slic")
    if content["format"] != CHECKPOINT_FORMAT:
        found = content["format"]
        raise CheckpointError(
            f"{path}: format {found!r}, but this slic reads {CHECKPOINT_FORMAT}; upgrade it"
        )
    return content


def encoder_of(content: dict[str, Any], *, where: str) -> Encoder:
    """The encoder of a checkpoint's content, in eval mode.

    Raises:
        CheckpointError: an unknown encoder, weights of another, or another normalisation.
    """
    name = content["encoder"]
    if name not in list(ARCHITECTURES):
        raise CheckpointError(f"{where}: of an unknown encoder {name!r}")
    if (content.get("mean"), content.get("std")) != (list(MEAN), list(STD)):
        raise CheckpointError(f"{where}: trained with another normalisation than this slic's")
    encoder = new_encoder(name, seed=0)
    try:
        encoder.load_state_dict(content["model"])
    except (RuntimeError, TypeError, AttributeError) as error:
        first = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{where}: weights do not fit {name} ({first})") from None
    return encoder.eval()


def load_encoder(file: str | os.PathLike[str]) -> Encoder:
    """The encoder of a checkpoint file, in eval mode.

    It maps `(N, 3, T, H, W)` float, normalised by the checkpoint's mean and std, to
    (backbone `(N, D)`, projection `(N, 128)`); D is 512 for R3D-18.

    Raises:
        CheckpointError: missing, damaged, foreign, or of another encoder.
    """
    return encoder_of(load_checkpoint(file), where=str(file))
