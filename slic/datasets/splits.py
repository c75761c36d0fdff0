"""Which videos are trained on and which are tested: words, UCF101's lists, a rule for the rest."""

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
    """What the word of a split folder or csv cell means among all words in use.

    `val` serves as test where nothing is called test, and is unused otherwise.

    Args:
        word: One of `PART_WORDS`, or None for no word (unused).
        words: All words of the data set.
    """
    if word in ("val", "validation"):
        return "unused" if "test" in words else "test"
    return "train" if word == "train" else "test" if word == "test" else "unused"


def val_note(words: Collection[str | None]) -> tuple[str, ...]:
    """A remark on what became of `val`, if there is any."""
    if not {"val", "validation"} & set(words):
        return ()
    return (
        ("val is unused: test is there",) if "test" in words else ("no test: val serves as test",)
    )


def held_out(names: Iterable[str]) -> frozenset[str]:
    """The groups of one class to test on where no split is given: a quarter of them.

    The groups are ordered by the blake2b digest (64 bytes) of their UTF-8 name; the first
    max(1, n / 4) of n, rounded half up, are held out, and none where there is only one. The
    choice depends on nothing but the set of names.

    Args:
        names: Group names, or video ids where there are no groups; repeats do not count.
    """
    unique = sorted(set(names), key=lambda name: hashlib.blake2b(name.encode()).digest())
    count = max(1, (len(unique) + 2) // 4) if len(unique) > 1 else 0
    return frozenset(unique[:count])


# --- UCF101 ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ucf101Name:
    """What the name of a UCF101 video says: `v_<action>_g<group>_c<clip>`."""

    action: str
    group: int

    @property
    def group_name(self) -> str:
        """`g07`: a group is one within its class."""
        return f"g{self.group:02d}"

    @property
    def parts(self) -> dict[int, Part]:
        """Splits 1 to 3 as the official lists have them: 1-7, 8-14 and 15-21 are tested."""
        return {
            k: "test" if self.group in tested else "train" for k, tested in _UCF101_TESTED.items()
        }


def ucf101_name(path: str) -> Ucf101Name | None:
    """Read action and group from a UCF101 file name; None for another name."""
    match = _UCF101_NAME.fullmatch(stem_of(path))
    return Ucf101Name(match[1], int(match[2])) if match else None


@dataclass(frozen=True)
class Ucf101Lists:
    """UCF101's official lists.

    Attributes:
        folder: Where they stand.
        parts: Split number -> `ucf101_key` of a video -> train or test.
        classes: Class name in lower case -> class name, from classInd.txt.
        notes: Remarks for the user.
    """

    folder: Path
    parts: dict[int, dict[str, Part]] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def ucf101_key(path: str) -> str:
    """What a video on disk and its line in a list have in common.

    Copies of UCF101 differ in case (`HandstandPushups/v_HandStandPushups_g01_c01`), in suffix
    and in folders, so the lower case stem counts, and the folder only where the stem does not
    name the class.
    """
    stem = stem_of(path)
    key = stem if ucf101_name(path) else f"{PurePosixPath(path).parent.name}/{stem}"
    return key.lower()


def is_split_list(path: str) -> bool:
    """Whether a file is named like one of the train or test lists (and not classInd.txt)."""
    match = LIST_NAME.fullmatch(os.path.basename(path))
    return match is not None and match[1] is not None


def read_ucf101_lists(files: Sequence[Path]) -> Ucf101Lists | None:
    """Read `trainlist01.txt`, `testlist01.txt` and so on, and `classInd.txt`.

    Only splits with both lists count. Of several folders with lists, the one with most of
    them is read.

    Args:
        files: All list files there are.

    Returns:
        The lists, or None where there is no list file.

    Raises:
        DatasetError: A file cannot be read, a line makes no sense, or a video is in the train
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
        notes.append(f"lists stand in {counted(len(folders), 'folder')}: {escape(folder)} is read")
    for number in _UCF101_TESTED:
        train, test = roles.get(f"train{number}"), roles.get(f"test{number}")
        if train and test:
            parts[number] = _read_split(train, test)
        elif lone := train or test:
            notes.append(f"{lone.name} stands without its other half: split {number} left out")
    classes = _read_classes(roles["classind"]) if "classind" in roles else {}
    return Ucf101Lists(folder, parts, classes, tuple(notes))


def _list_role(file: Path) -> str:
    """`train1`, `test1`, ..., `classind`."""
    if not is_split_list(file.name):
        return "classind"
    return file.stem.lower().replace("list0", "").replace("list", "")


def _read_split(train: Path, test: Path) -> dict[str, Part]:
    parts: dict[str, Part] = dict.fromkeys(_read_list(train), "train")
    for key, line in _read_list(test).items():
        if parts.setdefault(key, "test") == "train":
            raise DatasetError(
                f"{escape(test)} line {line}: {escape(key[:80])} also stands in {train.name}; "
                "a video is either trained on or tested"
            )
    return parts


def _read_list(file: Path) -> dict[str, int]:
    """Keys of the listed videos with their line; a train list has a class number behind each."""
    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        name, *number_of_class = line.rsplit(None, 1)[:2] or [""]
        text = name if all(map(str.isdecimal, number_of_class)) else line.strip()
        text = text.strip().replace("\\", "/")
        if not text:
            continue
        if not PurePosixPath(text).suffix:
            raise DatasetError(
                f"{escape(file)} line {number}: {escape(text[:80])!r} is no video; expected "
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
                f"{escape(file)} line {number}: {escape(line[:80])!r} is no class; expected "
                "'<number> <class>'"
            )
        classes[name.lower()] = name
    return classes
