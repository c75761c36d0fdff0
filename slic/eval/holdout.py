"""Divide a split's videos into those that train, validate and test a classifier."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slic.cache import Entry
from slic.errors import LabelsMissing, StoreError

HELD_SHARE = 8  # one of so many groups of a class validates
LEAST_GROUPS = 4  # a class with fewer groups keeps all of them for training


@dataclass(frozen=True)
class Division:
    """Labelled videos of a split; the videos of a class and group are all in one part.

    Attributes:
        train: Videos to train on.
        validation: Training videos of the split that are held out to choose the best epoch; may
            be empty.
        test: Test videos of the split.
    """

    train: list[Entry]
    validation: list[Entry]
    test: list[Entry]

    @property
    def classes(self) -> list[str]:
        """The training videos' classes, sorted."""
        return sorted({entry.label or "" for entry in self.train})


def divide(entries: Sequence[Entry], *, split: int, where: Path) -> Division:
    """Divide a store's labelled videos; the result depends on their names alone.

    Args:
        entries: The store's videos.
        split: Number of the split.
        where: Path of the store, for messages.

    Raises:
        StoreError: The split has no labelled training or test video.
        LabelsMissing: The training videos are of fewer than two classes.
    """
    parts: dict[str, list[Entry]] = {}
    for part in ("train", "test"):
        parts[part] = [e for e in entries if e.label is not None and e.split(split) == part]
        if not parts[part]:
            raise StoreError(f"{where}: split {split} has no labelled {part} video")
    groups: defaultdict[str | None, set[str]] = defaultdict(set)
    for entry in parts["train"]:
        groups[entry.label].add(_group(entry))
    held = {(label, name) for label, names in groups.items() for name in held_groups(label, names)}
    division = Division(
        [e for e in parts["train"] if (e.label, _group(e)) not in held],
        [e for e in parts["train"] if (e.label, _group(e)) in held],
        parts["test"],
    )
    if len(division.classes) < 2:
        raise LabelsMissing(f"{where}: a classifier needs training videos of at least two classes")
    return division


def _group(entry: Entry) -> str:
    return entry.group or entry.id


def held_groups(label: str | None, names: Iterable[str]) -> frozenset[str]:
    """Choose the groups of a class that validate: an eighth, but at least one; of few, none.

    The choice is pseudo-random, by a digest of class and group.

    Args:
        label: The class.
        names: Names of its groups; for videos without a group, their ids. Repeats are ignored.
    """

    def digest(name: str) -> bytes:
        return hashlib.blake2b(f"{label}\x1f{name}".encode(), digest_size=8).digest()

    unique = sorted(set(names), key=digest)
    if len(unique) < LEAST_GROUPS:
        return frozenset()
    return frozenset(unique[: max(1, len(unique) // HELD_SHARE)])
