"""Find the store or run that a name refers to, and check it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slic.errors import InputError
from slic.runs import RUNS
from slic.upkeep.verify.report import Report

_STORE_FILES = ("zarr.json", "index/index.sqlite", "index/zarr.json", "frames/zarr.json")
_RUN_FILES = ("config.toml", "checkpoints", "metrics.jsonl", "embeddings")


@dataclass(frozen=True)
class Target:
    """A store or a run."""

    kind: Literal["store", "run"]
    path: Path


def find_target(name: str) -> Target:
    """Return the store or run at a path, or the run of that name below `runs/`.

    One file of a store or run is enough to recognise it, so that damaged ones are found as well.

    Raises:
        InputError: there is neither.
    """
    for path in (Path(name), RUNS / name):
        if any((path / file).exists() for file in _STORE_FILES):
            return Target("store", path)
        if any((path / file).exists() for file in _RUN_FILES):
            return Target("run", path)
    what = "neither a store nor a run" if Path(name).exists() else "no such store or run"
    raise InputError(f"{name}: {what}; `slic cache list` lists those in this folder")


def targets_in(folder: Path) -> list[Target]:
    """Return the stores `*.zarr` in a folder, then the runs below its `runs/`."""
    stores = sorted(p for p in folder.glob("*.zarr") if (p / "zarr.json").is_file())
    runs = sorted(p.parent for p in folder.glob(f"{RUNS}/*/config.toml"))
    return [*(Target("store", p) for p in stores), *(Target("run", p) for p in runs)]


def verify(name: str, *, repair: bool = False, workers: int | None = None) -> Report:
    """Check a store or run.

    Args:
        name: its path, or the name of a run below `runs/`.
        repair: remove damaged entries, or set them aside, so that they are made again.
        workers: processes that read a store; one per core if None.

    Raises:
        InputError: there is neither; or `repair` is set, and another process is writing to it.
    """
    begin = time.monotonic()
    target = find_target(name)
    if target.kind == "store":
        from slic.upkeep.verify.store import verify_store

        report = verify_store(target.path, repair=repair, workers=workers)
    else:
        from slic.upkeep.verify.run import verify_run

        report = verify_run(target.path, repair=repair)
    report.seconds = round(time.monotonic() - begin, 3)
    return report
