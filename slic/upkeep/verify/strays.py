"""What lies in a store and is no part of it: leftovers of killed writers, and strangers' files."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from slic.cache.metadata import PARTS
from slic.cache.writers import Company, leftovers, remove
from slic.upkeep.verify.report import Fault
from slic.upkeep.verify.rows import SIDE_FILES

_KEY = re.compile(r"[A-Za-z0-9_-]+-[0-9a-f]{16}")
_ASIDE = re.compile(r"\.(zarr\.json|index\.sqlite)\.[0-9a-f]{8}(-journal)?")
_PLACES = {
    ".": {"zarr.json", *PARTS},
    "index": {"zarr.json", "index.sqlite", "lock", "writing", *SIDE_FILES},
    "frames": {"zarr.json"},
    "flow": {"zarr.json"},
}


def is_key(folder: Path) -> bool:
    """Whether a folder below `frames` or `flow` is named as arrays are."""
    return bool(_KEY.fullmatch(folder.name)) and folder.is_dir()


def store_leftovers(path: Path, company: Company) -> list[Path]:
    """What killed writers left half-written in a store."""
    found = leftovers(path, company)
    if company == "others":
        return found
    for place in _PLACES:
        found += sorted(p for p in _items(path / place) if _ASIDE.fullmatch(p.name))
    return found


def stray_faults(path: Path, company: Company) -> Iterator[Fault]:
    """A fault for each leftover, which goes, and for each stranger's file, which stays."""
    for leftover in store_leftovers(path, company):
        mend = partial(remove, leftover)
        where = leftover.relative_to(path).as_posix()
        yield Fault(where, "left by a killed writer", "drop it", mend)
    for place, names in _PLACES.items():
        arrays = place in ("frames", "flow")
        for item in sorted(_items(path / place)):
            known = item.name in names or _ASIDE.fullmatch(item.name)
            if not known and not (arrays and is_key(item)):
                yield stray(item.relative_to(path).as_posix())


def stray(where: str) -> Fault:
    """A stranger's file."""
    return Fault(where, "no file of slic's: it does no harm, and is left alone")


def _items(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()
