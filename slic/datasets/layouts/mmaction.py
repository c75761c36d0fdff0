"""Layout mmaction: lists of `<video> <class number>` or `<folder> <frames> <class number>`.

One list is given; those of other parts and splits are found in its folder by their names:
`ucf101_train_split_1_videos.txt` belongs to `ucf101_val_split_3_videos.txt`.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from slic.datasets.images import image_prefix, view_of_prefix
from slic.datasets.layouts.video import Dataset, Video, missing_note
from slic.datasets.listing import VIDEO_SUFFIXES, Inside, inner_path, read_text
from slic.datasets.splits import Part, part_of_word, val_note
from slic.errors import DatasetError
from slic.runtime.text import counted, escape, is_one_line

_WORD: Final = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])", re.IGNORECASE)
_SPLIT: Final = re.compile(r"(?<=split)_?([1-3])(?!\d)", re.IGNORECASE)
LONGEST_NUMBER: Final = 9  # digits: more would not be the number of a class or of frames
_LABEL_MAP: Final = re.compile(r"label_map.*\.txt", re.IGNORECASE)


class _Line(NamedTuple):
    """A line of a list: its number, the path, and the number of the class."""

    number: int
    path: str
    label: int


@dataclass(frozen=True)
class _List:
    """A list file: its split, the word of its part, and its lines."""

    file: Path
    split: int
    word: str
    lines: list[_Line]


def read_mmaction(file: Path) -> Dataset:
    """Read a list and those that belong to it: the listed videos that are on disk.

    Paths are relative to the folder of the lists, to `videos`, `videos_train`, `rawframes` or
    `rawframes_train` in it (or `_val`, `_test`), or to the same in its parent folder. Class
    names are the lines of `label_map*.txt` in the folder of the lists, otherwise the numbers.

    Raises:
        DatasetError: the name of a list contains no part, a line is malformed, a path leads
            outside, a video is in two lists of a split, or none of the videos is on disk.
    """
    lists = [_read_list(found) for found in _related_lists(file)]
    names = _class_names(file.parent)
    bases = {each.file: _base(each) for each in lists}
    if not any(bases.values()):
        first = lists[0].lines[0].path
        raise DatasetError(
            f"{escape(file)}: none of the listed videos is on disk, such as"
            f" {escape(file.parent / first)}; paths are relative to the list's folder, or to"
            " videos/ or rawframes/ in it"
        )
    inside_folder = all(base.is_relative_to(file.parent) for base in bases.values() if base)
    root = file.parent if inside_folder else file.parent.parent
    labels, splits = _collect(lists, bases, root, names)
    videos = _videos(root, labels, splits, sorted({each.split for each in lists}))
    words = {each.word for each in lists}
    missing = len({(each.split, line.path) for each in lists for line in each.lines})
    missing -= sum(len(parts) for parts in splits.values())
    notes = [*missing_note(missing), *val_note(words)]
    if names is None:
        notes.append("no label_map.txt in the folder of the list: classes are numbers")
    folders = any((root / video.path).is_dir() for video in videos[:1])
    return Dataset(root, root.name or "dataset", "mmaction", tuple(videos), tuple(notes), folders)


def _related_lists(file: Path) -> list[Path]:
    """Return the list and those whose names differ from it only in part and split."""
    if not _WORD.search(file.name):
        raise DatasetError(
            f"{escape(file)}: the name contains neither train, val nor test; name it like"
            " <data set>_train_list.txt, or give the folder of the videos"
        )
    names = sorted(name for name in os.listdir(file.parent) if name.lower().endswith(".txt"))
    alike = [file.with_name(name) for name in names if _form(name) == _form(file.name)]
    return alike or [file]


def _form(name: str) -> str:
    return _SPLIT.sub("#", _WORD.sub("*", name, count=1)).lower() if _WORD.search(name) else ""


# --- lines -----------------------------------------------------------------------------------


def _read_list(file: Path) -> _List:
    word, split = _WORD.search(file.name), _SPLIT.search(file.name)
    assert word is not None
    lines: dict[str, _Line] = {}
    for number, text in enumerate(read_text(file).splitlines(), start=1):
        if not text.strip():
            continue
        where = f"{escape(file)} line {number}"
        line = _line(where, number, text.strip())
        first = lines.setdefault(line.path, line)
        if first is not line:
            raise DatasetError(
                f"{where}: {escape(line.path)} is already listed on line {first.number}; remove one"
                " of them"
            )
    if not lines:
        raise DatasetError(f"{escape(file)}: no video is listed")
    return _List(file, int(split[1]) if split else 1, word[1].lower(), list(lines.values()))


def _line(where: str, number: int, text: str) -> _Line:
    """A line read from its end, as paths may hold spaces."""
    path, _, label = text.rpartition(" ")
    if os.path.splitext(path.strip())[1].lower() not in VIDEO_SUFFIXES:
        path, _, frames = path.strip().rpartition(" ")
        if not frames.isdecimal():
            path = ""
    numbered = label.isdecimal() and len(label) <= LONGEST_NUMBER
    if not path.strip() or not numbered or not is_one_line(text):
        raise DatasetError(
            f"{where}: {escape(text[:80])!r} cannot be parsed; expected '<video> <class number>' or"
            " '<folder of images> <frames> <class number>'"
        )
    return _Line(number, inner_path(where, path.strip(), of="the list's folder"), int(label))


def _class_names(folder: Path) -> list[str] | None:
    """Return the lines of the label map in the folder of the lists, if there is one."""
    found = sorted(name for name in os.listdir(folder) if _LABEL_MAP.fullmatch(name))
    if len(found) > 1:
        raise DatasetError(
            f"{escape(folder)}: {counted(len(found), 'label map')}, such as {escape(found[0])} and"
            f" {escape(found[1])}; leave one"
        )
    if not found:
        return None
    names = [line.strip() for line in read_text(folder / found[0]).strip().splitlines()]
    for number, name in enumerate(names, start=1):
        if name and not is_one_line(name):
            raise DatasetError(f"{escape(folder / found[0])} line {number}: NUL in a class name")
    return names


# --- videos ----------------------------------------------------------------------------------


def _base(listed: _List) -> Path | None:
    """Return the folder that a list's paths are relative to: the first that has one of them."""
    inner = ("", "videos", f"videos_{listed.word}", "rawframes", f"rawframes_{listed.word}")
    for folder in (listed.file.parent, listed.file.parent.parent):
        for name in inner:
            base = folder / name
            # Unlike Path.exists, this raises no error if a name is too long.
            if base.is_dir() and any(os.path.exists(base / line.path) for line in listed.lines):
                return base
    return None


def _collect(
    lists: Sequence[_List], bases: dict[Path, Path | None], root: Path, names: list[str] | None
) -> tuple[dict[str, str], dict[str, dict[int, Part]]]:
    """Return labels, and split number -> part, of the videos on disk, by path."""
    inside = Inside(root, of="the list's folder")
    labels: dict[str, str] = {}
    splits: dict[str, dict[int, Part]] = defaultdict(dict)
    for listed in lists:
        base = bases[listed.file]
        words = {each.word for each in lists if each.split == listed.split}
        for line in listed.lines if base else ():
            where = f"{escape(listed.file)} line {line.number}"
            label = _label(where, line, names)
            path = (base / line.path).relative_to(root).as_posix() if base else line.path
            target = inside.target(where, path)
            if not os.path.isfile(target) and not os.path.isdir(target):
                continue
            if labels.setdefault(path, label) != label or listed.split in splits[path]:
                raise DatasetError(
                    f"{where}: {escape(line.path)} is in another list as well, of the same split"
                    " or with another class; remove one of them"
                )
            splits[path][listed.split] = part_of_word(listed.word, words=words)
    return labels, splits


def _label(where: str, line: _Line, names: list[str] | None) -> str:
    if names is None:
        return str(line.label)
    if line.label >= len(names) or not names[line.label]:
        raise DatasetError(
            f"{where}: class {line.label}, where the label map has {counted(len(names), 'line')};"
            " classes count from 0"
        )
    return names[line.label]


def _videos(
    root: Path, labels: dict[str, str], splits: dict[str, dict[int, Part]], numbers: list[int]
) -> list[Video]:
    unused: dict[int, Part] = dict.fromkeys(numbers, "unused")
    videos = []
    for path in sorted(labels):
        flow = (path, path) if _holds_flow(root / path) else None
        videos.append(Video(path, path, labels[path], None, unused | splits[path], flow))
    return videos


def _holds_flow(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES or not path.is_dir():
        return False
    with os.scandir(path) as entries:
        prefixes = (image_prefix(entry.name) for entry in entries)
        return any(p is not None and view_of_prefix(p) != "frames" for p in prefixes)
