"""Rates that turn amounts of work into time: measured here, read from a file, or assumed.

tables.json holds the unit of each rate, the assumed rates of a machine and of GPUs (from NVIDIA's
data sheets of the SXM modules), and the published sizes of data sets (videos of split 1).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from slic.errors import SettingsError
from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import SMALL, brief, read_regular
from slic.runtime.text import escape

FORMAT = 1
LEAST, MOST = 1e-30, 1e30  # beyond these, times overflow
LONGEST_SOURCE = 200  # characters
REFERENCE_PIXELS = 320 * 240  # of a UCF101 frame; decoding is counted in frames of this size
EXAMPLE = '{"format": 1, "rates": {"disk": {"value": 2e9}}}'
TABLES: dict[str, Any] = json.loads((files(__package__) / "tables.json").read_text())
UNITS: Mapping[str, str] = TABLES["units"]


@dataclass(frozen=True)
class Rate:
    """A rate and where it is from.

    Attributes:
        value: positive number in the unit given by `UNITS`.
        how: `measured` (here, or on the machine that a file describes) or `assumed`.
        source: what was measured, or the reason for the assumption, in one line.
    """

    value: float
    how: str
    source: str


def assumed(gpu: str | None = None) -> dict[str, Rate]:
    """Return the rates that are assumed of any machine, and of a kind of GPU if given.

    Raises:
        SettingsError: the GPU is unknown.
    """
    gpus = TABLES["gpus"]
    if gpu is not None and gpu not in gpus:
        raise SettingsError(
            f"--gpu {escape(gpu[:40])}: unknown GPU; choose {', '.join(gpus)}, or give --rates FILE"
        )
    entries = TABLES["assumed"] | gpus.get(gpu, {})
    return {name: Rate(how="assumed", **entry) for name, entry in entries.items()}


def write_rates(path: Path, rates: Mapping[str, Rate], *, about: Mapping[str, Any]) -> None:
    """Write rates to a JSON file, atomically.

    Args:
        path: the file.
        rates: rates by name.
        about: further entries of the file, which describe the machine.

    Raises:
        DiskError: the file cannot be written.
    """
    entries = {name: {**asdict(rate), "unit": UNITS[name]} for name, rate in rates.items()}
    with atomic_write(path) as file:
        file.write(json.dumps({"format": FORMAT, **about, "rates": entries}, indent=1).encode())


def read_rates(path: Path) -> tuple[dict[str, Rate], int | None]:
    """Read a file of rates, written by `slic plan --measure` or by hand.

    Returns:
        The rates by name, and the number of cores of the machine if the file has it.

    Raises:
        SettingsError: the file is missing or no file of rates, or a rate is unknown or impossible.
    """
    where = escape(path)
    try:
        content = json.loads(read_regular(path, limit=SMALL))
        entries = dict(content["rates"])
        cores = None if content.get("cores") is None else int(content["cores"])
        if content["format"] != FORMAT:
            raise ValueError
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise SettingsError(
            f"{where}: not a file of rates; write {EXAMPLE}, or run `slic plan --measure FILE`"
        ) from None
    return {name: _rate(entry, name, where=where) for name, entry in entries.items()}, cores


def _rate(entry: Any, name: str, *, where: str) -> Rate:
    if name not in UNITS:
        raise SettingsError(f"{where}: unknown rate {brief(name)}; choose {', '.join(UNITS)}")
    most = 1 if name == "lists" else MOST
    try:
        value, source = float(entry["value"]), str(entry.get("source", "--rates"))
        if not LEAST < value <= most:
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError):
        raise SettingsError(
            f'{where}: {name}: must be {{"value": NUMBER}}, above 0 and at most {most:g}'
        ) from None
    how = "assumed" if entry.get("how") == "assumed" else "measured"
    return Rate(value, how, source[:LONGEST_SOURCE])
