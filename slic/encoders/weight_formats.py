"""Names of weights in other projects' files, and what else such files hold.

Structures and names are those of the SLIC reference (rvl-lab-utoronto/video_similarity_search,
after 3D-ResNets-PyTorch), of CoCLR (TengdaHan/CoCLR) and of torchvision.
"""

from dataclasses import dataclass, field
from itertools import product

from slic.config import EncoderName
from slic.encoders.encoder import MEAN, STD, Triple

EPSILON = 1e-5  # of our batch normalisation


@dataclass(frozen=True, kw_only=True)
class Format:
    """The names of an encoder's weights in another project.

    Attributes:
        kind: whose weights they are, for messages.
        encoder: the encoder they fit.
        modules: `{our module: theirs}` of all modules with weights; those of the head only if
            theirs has the same layers.
        twins: `{our module: theirs}`, second names under which a file repeats weights.
        prefixes: prefixes that all names in a file may have.
        left_over: prefixes of names that may stay unused, because the backbone's output does not
            depend on them.
        epsilon: epsilon of their batch normalisation.
        mean, std: normalisation of RGB in 0..1 in their training.
    """

    kind: str
    encoder: EncoderName
    modules: dict[str, str]
    twins: dict[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ("",)
    left_over: tuple[str, ...]
    epsilon: float = EPSILON
    mean: Triple = MEAN
    std: Triple = STD


def _resnet(stem: tuple[str, str], parts: dict[str, str]) -> dict[str, str]:
    """Name the modules of an R3D-18 whose stages are called layer1 to layer4."""
    names = {"stem.0": stem[0], "stem.1": stem[1]}
    for stage, block in product(range(4), range(2)):
        shortcut = stage > 0 and block == 0
        for ours, theirs in parts.items():
            if shortcut or not ours.startswith("downsample"):
                names[f"stages.{stage}.{block}.{ours}"] = f"layer{stage + 1}.{block}.{theirs}"
    return names


# A residual block's parts: ours, which are torchvision's, and 3D-ResNets-PyTorch's.
_BLOCK = {
    "conv1.0": "conv1",
    "conv1.1": "bn1",
    "conv2.0": "conv2",
    "conv2.1": "bn2",
    "downsample.0": "downsample.0",
    "downsample.1": "downsample.1",
}
_HEAD = {"head.0": "fc1", "head.1": "bn_proj", "head.3": "fc2"}

# The parts of S3D's three kinds of layers: ours, which are torchvision's, and CoCLR's.
_CONV = {"0": "conv", "1": "bn"}
_SEPARABLE = {"0.0": "conv1", "0.1": "bn1", "1.0": "conv2", "1.1": "bn2"}
_BRANCHES = (
    ("branch0", "branch0.0", _CONV),
    ("branch1.0", "branch1.0", _CONV),
    ("branch1.1", "branch1.1", _SEPARABLE),
    ("branch2.0", "branch2.0", _CONV),
    ("branch2.1", "branch2.1", _SEPARABLE),
    ("branch3.1", "branch3.1", _CONV),
)
_MIXED = {f"{o}.{p}": f"{c}.{q}" for o, c, parts in _BRANCHES for p, q in parts.items()}

# S3D's layers: ours, torchvision's, CoCLR's, and what CoCLR's files call it a second time.
_S3D = (
    ("stem", "features.0", "Conv_1a", "block1.0", _SEPARABLE),
    ("stages.0.1", "features.2", "Conv_2b", "block2.1", _CONV),
    ("stages.0.2", "features.3", "Conv_2c", "block2.2", _SEPARABLE),
    ("stages.1.1", "features.5", "Mixed_3b", "block3.1", _MIXED),
    ("stages.1.2", "features.6", "Mixed_3c", "block3.2", _MIXED),
    ("stages.2.1", "features.8", "Mixed_4b", "block4.1", _MIXED),
    ("stages.2.2", "features.9", "Mixed_4c", "block4.2", _MIXED),
    ("stages.2.3", "features.10", "Mixed_4d", "block4.3", _MIXED),
    ("stages.2.4", "features.11", "Mixed_4e", "block4.4", _MIXED),
    ("stages.2.5", "features.12", "Mixed_4f", "block4.5", _MIXED),
    ("stages.3.1", "features.14", "Mixed_5b", "block5.1", _MIXED),
    ("stages.3.2", "features.15", "Mixed_5c", "block5.2", _MIXED),
)

_COCLR = {f"{o}.{p}": f"{c}.{q}" for o, _, c, _, parts in _S3D for p, q in parts.items()}
_COCLR_TWINS = {f"{o}.{p}": f"{t}.{q}" for o, _, _, t, parts in _S3D for p, q in parts.items()}
_REFERENCE_MEAN, _REFERENCE_STD = (0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)

FORMATS = (
    Format(
        kind="torchvision's r3d_18",
        encoder="r3d18-tv",
        modules=_resnet(("stem.0", "stem.1"), {part: part for part in _BLOCK}),
        left_over=("fc.",),
    ),
    Format(
        kind="torchvision's s3d",
        encoder="s3d",
        modules={f"{o}.{part}": f"{tv}.{part}" for o, tv, _, _, parts in _S3D for part in parts},
        left_over=("classifier.",),
        epsilon=1e-3,
    ),
    Format(
        kind="the SLIC reference's R3D-18",
        encoder="r3d18",
        modules=_resnet(("conv1", "bn1"), _BLOCK) | _HEAD,
        prefixes=("", "encoder."),
        left_over=("linear.", "temporal_ds_linear."),
        mean=_REFERENCE_MEAN,
        std=_REFERENCE_STD,
    ),
    # CoCLR's S3D, whose head has another structure than the R3D-18's.
    Format(
        kind="the SLIC reference's S3D",
        encoder="s3d",
        modules=_COCLR,
        twins=_COCLR_TWINS,
        prefixes=("0.",),
        left_over=("2.", "4."),
        mean=_REFERENCE_MEAN,
        std=_REFERENCE_STD,
    ),
    Format(
        kind="CoCLR's S3D",
        encoder="s3d",
        modules=_COCLR,
        twins=_COCLR_TWINS,
        # Of its pretraining, of its classifier, and of the network alone.
        prefixes=("encoder_q.0.", "backbone.", ""),
        left_over=(
            *("encoder_q.2.", "encoder_q.4.", "encoder_k.", "sampler.", "queue"),
            *("final_bn.", "final_fc."),
        ),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
)
