"""Shell completion: names of runs, stores, caches and presets, without opening any of them."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda", "cuda:0")
_RUNS = Path("runs")


def complete_run(incomplete: str) -> list[str]:
    """List the runs in runs/ that begin with `incomplete`."""
    return _beginning(incomplete, (path.parent.name for path in _RUNS.glob("*/config.toml")))


def complete_store(incomplete: str) -> list[str]:
    """List the stores `*.zarr` in the folder that is being typed, or else in this one."""
    folder, slash, _ = incomplete.rpartition("/")
    found = Path(folder + slash or ".").glob("*.zarr")
    return _beginning(incomplete, (f"{folder}{slash}{path.name}" for path in found))


def complete_store_or_run(incomplete: str) -> list[str]:
    """List stores, then runs."""
    return [*complete_store(incomplete), *complete_run(incomplete)]


def complete_cache(incomplete: str) -> list[str]:
    """List the embedding caches of the runs in runs/."""
    return _beginning(incomplete, map(str, _RUNS.glob("*/embeddings/[!.]*.h5")))


def complete_preset(incomplete: str) -> list[str]:
    """List the presets that slic comes with."""
    names = (file.name for file in files("slic").joinpath("presets").iterdir())
    return _beginning(incomplete, (name.removesuffix(".toml") for name in names))


def complete_device(incomplete: str) -> list[str]:
    """List device names, whether or not this machine has the devices."""
    return _beginning(incomplete, DEVICES)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    # The shell takes each line for one name, so names with line breaks are left out.
    return sorted(name for name in names if name.startswith(incomplete) and name.isprintable())
