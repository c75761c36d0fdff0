"""Which videos a classifier is trained on, chosen by, and tested on."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slic.cache import Entry
from slic.cache.index import SPLITS
from slic.errors import LabelsMissing, StoreError

HELD_SHARE = 8  # an eighth
LEAST_GROUPS = 4  # of a class of which any is held out: it keeps three quarters at least


@dataclass(frozen=True)
class Division:
    """Labelled videos of a split; no group of a class is in two parts.

    Attributes:
        train: to train on.
        validation: of the split's training videos, held out to choose the epoch; may be empty.
        test: the split's test videos.
    """

    train: list[Entry]
    validation: list[Entry]
    test: list[Entry]

    @property
    def classes(self) -> list[str]:
        """Classes trained on, sorted."""
        return sorted({entry.label or "" for entry in self.train})


def divide(entries: Sequence[Entry], *, split: int, where: Path) -> Division:
    """Divide a store's labelled videos for a split; the choice depends on names alone.

    Raises:
        LabelsMissing: no video has a label, or fewer than two classes are trained on.
        StoreError: there is no such split, or a side of it is empty.
    """
    labelled = [entry for entry in entries if entry.label is not None]
    if not labelled:
        raise LabelsMissing(f"{where}: has no labels, and evaluation needs them")
    known = [n for n in SPLITS if any(entry.split(n) for entry in entries)]
    if split not in known:
        numbers = ", ".join(map(str, known)) or "none"
        raise StoreError(f"{where}: has no split {split} (it has {numbers})")
    sides = {w: [e for e in labelled if e.split(split) == w] for w in ("train", "test")}
    for word, side in sides.items():
        if not side:
            raise StoreError(f"{where}: split {split} has no labelled {word} video")
    names: defaultdict[str | None, set[str]] = defaultdict(set)
    for entry in sides["train"]:
        names[entry.label].add(_group(entry))
    held = {(label, name) for label, all_ in names.items() for name in held_groups(label, all_)}
    division = Division(
        [e for e in sides["train"] if (e.label, _group(e)) not in held],
        [e for e in sides["train"] if (e.label, _group(e)) in held],
        sides["test"],
    )
    if len(division.classes) < 2:
        raise LabelsMissing(f"{where}: a classifier needs training videos of two classes at least")
    return division


def _group(entry: Entry) -> str:
    return entry.group or entry.id


def held_groups(label: str | None, names: Iterable[str]) -> frozenset[str]:
    """The groups of a class that validate: an eighth of them, one at least; of few, none.

    They are the first by digest of class and name.

    Args:
        label: the class.
        names: its groups, or ids of videos without one; repeats do not count.
    """

    def digest(name: str) -> bytes:
        return hashlib.blake2b(f"{label}\x1f{name}".encode(), digest_size=8).digest()

    unique = sorted(set(names), key=digest)
    if len(unique) < LEAST_GROUPS:
        return frozenset()
    return frozenset(unique[: max(1, len(unique) // HELD_SHARE)])
