"""Stems and stages of the encoders, built of torchvision's video blocks."""

from itertools import pairwise

from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple
from torchvision.models.video.s3d import S3D

Body = tuple[nn.Module, nn.Sequential]

# First and last layer of each stage, among S3D's sixteen: each begins with its pooling.
_S3D_STAGES = ((1, 3), (4, 6), (7, 12), (13, 15))


def resnet(*, width: int, stem_frames: int, stem_stride: int) -> Body:
    """Stem and four stages of a 3-D ResNet of 18 layers.

    The stem is one convolution, 7x7 in space and of stride 2 there, without max-pooling;
    shortcuts are 1x1x1 convolutions with batch normalisation.

    Args:
        width: channels of the first stage; each later one has twice as many.
        stem_frames: frames that the stem's convolution spans.
        stem_stride: its step in frames.
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
    shortcut = None
    if stride != 1 or channels_in != channels:
        shortcut = nn.Sequential(
            nn.Conv3d(channels_in, channels, 1, stride=stride, bias=False),
            nn.BatchNorm3d(channels),
        )
    first = BasicBlock(channels_in, channels, Conv3DSimple, stride, shortcut)
    return nn.Sequential(first, BasicBlock(channels, channels, Conv3DSimple))


def s3d() -> Body:
    """Stem and four stages of S3D (Xie et al., ECCV 2018), without self-gating.

    Batch normalisation is PyTorch's own (epsilon 1e-5, momentum 0.1), as in CoCLR's S3D, from
    which the paper's comes; torchvision's has 1e-3 for both.
    """
    layers = list(S3D(norm_layer=nn.BatchNorm3d).features)
    stages = [nn.Sequential(*layers[first : last + 1]) for first, last in _S3D_STAGES]
    return layers[0], nn.Sequential(*stages)
