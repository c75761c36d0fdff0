"""Rates by which amounts of work become time: measured, given in a file, or assumed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from slic.errors import SettingsError
from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import SMALL, brief, read_regular
from slic.runtime.text import escape, is_one_line

FORMAT = 1
LEAST, LARGEST = 1e-30, 1e30
LONGEST_SOURCE = 200  # characters
How = Literal["measured", "assumed"]

# The pixels of a frame of 320x240, as UCF101's: sizes are told in multiples of it.
REFERENCE_PIXELS = 320 * 240
UNITS: Mapping[str, str] = {
    "decode": "frames of 320x240 a second, decoded and made smaller by one core",
    "encode": "pixels a second, coded as JPEG by one core",
    "video": "seconds for a video: opened, synced, moved into place, entered in the index",
    "flow_cpu": "pixels of pairs a second, by one core: read, solved, stored",
    "flow_gpu": "pixels of pairs a second, by one GPU",
    "read": "pixels of views a second, read and cut by one core for a GPU to augment",
    "augment": "pixels of views a second, read and augmented by one core",
    "compute_cpu": "floating-point operations a second of training, one core",
    "compute_gpu": "floating-point operations a second of training, one GPU",
    "neighbours": "floating-point operations a second of exact first neighbours, one core",
    "lists": "share of an IVF index's lists that a query looks at, from 1,000,000 rows on",
    "start": "seconds of a core to start a command, or a process that reads for one",
    "disk": "bytes a second, of the file system that holds the store",
    "network": "bytes a second, of one machine's network",
}


@dataclass(frozen=True)
class Rate:
    """A rate in the unit that `UNITS` gives it, and where it is from.

    Attributes:
        value: above 0.
        how: whether it was measured, here or on the machine of a file, or is assumed.
        source: what was measured, or why it is assumed so, in one line.
    """

    value: float
    how: How
    source: str


@dataclass(frozen=True)
class Gpu:
    """What its maker's data sheet says: dense bf16 operations and bytes of memory a second."""

    flops: float
    bytes: float


# NVIDIA's data sheets of the SXM modules.
GPUS: Mapping[str, Gpu] = {
    "a100": Gpu(312e12, 2.039e12),
    "h100": Gpu(989e12, 3.35e12),
    "h200": Gpu(989e12, 4.8e12),
}
SHARE_OF_PEAK = 0.2
FLOW_AIM, FLOW_AIM_ON = 1000 * REFERENCE_PIXELS, "h200"


def assumed_here() -> dict[str, Rate]:
    """Rates of what cannot be measured in a few seconds, or without much written."""
    return {
        "lists": Rate(0.02, "assumed", "what recall takes depends on the embeddings"),
        "disk": Rate(500e6, "assumed", "a SATA SSD's; give your own by --rates"),
        "network": Rate(1.25e9, "assumed", "10 Gbit/s; give your own by --rates"),
    }


def assumed_gpu(name: str) -> dict[str, Rate]:
    """Rates of a GPU that is not here, from its data sheet.

    Raises:
        SettingsError: none that is known.
    """
    if name not in GPUS:
        known = ", ".join(GPUS)
        raise SettingsError(f"--gpu {escape(name[:40])}: not known: {known}; or give --rates FILE")
    gpu = GPUS[name]
    flow = FLOW_AIM * gpu.bytes / GPUS[FLOW_AIM_ON].bytes
    return {
        "compute_gpu": Rate(
            SHARE_OF_PEAK * gpu.flops,
            "assumed",
            f"{SHARE_OF_PEAK:.0%} of the data sheet's {gpu.flops / 1e12:.0f} TFLOP/s in bf16",
        ),
        "flow_gpu": Rate(
            flow,
            "assumed",
            f"the aim of 1,000 pairs/s at 320x240 on an {FLOW_AIM_ON.upper()}, by memory bandwidth",
        ),
    }


def write_rates(path: Path, rates: Mapping[str, Rate], *, about: Mapping[str, Any]) -> None:
    """Write rates as JSON, whole or not at all.

    Args:
        path: the file.
        rates: by name.
        about: what they were measured on.

    Raises:
        DiskError: it cannot be written.
    """
    listed = {n: {**asdict(rate), "unit": UNITS[n]} for n, rate in rates.items()}
    content = {"format": FORMAT, **about, "rates": listed}
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


@dataclass(frozen=True)
class Given:
    """What a file tells.

    Attributes:
        rates: by name.
        cores: of the machine that they were measured on, if it says so.
    """

    rates: Mapping[str, Rate]
    cores: int | None = None


def read_rates(path: Path) -> Given:
    """Rates from a file that `slic plan --measure` wrote, or a person.

    Raises:
        SettingsError: missing, not such a file, or a rate is unknown or impossible; the message
            names it.
    """
    where = escape(path)
    try:
        content = json.loads(read_regular(path, limit=SMALL))
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}") from None
    # Numbers of thousands of digits are a plain ValueError, deep nesting a RecursionError.
    except (ValueError, RecursionError):
        raise SettingsError(f"{where}: not JSON; `slic plan --measure FILE` writes one") from None
    listed = content.get("rates") if isinstance(content, dict) else None
    if not isinstance(listed, dict):
        form = '{"format": 1, "rates": {"disk": {"value": 2e9}}}'
        raise SettingsError(f"{where}: holds no rates; write {form}, or `slic plan --measure FILE`")
    if content.get("format") != FORMAT:
        raise SettingsError(f"{where}: format {brief(content.get('format'))}, not {FORMAT}")
    cores = content.get("cores")
    if cores is not None and (not isinstance(cores, int) or isinstance(cores, bool) or cores < 1):
        raise SettingsError(f"{where}: cores {brief(cores)}: must be a whole number above 0")
    return Given({name: _rate(where, name, told) for name, told in listed.items()}, cores)


def _rate(where: str, name: str, told: Any) -> Rate:
    value: Any
    how: Any
    if name not in UNITS:
        raise SettingsError(f"{where}: no rate {brief(name)}: choose of {', '.join(UNITS)}")
    if not isinstance(told, dict):
        raise SettingsError(f'{where}: {name}: write it as {{"value": NUMBER}}')
    value, how = told.get("value"), told.get("how", "measured")
    source = told.get("source", "given by --rates")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not LEAST < value < LARGEST:
        raise SettingsError(f"{where}: {name}: value {brief(value)}: must be a number above 0")
    if name == "lists" and value > 1:
        raise SettingsError(f"{where}: {name}: value {brief(value)}: is a share, 1 at most")
    if how not in get_args(How):
        allowed = " or ".join(get_args(How))
        raise SettingsError(f"{where}: {name}: how {brief(how)}: must be {allowed}")
    if not isinstance(source, str) or not is_one_line(source) or len(source) > LONGEST_SOURCE:
        raise SettingsError(
            f"{where}: {name}: source must be a line of up to {LONGEST_SOURCE} characters"
        )
    return Rate(float(value), how, source)


def missing(rates: Mapping[str, Rate], wanted: Iterable[str]) -> list[str]:
    """The wanted rates that are not there."""
    return [name for name in wanted if name not in rates]
