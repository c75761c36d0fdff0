"""Which store or run a name means, and which there are here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slic.errors import InputError
from slic.runs import RUNS
from slic.upkeep.verify.report import Report

_OF_STORES = ("zarr.json", "index/index.sqlite", "index/zarr.json", "frames/zarr.json")
_OF_RUNS = ("config.toml", "checkpoints", "metrics.jsonl", "embeddings")


@dataclass(frozen=True)
class Target:
    """A store or a run."""

    kind: Literal["store", "run"]
    path: Path


def find_target(name: str) -> Target:
    """The store of a path, or the run of a path or of a name below `runs/`; damaged ones too.

    Raises:
        InputError: it is neither.
    """
    for path in (Path(name), RUNS / name):
        for kind, marks in (("store", _OF_STORES), ("run", _OF_RUNS)):
            if path.is_dir() and any((path / mark).exists() for mark in marks):
                return Target(kind, path)  # type: ignore[arg-type]
    what = "no store and no run" if Path(name).exists() else "no such store or run"
    raise InputError(f"{name}: {what}; `slic cache list` names those here")


def targets_here(folder: Path) -> list[Target]:
    """The stores `*.zarr` of a folder, and the runs below its `runs/`."""
    stores = sorted(p for p in folder.glob("*.zarr") if (p / "zarr.json").is_file())
    runs = sorted(p.parent for p in folder.glob(f"{RUNS}/*/config.toml"))
    return [*(Target("store", p) for p in stores), *(Target("run", p) for p in runs)]


def verify(name: str, *, repair: bool = False, workers: int | None = None) -> Report:
    """Check the store or run of a name.

    Args:
        name: as `find_target` takes it.
        repair: drop what is broken, or set it aside.
        workers: processes that read a store; all cores if None.

    Raises:
        InputError: no such thing; or to be repaired while another process writes it.
    """
    target = find_target(name)
    if target.kind == "store":
        from slic.upkeep.verify.store import verify_store

        return verify_store(target.path, repair=repair, workers=workers)
    from slic.upkeep.verify.run import verify_run

    return verify_run(target.path, repair=repair)
