"""What the shell completes: runs, stores, caches and presets here, told from names alone."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda", "cuda:0")
_RUNS = Path("runs")


def complete_run(incomplete: str) -> list[str]:
    """Names of the runs below runs/."""
    return _beginning(incomplete, (path.parent.name for path in _RUNS.glob("*/config.toml")))


def complete_store(incomplete: str) -> list[str]:
    """Stores `*.zarr` here, or in the folder that is being typed."""
    folder, slash, _ = incomplete.rpartition("/")
    found = Path(folder + slash or ".").glob("*.zarr")
    return _beginning(incomplete, (f"{folder}{slash}{path.name}" for path in found))


def complete_store_or_run(incomplete: str) -> list[str]:
    """Stores and runs."""
    return [*complete_store(incomplete), *complete_run(incomplete)]


def complete_cache(incomplete: str) -> list[str]:
    """Embedding caches of the runs here."""
    return _beginning(incomplete, map(str, _RUNS.glob("*/embeddings/[!.]*.h5")))


def complete_preset(incomplete: str) -> list[str]:
    """Presets that come with slic."""
    names = (file.name for file in files("slic").joinpath("presets").iterdir())
    return _beginning(incomplete, (name.removesuffix(".toml") for name in names))


def complete_device(incomplete: str) -> list[str]:
    """Devices as commands name them, whether or not they are there."""
    return _beginning(incomplete, DEVICES)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    # Shells take each line for a name.
    return sorted(name for name in names if name.startswith(incomplete) and name.isprintable())
