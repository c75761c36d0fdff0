"""Settings of a training run: preset, then config file, then options; validated together."""

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

from slic.errors import SettingsError
from slic.runtime.regular_files import SMALL, brief, read_regular
from slic.runtime.text import escape, is_one_line

EncoderName = Literal["r3d18", "r3d18-tv", "s3d", "small"]
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
# Methods are found by the name under which a package offers them; slic itself offers its own.
ENTRY_POINTS = "slic.methods"
DEFAULT_METHOD = "slic"
LARGEST_WHOLE = 2**63 - 1
LONGEST_WORD = 60


def setting(
    default: Any = MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A field of a dataclass of settings, with the range of numbers that it takes."""
    limits = {"at_least": at_least, "above": above, "at_most": at_most}
    return field(default=default, metadata=limits)


def probability() -> Any:
    """A setting between 0 and 1."""
    return setting(at_least=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what a run computes; the presets say where each value is from.

    A method adds its own settings in a class derived from this one. A setting with a default came
    later than the others: runs made without it were made so.

    Attributes:
        method: name of the method that the settings are of.
        encoder: `r3d18` or `s3d` (paper, section 4.1), `r3d18-tv` (torchvision's) or `small`.
        frames, stride, size: a clip: frames, their step, and side in pixels.
        components: what a view of flow shows: horizontal u, vertical v, or both.
        optimiser, lr, momentum, weight_decay: of the optimiser.
        schedule: of the rate: `constant`, `cosine` to 0, or `step`: a tenth every `drop_every`
            epochs.
        drop_every: epochs, of the schedule `step`.
        lr_warmup_epochs: over which the rate first rises from 0, whatever the schedule.
        init: weights to start from: a file's name, and the digest of its weights; empty for none.
        batch_size: samples a step.
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

    method: ClassVar[str]

    encoder: EncoderName
    frames: int = setting(at_least=1)
    stride: int = setting(at_least=1)
    size: int = setting(at_least=8)
    components: Components = "u"
    optimiser: Optimiser
    lr: float = setting(above=0)
    momentum: float = setting(at_least=0)
    weight_decay: float = setting(at_least=0)
    schedule: Schedule
    drop_every: int = setting(200, at_least=1)
    lr_warmup_epochs: int = setting(0, at_least=0)
    batch_size: int = setting(at_least=2)  # a sample alone in its batch has no negative
    epochs: int = setting(at_least=1)
    precision: Precision = "auto"
    crop_area: float = setting(above=0, at_most=1)
    jitter_probability: float = probability()
    jitter: float = setting(at_least=0)
    hue: float = setting(at_least=0, at_most=0.5)
    grayscale_probability: float = probability()
    blur_probability: float = probability()
    split: SplitNumber
    seed: int = setting(at_least=0)
    retrieval_clips: int = setting(at_least=1)
    retrieval_feature: Feature
    init: str = ""

    @property
    def uses_flow(self) -> bool:
        """Whether training reads optical flow."""
        return False

    def objective_in_words(self) -> str:
        """What is trained for, as a report says it."""
        return self.method

    def contradiction(self) -> str | None:
        """What is wrong with settings that are each possible, but not together; None if nothing."""
        return None

    def as_dict(self) -> dict[str, Any]:
        """All settings by name; the method's name only where it is not the default."""
        named = {} if self.method == DEFAULT_METHOD else {"method": self.method}
        return {**named, **asdict(self)}


def load_method(name: Any, *, where: str) -> Any:
    """Load a method: a class with an attribute `Settings`, a class derived from the one above.

    Args:
        name: of an entry point of the group `slic.methods`.
        where: what asks for it, for the message.

    Raises:
        SettingsError: no installed package offers such a method.
    """
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if not isinstance(name, str) or name not in offered:
        raise SettingsError(
            f"{where}: method = {brief(name)}: choose one of {', '.join(sorted(offered))}"
        )
    return offered[name].load()


def _settings_class(values: Mapping[str, Any], where: str) -> type[Settings]:
    return load_method(values.get("method", DEFAULT_METHOD), where=where).Settings


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
        raise SettingsError(f"{path}: not TOML ({escape(str(error)[:160])})") from None


def make_settings(
    preset: str, *, config: Path | None = None, options: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of a preset, changed by a config file, changed by options that are not None.

    Raises:
        SettingsError: an unknown key (the message names the nearest known one) or a value that
            is impossible (the message says which values are allowed).
    """
    own = {} if config is None else read_config(config)
    given = {k: v for k, v in (options or {}).items() if v is not None}
    kind = _settings_class({**own, **given}, "settings")
    known = {f.name for f in fields(kind)}
    # Of a preset made for one method, others take the settings that they know.
    values = {k: v for k, v in read_preset(preset).items() if k in known}
    values |= {**own, **_all_checked(own, kind, where=str(config))} | given
    return settings_from(values, where="settings")


def settings_from(values: Mapping[str, Any], *, where: str) -> Settings:
    """Settings from a complete mapping, checked.

    Raises:
        SettingsError: a key is unknown or missing, or a value impossible.
    """
    kind = _settings_class(values, where)
    checked = _all_checked(values, kind, where=where)
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in checked]
    if missing:
        raise SettingsError(f"{where}: lacks {', '.join(missing)}")
    settings = kind(**checked)
    if wrong := settings.contradiction():
        raise SettingsError(f"{where}: {wrong}")
    return settings


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name as an older slic wrote them, with those that it did not know.

    Raises:
        SettingsError: they are of an unknown method.
    """
    kind = _settings_class(values, "settings")
    return {**{f.name: f.default for f in fields(kind) if f.default is not MISSING}, **values}


def _all_checked(values: Mapping[str, Any], kind: type[Settings], *, where: str) -> dict[str, Any]:
    known = {f.name: f for f in fields(kind)}
    given = {name: value for name, value in values.items() if name != "method"}
    for key in given:
        if key not in known:
            raise SettingsError(f"{where}: unknown setting {brief(key)}{_nearest(key, known)}")
    return {name: _checked(known[name], value, where) for name, value in given.items()}


def _nearest(word: Any, known: Any) -> str:
    if not isinstance(word, str) or len(word) > LONGEST_WORD:
        return ""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f" (did you mean {close[0]}?)" if close else ""


def _checked(of: Field[Any], value: Any, where: str) -> Any:
    name, kind = of.name, of.type
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
    _check_range(of, value, where)
    return int(value) if kind is int else float(value)


def _check_range(of: Field[Any], value: float, where: str) -> None:
    least, above, most = (of.metadata.get(limit) for limit in ("at_least", "above", "at_most"))
    low = (least is not None and value < least) or (above is not None and value <= above)
    if low or (most is not None and value > most):
        named = {"at least": least, "above": above, "at most": most}
        limits = " and ".join(f"{word} {v:g}" for word, v in named.items() if v is not None)
        raise SettingsError(f"{where}: {of.name} = {value}: must be {limits}")
