"""Encoders: 3-D networks with a projection head."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from slic.config import EncoderName
from slic.encoders.networks import Body, resnet, s3d
from slic.errors import InputError

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
