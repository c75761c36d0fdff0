"""Encoders: 3-D convolutional networks with a projection head, and their normalised input."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from slic.config import EncoderName
from slic.errors import InputError

Body = tuple[nn.Module, nn.Sequential]
Triple = tuple[float, float, float]
Statistics = tuple[Triple, Triple]

PROJECTION_DIM = 128
# Kinetics-400 statistics of RGB in 0..1; saved in each checkpoint, used at every stage.
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)
# First and last layer of each stage, among S3D's sixteen: each begins with its pooling.
_S3D_STAGES = ((1, 3), (4, 6), (7, 12), (13, 15))


def resnet(*, width: int, stem_frames: int, stem_stride: int) -> Body:
    """Build the stem and the four stages of a 3-D ResNet with 18 layers.

    The stem is one convolution, 7x7 in space with stride 2, without max-pooling; shortcuts are
    1x1x1 convolutions with batch normalisation.

    Args:
        width: channels of the first stage; each later stage has twice as many.
        stem_frames: frames that the stem's convolution spans.
        stem_stride: stride of the stem's convolution, in frames.
    """
    stem = nn.Sequential(
        nn.Conv3d(
            3,
            width,
            (stem_frames, 7, 7),
            stride=(stem_stride, 2, 2),
            padding=(stem_frames // 2, 3, 3),
            bias=False,
        ),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )
    widths = [width * factor for factor in (1, 2, 4, 8)]
    stages = [_resnet_stage(width, width, stride=1)]
    for before, channels in pairwise(widths):
        stages.append(_resnet_stage(before, channels, stride=2))
    return stem, nn.Sequential(*stages)


def _resnet_stage(channels_in: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(channels_in, channels, stride=stride), ResidualBlock(channels, channels)
    )


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut (He et al., CVPR 2016, figure 5, left; in 3-D).

    Submodules are named as in torchvision's video ResNets. Those are not imported, because that
    takes more than a second in each process: it brings PyTorch's compiler.

    Args:
        channels_in: channels of the input `(N, channels_in, T, H, W)`.
        channels: channels of the output `(N, channels, T / stride, H / stride, W / stride)`,
            sizes rounded up.
        stride: stride of the first convolution.
    """

    def __init__(self, channels_in: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        shortcut = None
        if stride != 1 or channels_in != channels:
            shortcut = nn.Sequential(
                nn.Conv3d(channels_in, channels, 1, stride=stride, bias=False),
                nn.BatchNorm3d(channels),
            )
        self.conv1 = nn.Sequential(
            *_convolution(channels_in, channels, stride), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(*_convolution(channels, channels))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = maps if self.downsample is None else self.downsample(maps)
        return self.relu(self.conv2(self.conv1(maps)) + shortcut)


def _convolution(channels_in: int, channels: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv3d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm3d(channels)


def s3d() -> Body:
    """Build the stem and the four stages of S3D (Xie et al., ECCV 2018), without self-gating.

    Batch normalisation has PyTorch's defaults (epsilon 1e-5, momentum 0.1), as in CoCLR's S3D,
    which the paper's is; torchvision's has 1e-3 for both.
    """
    from torchvision.models.video.s3d import S3D  # slow to import

    layers = list(S3D(norm_layer=nn.BatchNorm3d).features)
    stages = [nn.Sequential(*layers[first : last + 1]) for first, last in _S3D_STAGES]
    return layers[0], nn.Sequential(*stages)


@dataclass(frozen=True)
class Architecture:
    """An encoder's parts.

    Attributes:
        build: returns its stem and stages.
        features: length of the backbone embedding.
        hidden: units in the hidden layer of the projection head.
        least_frames, least_size: smallest clip, in frames and pixels, that leaves every layer
            something to work on.
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
    # The stem halves the frames: half the time per step, and more learnt by the same time.
    "small": Architecture(
        partial(resnet, width=16, stem_frames=3, stem_stride=2), features=128, hidden=512
    ),
}


def least_input(name: EncoderName) -> tuple[int, int]:
    """Return the fewest frames and the smallest side in pixels that an encoder accepts."""
    return ARCHITECTURES[name].least_frames, ARCHITECTURES[name].least_size


class Encoder(nn.Module):
    """A backbone, R3D-18 in the paper (section 4.1), with a projection head.

    The backbone embedding is the mean of the last feature maps over time and space; the head is
    Linear, BatchNorm, ReLU, Linear. There is no dropout.

    Attributes:
        statistics: mean and standard deviation of RGB in 0..1 that `normalise` applies to its
            clips: Kinetics-400's, unless its weights come from elsewhere.

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
            clips: `(N, 3, T, H, W)` float, the output of `normalise`.

        Returns:
            backbone embeddings `(N, D)` (D is 512 for R3D-18, 1024 for S3D) and projections
            `(N, 128)`; neither has unit length.

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
        """List the modules applied before `embed`: the stem, and each block of each stage."""
        return [self.stem, *(b for stage in self.stages.children() for b in stage.children())]

    def embed(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the last block's maps `(N, D, t, h, w)`; return backbone and projection."""
        features = maps.mean(dim=(2, 3, 4))
        return features, self.head(features)


def new_encoder(name: EncoderName, *, seed: int) -> Encoder:
    """Return an encoder with random weights that depend on nothing but the seed."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would seed the GPUs' generators as well.
        torch.default_generator.manual_seed(seed)
        return Encoder(name)


def normalise(
    clips: Tensor,
    *,
    device: torch.device,
    statistics: Statistics = (MEAN, STD),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Convert uint8 clips to an encoder's input.

    Args:
        clips: `(N, T, H, W, 3)` uint8 RGB.
        device: device of the result.
        statistics: mean and standard deviation of each channel in 0..1; an encoder's
            `statistics`.
        dtype: type of the result.

    Returns:
        `(N, 3, T, H, W)`: values in 0..1, less the mean, divided by the standard deviation. In
        memory channels come last, as in the input.
    """
    values = clips.to(device, non_blocking=True).to(dtype)
    means, deviations = statistics
    mean = _filled(values, [255 * m for m in means])
    scale = _filled(values, [1 / (255 * d) for d in deviations])
    return ((values - mean) * scale).permute(0, 4, 1, 2, 3)


def _filled(like: Tensor, row: Sequence[float]) -> Tensor:
    # Filled on the device: the host would wait for a copy to a GPU.
    return torch.stack([like.new_full((), value) for value in row])


def weights_digest(state: dict[str, Tensor]) -> str:
    """Return a short digest of a state dict: the key of its embedding caches."""
    content = hashlib.blake2b(digest_size=4)
    for key in sorted(state):
        content.update(key.encode())
        # As bytes, since NumPy has no bfloat16.
        flat = state[key].detach().cpu().contiguous().flatten()
        content.update(flat.view(torch.uint8).numpy().tobytes())
    return content.hexdigest()
