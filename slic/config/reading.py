"""How a preset, a config file and options become validated settings."""

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from slic.config.settings import DEFAULT_METHOD, Settings
from slic.errors import SettingsError
from slic.runtime.regular_files import SMALL, brief, read_regular
from slic.runtime.text import escape, is_one_line

PRESETS = (
    "ucf101-16f",
    "ucf101-32f",
    "kinetics400-16f",
    "kinetics400-32f",
    "cpu-small",
    "demo",
)
# Any installed package may offer a method as an entry point of this group, as slic itself does.
ENTRY_POINTS = "slic.methods"
LARGEST_WHOLE = 2**63 - 1  # TOML's integers
LONGEST_WORD = 60  # a longer key is no typing mistake, and comparing it takes long


def load_method(name: Any, *, where: str) -> Any:
    """Load a method's class from the entry points of the group `slic.methods`.

    Args:
        name: name of the entry point.
        where: what names the method, for the error message.

    Returns:
        The class; its attribute `Settings` is a subclass of `slic.config.Settings`.

    Raises:
        SettingsError: no installed package offers this method.
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
    """Read a preset's settings, those of its `base` included.

    Raises:
        SettingsError: there is no such preset; the message suggests the nearest name.
    """
    own = tomllib.loads(preset_text(name))
    base = own.pop("base", None)
    return {**(read_preset(base) if base else {}), **own}


def preset_text(name: str) -> str:
    """Read a preset's TOML file, whose comments give the source of each value.

    Raises:
        SettingsError: there is no such preset; the message suggests the nearest name.
    """
    if name not in PRESETS:
        raise SettingsError(
            f"unknown preset {name!r}{_nearest(name, PRESETS)}: {', '.join(PRESETS)}"
        )
    return resources.files("slic.presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def read_config(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file such as a run's config.toml; its table `run` is ignored.

    Raises:
        SettingsError: the file is missing or is not TOML.
    """
    values = read_toml(path)
    values.pop("run", None)
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        SettingsError: the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(read_regular(path, limit=SMALL).decode())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    # A number of thousands of digits is a plain ValueError, deep nesting a RecursionError.
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not TOML ({escape(str(error)[:160])})") from None


def make_settings(
    preset: str, *, config: Path | None = None, options: Mapping[str, Any] | None = None
) -> Settings:
    """Merge settings; later sources win: preset, config file, options that are not None.

    Raises:
        SettingsError: a setting is unknown (the message suggests the nearest name) or has an
            invalid value (the message gives the valid ones).
    """
    own = {} if config is None else read_config(config)
    given = {k: v for k, v in (options or {}).items() if v is not None}
    kind = _settings_class({**own, **given}, "settings")
    known = {f.name for f in fields(kind)}
    # Presets hold SLIC's settings; another method takes those that it shares.
    values = {k: v for k, v in read_preset(preset).items() if k in known}
    values |= {**own, **_all_checked(own, kind, where=str(config))} | given
    return settings_from(values, where="settings")


def settings_from(values: Mapping[str, Any], *, where: str) -> Settings:
    """Validate a complete mapping of settings.

    Args:
        values: settings by name, and `method` unless it is the default one.
        where: where they come from, for the error message.

    Raises:
        SettingsError: a setting is unknown or missing, or has an invalid value.
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
    """Complete settings that an older version of slic wrote.

    Raises:
        SettingsError: their method is unknown.
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


def _checked(declared: Field[Any], value: Any, where: str) -> Any:
    """Return a value in its setting's type, or refuse it."""
    if wrong := _wrong(declared, value):
        raise SettingsError(f"{where}: {declared.name} = {brief(value)}: {wrong}")
    return declared.type(value) if declared.type in (int, float) else value


def _wrong(declared: Field[Any], value: Any) -> str | None:
    kind = declared.type
    if get_origin(kind) is Literal:
        # True and 1.0 equal 1, but neither is a split.
        if any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
            return None
        return f"choose one of {', '.join(map(str, get_args(kind)))}"
    if kind is str:
        valid = isinstance(value, str) and is_one_line(value or "none")
        return None if valid else "must be a string on one line"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and abs(value) > LARGEST_WHOLE:
        return f"must be at most {LARGEST_WHOLE}"
    if kind is int and not (number and float(value).is_integer()):
        return "must be a whole number"
    if not (number and math.isfinite(value)):
        return "must be a number"
    return _out_of_range(declared, value)


def _out_of_range(declared: Field[Any], value: float) -> str | None:
    least, above, most = (declared.metadata[limit] for limit in ("at_least", "above", "at_most"))
    low = (least is not None and value < least) or (above is not None and value <= above)
    if not low and (most is None or value <= most):
        return None
    named = {"at least": least, "above": above, "at most": most}
    return "must be " + " and ".join(f"{w} {v:g}" for w, v in named.items() if v is not None)
