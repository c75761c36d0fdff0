"""Stems and stages of the encoders."""

from itertools import pairwise

from torch import Tensor, nn

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
    return nn.Sequential(
        ResidualBlock(channels_in, channels, stride=stride), ResidualBlock(channels, channels)
    )


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut (He et al., CVPR 2016, figure 5, left; in 3-D).

    Its parts are named as those of torchvision's video ResNets, whose import costs each process
    more than a second: it brings PyTorch's compiler.

    Args:
        channels_in: of its input `(N, channels_in, T, H, W)`.
        channels: of its output `(N, channels, T / stride, H / stride, W / stride)`, rounded up.
        stride: of its first convolution.
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
        beside = maps if self.downsample is None else self.downsample(maps)
        return self.relu(self.conv2(self.conv1(maps)) + beside)


def _convolution(channels_in: int, channels: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv3d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm3d(channels)


def s3d() -> Body:
    """Stem and four stages of S3D (Xie et al., ECCV 2018), without self-gating.

    Batch normalisation is PyTorch's own (epsilon 1e-5, momentum 0.1), as in CoCLR's S3D, from
    which the paper's comes; torchvision's has 1e-3 for both.
    """
    from torchvision.models.video.s3d import S3D  # slow to import

    layers = list(S3D(norm_layer=nn.BatchNorm3d).features)
    stages = [nn.Sequential(*layers[first : last + 1]) for first, last in _S3D_STAGES]
    return layers[0], nn.Sequential(*stages)
