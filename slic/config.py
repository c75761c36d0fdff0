"""Settings of a training run: preset, then config file, then options; validated together."""

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from slic.errors import SettingsError
from slic.runtime.regular_files import SMALL, brief, read_regular
from slic.runtime.text import is_one_line, shown

EncoderName = Literal["r3d18", "r3d18-tv", "s3d", "small"]
Objective = Literal["triplet", "infonce"]
PseudoLabels = Literal["finch", "kmeans", "none", "labels"]
Pairs = Literal["one", "all"]
Components = Literal["u", "v", "uv"]
Optimiser = Literal["sgd", "adam"]
Schedule = Literal["constant", "cosine", "step"]
Feature = Literal["backbone", "projection"]
Precision = Literal["auto", "bf16", "tf32", "fp32"]
SplitNumber = Literal[1, 2, 3]

PRESETS = (
    "ucf101-16f",
    "ucf101-32f",
    "kinetics400-16f",
    "kinetics400-32f",
    "cpu-small",
    "demo",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what a run computes; the presets say where each value is from.

    What has a default came later: runs made without it were made so.

    Attributes:
        encoder: `r3d18` or `s3d` (paper, section 4.1), `r3d18-tv` (torchvision's) or `small`.
        frames, stride, size: a clip: frames, their step, and side in pixels.
        objective: the paper's `triplet` losses, or `infonce` over the same samples.
        margin, temporal_margin, temporal_weight: m1, m2 and the weight of the second loss.
        temperature: of InfoNCE.
        pairs: `one` positive an anchor, or `all` pairs of a cluster in the batch.
        same_video: p_alpha, the probability that a positive is of the anchor's own video.
        flow_probability: 1 - p_beta, the probability that a view is optical flow.
        components: what a view of flow shows: horizontal u, vertical v, or both.
        cluster: pseudo-labels by FINCH or k-means, none (each video alone), or the true labels.
        partition: of FINCH's, 0 the finest.
        kmeans_clusters: of k-means.
        cluster_every: epochs between clusterings.
        warmup_epochs: epochs before the first clustering.
        optimiser, lr, momentum, weight_decay: of the optimiser.
        schedule: of the rate: `constant`, `cosine` to 0, or `step`: a tenth every `drop_every`
            epochs.
        drop_every: epochs, of the schedule `step`.
        lr_warmup_epochs: over which the rate first rises from 0, whatever the schedule.
        init: weights to start from: a file's name, and the digest of its weights; empty for none.
        batch_size: samples (of three clips each) a step.
        epochs: passes over the training videos.
        precision: of the encoder's arithmetic; `auto` is bf16 on a GPU that has it, else fp32.
        crop_area: smallest share of a frame that a random crop keeps.
        jitter_probability, grayscale_probability, blur_probability: of each clip.
        jitter: strength of brightness, contrast, saturation; hue is given by `hue`.
        hue: strength of the hue shift, in turns.
        split: whose training videos are used.
        seed: of every random draw.
        retrieval_clips: clips a video whose embeddings are averaged for retrieval.
        retrieval_feature: which embedding `eval retrieve` compares.
    """

    encoder: EncoderName
    frames: int
    stride: int
    size: int
    objective: Objective
    margin: float
    temporal_margin: float
    temporal_weight: float
    temperature: float
    pairs: Pairs = "one"
    same_video: float
    flow_probability: float
    components: Components = "u"
    cluster: PseudoLabels
    partition: int = 0
    kmeans_clusters: int = 1000
    cluster_every: int
    warmup_epochs: int
    optimiser: Optimiser
    lr: float
    momentum: float
    weight_decay: float
    schedule: Schedule
    drop_every: int = 200
    lr_warmup_epochs: int = 0
    batch_size: int
    epochs: int
    precision: Precision = "auto"
    crop_area: float
    jitter_probability: float
    jitter: float
    hue: float
    grayscale_probability: float
    blur_probability: float
    split: SplitNumber
    seed: int
    retrieval_clips: int
    retrieval_feature: Feature
    init: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return asdict(self)


_TYPES = {f.name: f.type for f in fields(Settings)}
_DEFAULTS = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
_PROBABILITIES = {name for name in _TYPES if name.endswith("_probability")} | {"same_video"}
_SHARES = {"crop_area"}
_AT_LEAST: dict[str, float] = dict.fromkeys(
    ("frames", "stride", "cluster_every", "epochs", "retrieval_clips", "drop_every"), 1
)
# A sample alone in its batch has no negative.
_AT_LEAST |= {"size": 8, "batch_size": 2, "kmeans_clusters": 2}
_AT_LEAST |= dict.fromkeys(("warmup_epochs", "lr_warmup_epochs", "partition", "seed"), 0)
_AT_LEAST |= dict.fromkeys(
    ("margin", "temporal_margin", "temporal_weight", "momentum", "weight_decay", "jitter"), 0.0
)
_ABOVE_ZERO = {"lr", "temperature"}
LARGEST_WHOLE = 2**63 - 1
LONGEST_WORD = 60


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a preset: those of its `base`, and its own.

    Raises:
        SettingsError: there is no such preset; the message names the nearest.
    """
    if name not in PRESETS:
        raise SettingsError(f"no preset {name!r}{_nearest(name, PRESETS)}: {', '.join(PRESETS)}")
    own = tomllib.loads(resources.files("slic.presets").joinpath(f"{name}.toml").read_text())
    base = own.pop("base", None)
    return {**(read_preset(base) if base else {}), **own}


def read_config(path: Path) -> dict[str, Any]:
    """Settings from a TOML file, such as a run's config.toml (whose table `run` is left out).

    Raises:
        SettingsError: missing, no TOML, or with sections.
    """
    values = read_toml(path)
    values.pop("run", None)
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        SettingsError: missing, or no TOML.
    """
    try:
        return tomllib.loads(read_regular(path, limit=SMALL).decode())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    # Numbers of thousands of digits are a plain ValueError, deep nesting a RecursionError.
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not TOML ({shown(str(error)[:160])})") from None


def make_settings(
    preset: str, *, config: Path | None = None, options: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of a preset, changed by a config file, changed by options that are not None.

    Raises:
        SettingsError: an unknown key (the message names the nearest known one) or a value that
            is impossible (the message says which values are allowed).
    """
    values = read_preset(preset)
    if config is not None:
        values |= _all_checked(read_config(config), where=str(config))
    values |= {k: v for k, v in (options or {}).items() if v is not None}
    return settings_from(values, where="settings")


def settings_from(values: Mapping[str, Any], *, where: str) -> Settings:
    """Settings from a complete mapping, checked.

    Raises:
        SettingsError: a key is unknown or missing, or a value impossible.
    """
    checked = _all_checked(values, where=where)
    missing = [name for name in _TYPES if name not in _DEFAULTS and name not in values]
    if missing:
        raise SettingsError(f"{where}: lacks {', '.join(missing)}")
    settings = Settings(**checked)
    if settings.temporal_margin > settings.margin:
        raise SettingsError(
            f"{where}: temporal_margin {settings.temporal_margin} must not exceed margin"
            f" {settings.margin}"
        )
    if settings.pairs == "all" and settings.objective != "triplet":
        raise SettingsError(f"{where}: pairs = 'all' is of objective = 'triplet' alone")
    return settings


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name as an older slic wrote them, with those that it did not know."""
    return {**_DEFAULTS, **values}


def _all_checked(values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    for key in values:
        if key not in _TYPES:
            near = _nearest(key, _TYPES)
            raise SettingsError(f"{where}: unknown setting {brief(key)}{near}")
    return {name: _checked(name, value, where) for name, value in values.items()}


def _nearest(word: Any, known: Any) -> str:
    if not isinstance(word, str) or len(word) > LONGEST_WORD:
        return ""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f" (did you mean {close[0]}?)" if close else ""


def _checked(name: str, value: Any, where: str) -> Any:
    kind = _TYPES[name]
    if get_origin(kind) is Literal:
        # True and 1.0 equal 1, but are no split.
        if not any(value == c and type(value) is type(c) for c in get_args(kind)):
            allowed = ", ".join(str(choice) for choice in get_args(kind))
            raise SettingsError(f"{where}: {name} = {brief(value)}: choose one of {allowed}")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise SettingsError(f"{where}: {name} = {brief(value)}: must be a text")
        if not is_one_line(value or "none"):
            raise SettingsError(f"{where}: {name} = {brief(value)}: must be of one line")
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and abs(value) > LARGEST_WHOLE:
        raise SettingsError(f"{where}: {name} = {brief(value)}: must be at most {LARGEST_WHOLE}")
    if kind is int and not (number and float(value).is_integer()):
        raise SettingsError(f"{where}: {name} = {brief(value)}: must be a whole number")
    if kind is float and not (number and math.isfinite(value)):
        raise SettingsError(f"{where}: {name} = {brief(value)}: must be a number")
    _check_range(name, value, where)
    return int(value) if kind is int else float(value)


def _check_range(name: str, value: float, where: str) -> None:
    if name in _PROBABILITIES and not 0 <= value <= 1:
        raise SettingsError(f"{where}: {name} = {value}: must lie between 0 and 1")
    if name in _SHARES and not 0 < value <= 1:
        raise SettingsError(f"{where}: {name} = {value}: must be above 0 and at most 1")
    if name in _ABOVE_ZERO and value <= 0:
        raise SettingsError(f"{where}: {name} = {value}: must be above 0")
    if name in _AT_LEAST and value < _AT_LEAST[name]:
        raise SettingsError(f"{where}: {name} = {value}: must be at least {_AT_LEAST[name]:g}")
    if name == "hue" and not 0 <= value <= 0.5:
        raise SettingsError(f"{where}: hue = {value}: must lie between 0 and 0.5")
