"""Layout hmdb51: class folders of `<title>_<class>_<attributes>.avi`, perhaps official lists.

A list `<class>_test_split<k>.txt` has lines `<name>.avi 0|1|2`: unused, train, test.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from slic.datasets.layouts.video import Video, hold_out_noted, missing_note
from slic.datasets.listing import HMDB51_LIST_NAME, Listing, read_text, stem_of
from slic.datasets.splits import Part
from slic.errors import DatasetError
from slic.runtime.text import counted, escape

# After title and class, a name has body part, camera motion, people, view, quality and number.
_ATTRIBUTES: Final = re.compile(
    r"(.+)_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+", re.IGNORECASE
)
_PARTS: Final[dict[str, Part]] = {"0": "unused", "1": "train", "2": "test"}


@dataclass(frozen=True)
class _Lists:
    """The content of the official lists.

    Attributes:
        numbers: numbers of the splits.
        parts: (class, stem) in lower case -> the class, and split number -> part.
        stems: stem -> its keys in `parts`.
        notes: remarks for the user.
    """

    numbers: tuple[int, ...]
    parts: dict[tuple[str, str], tuple[str, dict[int, Part]]]
    stems: dict[str, list[tuple[str, str]]]
    notes: tuple[str, ...]


def is_hmdb51_name(path: str) -> bool:
    """Return whether a video is named like those of HMDB51."""
    return _ATTRIBUTES.fullmatch(stem_of(path)) is not None


def read_hmdb51(root: Path, listing: Listing) -> tuple[list[Video], list[str]]:
    """Return the videos of a listing with labels, groups and splits, and remarks.

    The group is the title, the part of the name before the class: clips of one title were cut
    from one video, and the official splits keep them in one part.
    """
    lists = _read_lists(_fullest(_list_folders(root, listing)))
    if lists is None:
        nearby = _read_lists(_fullest(_lists_nearby(root)))
        if nearby and any(_line(path, nearby) for path in listing.videos):
            lists = nearby
    if lists is not None:
        return _by_lists(root, listing.videos, lists)
    if not any(map(is_hmdb51_name, listing.videos)):
        raise DatasetError(
            f"{escape(root)}: no <class>_test_split1.txt in or next to it lists its videos, and"
            " none of them is named like those of HMDB51; pass --layout classes"
        )
    videos, notes = hold_out_noted([_video(path, _folder(path)) for path in listing.videos])
    return videos, ["no official lists of HMDB51", *notes]


def _by_lists(root: Path, paths: Sequence[str], lists: _Lists) -> tuple[list[Video], list[str]]:
    unused: dict[int, Part] = dict.fromkeys(lists.numbers, "unused")
    videos, seen = [], set()
    for path in paths:
        line = _line(path, lists)
        label, parts = lists.parts[line] if line else (_folder(path), {})
        seen.add(line)
        videos.append(_video(path, label, unused | parts))
    notes = _notes(root, lists, videos, missing=len(lists.parts.keys() - seen))
    return videos, [*lists.notes, *notes]


def _folder(path: str) -> str | None:
    return PurePosixPath(path).parent.name or None


def _class_key(name: str) -> str:
    return name.lower().replace(" ", "_")


def _line(path: str, lists: _Lists) -> tuple[str, str] | None:
    """Return the key of a video in the lists: by folder and name, or by a name that is unique."""
    stem = stem_of(path).lower()
    key = (_class_key(_folder(path) or ""), stem)
    if key in lists.parts:
        return key
    same = lists.stems.get(stem, [])
    return same[0] if len(same) == 1 else None


def _video(path: str, label: str | None, splits: dict[int, Part] | None = None) -> Video:
    return Video(path, path, label, _title(path, label), splits or {})


def _title(path: str, label: str | None) -> str | None:
    """Return the part of the name before the class; None if the name lacks the class."""
    match = _ATTRIBUTES.fullmatch(stem_of(path))
    ending = f"_{_class_key(label or '')}"
    if not match or not label or not match[1].lower().endswith(ending):
        return None
    return match[1][: -len(ending)] or None


# --- lists -----------------------------------------------------------------------------------


def _list_folders(root: Path, listing: Listing) -> dict[Path, list[Path]]:
    """Return the list files below the root, by folder."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in listing.hmdb51_lists:
        folders[(root / path).parent].append(root / path)
    return folders


def _lists_nearby(root: Path) -> dict[Path, list[Path]]:
    """Return the list files in the folders next to the root."""
    nearby = [folder for folder in _names(root.parent) if folder != root and folder.is_dir()]
    return {
        f: [file for file in _names(f) if HMDB51_LIST_NAME.fullmatch(file.name)] for f in nearby
    }


def _fullest(folders: dict[Path, list[Path]]) -> list[Path]:
    best = min(folders, key=lambda f: (-len(folders[f]), len(f.parts), f), default=None)
    return folders[best] if best else []


def _names(folder: Path) -> list[Path]:
    """Return the entries of a folder; none if it cannot be read, as it may not belong to this."""
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    except OSError:
        return []


def _read_lists(files: list[Path]) -> _Lists | None:
    parts: dict[tuple[str, str], tuple[str, dict[int, Part]]] = {}
    classes: dict[int, set[str]] = defaultdict(set)
    for file in sorted(files):
        match = HMDB51_LIST_NAME.fullmatch(file.name)
        assert match is not None
        label, number = match[1], int(match[2])
        classes[number].add(_class_key(label))
        for stem, part in _read_list(file).items():
            _, splits = parts.setdefault((_class_key(label), stem), (label, {}))
            splits[number] = part
    every = set().union(*classes.values())
    notes = [
        f"split {number}: {len(every - listed)} of {len(every)} classes without a list"
        for number, listed in sorted(classes.items())
        if every - listed
    ]
    stems: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in parts:
        stems[key[1]].append(key)
    return _Lists(tuple(sorted(classes)), parts, stems, tuple(notes)) if files else None


def _read_list(file: Path) -> dict[str, Part]:
    """Return the parts of the listed videos, by stem in lower case."""
    parts: dict[str, Part] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        cells = line.rsplit(None, 1)
        if not cells:
            continue
        where = f"{escape(file)} line {number}"
        if len(cells) < 2 or cells[1] not in _PARTS:
            raise DatasetError(
                f"{where}: {escape(line.strip()[:80])!r} cannot be parsed; expected '<name>.avi'"
                " and 1 (train), 2 (test) or 0 (unused)"
            )
        name, part = cells[0].strip(), _PARTS[cells[1]]
        if parts.setdefault(stem_of(name).lower(), part) != part:
            raise DatasetError(f"{where}: {escape(name[:80])} is listed above with another number")
    return parts


def _notes(root: Path, lists: _Lists, videos: list[Video], *, missing: int) -> list[str]:
    unused = sum(set(video.splits.values()) == {"unused"} for video in videos)
    if missing == len(lists.parts):
        raise DatasetError(
            f"{escape(root)}: HMDB51's lists name none of the {len(videos)} videos; remove the"
            " lists or pass --layout classes"
        )
    notes = []
    if len(lists.numbers) < 3:
        notes.append(f"official lists of split {', '.join(map(str, lists.numbers))} only")
    notes += missing_note(missing)
    if unused:
        notes.append(f"{counted(unused, 'video')} in no list, or unused in all: unused")
    return notes
