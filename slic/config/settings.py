"""Declare settings: the fields, and those that all methods share."""

from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args

EncoderName = Literal["r3d18", "r3d18-tv", "s3d", "small"]
Components = Literal["u", "v", "uv"]
Optimiser = Literal["sgd", "adam"]
Schedule = Literal["constant", "cosine", "step"]
Feature = Literal["backbone", "projection"]
Precision = Literal["auto", "bf16", "tf32", "fp32"]
SplitNumber = Literal[1, 2, 3]
# In the order in which `--help` and docs/settings.md show them.
Panel = Literal[
    "Method", "Clips and network", "Optimisation", "Augmentation", "Data and evaluation"
]

DEFAULT_METHOD = "slic"


@dataclass(frozen=True)
class Switch:
    """A flag of `slic train` that sets a setting to a fixed value: `--no-flow`.

    Attributes:
        name: the flag.
        value: what the setting becomes.
        help: what this does to the result.
    """

    name: str
    value: Any
    help: str


def setting(
    default: Any = MISSING,
    *,
    help: str,
    panel: Panel = "Optimisation",
    option: bool = False,
    switch: Switch | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declare a setting: a dataclass field with its range, its help and its place in `--help`.

    Args:
        default: for settings added after the first release; older runs are read with it.
        help: what the setting does to the result, for `slic train --help` and docs/settings.md.
        panel: heading under which it is listed.
        option: offer it as an option of `slic train`; `--set` changes every setting.
        switch: a flag that sets it to one value.
        at_least, above, at_most: the range of a number.
    """
    told = {"help": help, "panel": panel, "option": option, "switch": switch}
    limits = {"at_least": at_least, "above": above, "at_most": at_most}
    return field(default=default, metadata=told | limits)


def in_panels(kind: type["Settings"]) -> dict[Panel, list[Field[Any]]]:
    """Group the fields of a settings class by panel, in the order of the panels."""
    declared = fields(kind)
    return {
        panel: [each for each in declared if each.metadata["panel"] == panel]
        for panel in get_args(Panel)
    }


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that determines the result of a training run; its fields explain themselves.

    A method adds its own settings in a subclass. docs/settings.md lists them all, with the value
    in each preset and its source.

    Attributes:
        method: name of the method that these settings belong to.
    """

    method: ClassVar[str]

    encoder: EncoderName = setting(
        help="Network that embeds clips: r3d18 (the paper's), r3d18-tv (torchvision's stem), s3d,"
        " or small (for CPUs).",
        panel="Clips and network",
        option=True,
    )
    frames: int = setting(
        help="Frames per clip: more frames show longer motion and cost proportionally more time.",
        panel="Clips and network",
        option=True,
        at_least=1,
    )
    stride: int = setting(
        help="Step between consecutive frames of a clip, in frames of the video.",
        panel="Clips and network",
        at_least=1,
    )
    size: int = setting(
        help="Height and width in pixels to which the random crops of a clip are resized.",
        panel="Clips and network",
        option=True,
        at_least=8,
    )
    components: Components = setting(
        "u",
        help="Flow components used: u (horizontal, as in the paper), v (vertical) or uv (both).",
        panel="Clips and network",
        option=True,
    )
    optimiser: Optimiser = setting(
        help="Optimiser: sgd with momentum, or adam with decoupled weight decay (AdamW)."
    )
    lr: float = setting(help="Peak learning rate.", option=True, above=0)
    momentum: float = setting(help="Momentum of sgd; not used by adam.", at_least=0)
    weight_decay: float = setting(
        help="Coefficient of the weight decay, which applies to all parameters.",
        at_least=0,
    )
    schedule: Schedule = setting(
        help="Learning rate over time: constant, cosine (decays to 0) or step (divided by 10 every"
        " drop_every epochs).",
        option=True,
    )
    drop_every: int = setting(
        200,
        help="Epochs between two drops of the learning rate, with the schedule step.",
        at_least=1,
    )
    lr_warmup_epochs: int = setting(
        0,
        help="Epochs over which the learning rate first rises linearly from 0 to --lr.",
        option=True,
        at_least=0,
    )
    # A sample alone in its batch has no negative.
    batch_size: int = setting(help="Samples per optimiser step.", option=True, at_least=2)
    epochs: int = setting(help="Passes over the training videos.", option=True, at_least=1)
    precision: Precision = setting(
        "auto",
        help="Arithmetic of the network: auto is bf16 on a GPU that supports it, fp32 elsewhere.",
        option=True,
    )
    crop_area: float = setting(
        help="Smallest random crop, as a fraction of the frame's area.",
        panel="Augmentation",
        above=0,
        at_most=1,
    )
    jitter_probability: float = setting(
        help="Probability that the colours of an RGB clip are jittered.",
        panel="Augmentation",
        at_least=0,
        at_most=1,
    )
    jitter: float = setting(
        help="Strength of the colour jitter: brightness, contrast and saturation are each"
        " multiplied by a random factor between 1 - jitter and 1 + jitter.",
        panel="Augmentation",
        at_least=0,
    )
    hue: float = setting(
        help="Largest random shift of the hue in either direction, in turns of the colour circle.",
        panel="Augmentation",
        at_least=0,
        at_most=0.5,
    )
    grayscale_probability: float = setting(
        help="Probability that an RGB clip is converted to grayscale.",
        panel="Augmentation",
        at_least=0,
        at_most=1,
    )
    blur_probability: float = setting(
        help="Probability that an RGB clip is blurred, by a Gaussian of 0.1 to 2 pixels.",
        panel="Augmentation",
        at_least=0,
        at_most=1,
    )
    split: SplitNumber = setting(
        help="Train on the training videos of this official split: 1, 2 or 3.",
        panel="Data and evaluation",
        option=True,
    )
    seed: int = setting(
        help="Seed of all random numbers: initial weights, sampling and augmentation.",
        panel="Data and evaluation",
        option=True,
        at_least=0,
    )
    retrieval_clips: int = setting(
        help="Clips per video whose embeddings are averaged for retrieval.",
        panel="Data and evaluation",
        at_least=1,
    )
    retrieval_feature: Feature = setting(
        help="Embedding to compare for retrieval: the network's output (backbone) or the projection"
        " head's.",
        panel="Data and evaluation",
    )
    init: str = setting(
        "",
        help="Name and digest of the weights file that training started from; set by --init.",
        panel="Clips and network",
        option=True,
    )

    @property
    def uses_flow(self) -> bool:
        """Whether training reads optical flow."""
        return False

    def objective_in_words(self) -> str:
        """Describe the training objective in a few words, for a report."""
        return self.method

    def contradiction(self) -> str | None:
        """Name a conflict between settings that are each valid; None if there is none."""
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return all settings by name, and the method's name unless it is the default."""
        named = {} if self.method == DEFAULT_METHOD else {"method": self.method}
        return {**named, **asdict(self)}
