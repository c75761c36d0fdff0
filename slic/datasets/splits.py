"""Splits: words such as `val`, UCF101's names and official lists, and a rule for the rest."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from slic.datasets.listing import LIST_NAME, read_text, stem_of
from slic.errors import DatasetError
from slic.runtime.text import counted, escape, is_one_line

Part = Literal["train", "test", "unused"]

# The words of folders and csv cells; None is a cell without a word.
PART_WORDS: Final = ("train", "val", "validation", "test", "unused")
FOLDER_WORDS: Final = ("train", "val", "validation", "test")

_UCF101_NAME: Final = re.compile(r"v_(.+)_g(\d{1,4})_c(\d{1,4})", re.IGNORECASE)
_UCF101_TESTED: Final = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}


def part_of_word(word: str | None, *, words: Collection[str | None]) -> Part:
    """Return what the word of a split folder or csv cell means.

    `val` is used as test if no word is `test`, and is unused otherwise.

    Args:
        word: one of `PART_WORDS`, or None for an empty cell (unused).
        words: all words of the data set.
    """
    if word in ("val", "validation"):
        return "unused" if "test" in words else "test"
    return "train" if word == "train" else "test" if word == "test" else "unused"


def val_note(words: Collection[str | None]) -> tuple[str, ...]:
    """Return a remark on how `val` is used, if there is any."""
    if not {"val", "validation"} & set(words):
        return ()
    return (
        ("val is unused: there is a test split",)
        if "test" in words
        else ("no test split: val is used as test",)
    )


def held_out(names: Iterable[str]) -> frozenset[str]:
    """Choose the groups of one class to test on if no split is given: a quarter of them.

    The groups are sorted by the blake2b digest (64 bytes) of their UTF-8 names; the first
    max(1, n / 4) of n, rounded half up, are held out, or none if there is only one. The choice
    depends only on the set of names.

    Args:
        names: names of groups, or ids of videos without groups; repeats are ignored.
    """
    unique = sorted(set(names), key=lambda name: hashlib.blake2b(name.encode()).digest())
    count = max(1, (len(unique) + 2) // 4) if len(unique) > 1 else 0
    return frozenset(unique[:count])


# --- UCF101 ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ucf101Name:
    """The parts of the name of a UCF101 video, `v_<action>_g<group>_c<clip>`."""

    action: str
    group: int

    @property
    def group_name(self) -> str:
        """Return the group as `g07`; groups are numbered within each class."""
        return f"g{self.group:02d}"

    @property
    def parts(self) -> dict[int, Part]:
        """Return splits 1 to 3 as in the official lists: they test groups 1-7, 8-14 and 15-21."""
        return {
            k: "test" if self.group in tested else "train" for k, tested in _UCF101_TESTED.items()
        }


def ucf101_name(path: str) -> Ucf101Name | None:
    """Parse a UCF101 file name; None for any other name."""
    match = _UCF101_NAME.fullmatch(stem_of(path))
    return Ucf101Name(match[1], int(match[2])) if match else None


@dataclass(frozen=True)
class Ucf101Lists:
    """UCF101's official lists.

    Attributes:
        folder: the folder they are in.
        parts: split number -> `ucf101_key` of a video -> train or test.
        classes: class name in lower case -> class name, from classInd.txt.
        notes: remarks for the user.
    """

    folder: Path
    parts: dict[int, dict[str, Part]] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def ucf101_key(path: str) -> str:
    """Return a key that a video on disk shares with its line in a list.

    Copies of UCF101 differ in case (`HandstandPushups/v_HandStandPushups_g01_c01`), suffix and
    folders, so it is the lower case stem, with the folder only if the stem does not name the
    class.
    """
    stem = stem_of(path)
    key = stem if ucf101_name(path) else f"{PurePosixPath(path).parent.name}/{stem}"
    return key.lower()


def is_split_list(path: str) -> bool:
    """Return whether a file is named like one of the train or test lists (not classInd.txt)."""
    match = LIST_NAME.fullmatch(os.path.basename(path))
    return match is not None and match[1] is not None


def read_ucf101_lists(files: Sequence[Path]) -> Ucf101Lists | None:
    """Read `trainlist01.txt`, `testlist01.txt` and so on, and `classInd.txt`.

    Only splits with both lists are used. If several folders have lists, those of the folder with
    most of them are read.

    Args:
        files: all list files.

    Returns:
        The lists, or None if there is no list file.

    Raises:
        DatasetError: a file cannot be read, a line cannot be parsed, or a video is in the train
            and the test list of one split.
    """
    folders: dict[Path, dict[str, Path]] = defaultdict(dict)
    for file in files:
        folders[file.parent][_list_role(file)] = file
    if not folders:
        return None
    folder = min(folders, key=lambda f: (-len(folders[f]), len(f.parts), f))
    roles = folders[folder]
    parts: dict[int, dict[str, Part]] = {}
    notes = []
    if len(folders) > 1:
        notes.append(
            f"lists are in {counted(len(folders), 'folder')}: those in {escape(folder)} are read"
        )
    for number in _UCF101_TESTED:
        train, test = roles.get(f"train{number}"), roles.get(f"test{number}")
        if train and test:
            parts[number] = _read_split(train, test)
        elif lone := train or test:
            notes.append(f"{lone.name} has no counterpart: split {number} ignored")
    classes = _read_classes(roles["classind"]) if "classind" in roles else {}
    return Ucf101Lists(folder, parts, classes, tuple(notes))


def _list_role(file: Path) -> str:
    """Return `train1`, `test1`, ..., or `classind`."""
    if not is_split_list(file.name):
        return "classind"
    return file.stem.lower().replace("list0", "").replace("list", "")


def _read_split(train: Path, test: Path) -> dict[str, Part]:
    parts: dict[str, Part] = dict.fromkeys(_read_list(train), "train")
    for key, line in _read_list(test).items():
        if parts.setdefault(key, "test") == "train":
            raise DatasetError(
                f"{escape(test)} line {line}: {escape(key[:80])} is also in {train.name}; "
                "a video belongs to one of them"
            )
    return parts


def _read_list(file: Path) -> dict[str, int]:
    """Return the keys of the listed videos and their lines; train lists append class numbers."""
    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        name, *number_of_class = line.rsplit(None, 1)[:2] or [""]
        text = name if all(map(str.isdecimal, number_of_class)) else line.strip()
        text = text.strip().replace("\\", "/")
        if not text:
            continue
        if not PurePosixPath(text).suffix:
            raise DatasetError(
                f"{escape(file)} line {number}: {escape(text[:80])!r} is not a video; expected "
                "'<class>/<name>.avi', with or without a class number"
            )
        lines.setdefault(ucf101_key(text), number)
    return lines


def _read_classes(file: Path) -> dict[str, str]:
    classes = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        number_of_class, name = [*line.split(None, 1), ""][:2]
        name = name.strip()
        if not number_of_class.isdecimal() or not name or not is_one_line(name):
            raise DatasetError(
                f"{escape(file)} line {number}: {escape(line[:80])!r} is not a class; expected "
                "'<number> <class>'"
            )
        classes[name.lower()] = name
    return classes
