"""Layout ucf101: class folders of `v_<Class>_g<NN>_c<NN>.avi`, perhaps official lists."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from slic.datasets.layouts.video import Video, missing_note
from slic.datasets.listing import LIST_NAME, Listing
from slic.datasets.splits import Part, Ucf101Lists, read_ucf101_lists, ucf101_key, ucf101_name
from slic.errors import DatasetError
from slic.runtime.text import counted, escape

_LIST_FOLDER: Final = "ucfTrainTestlist"


def read_ucf101(root: Path, listing: Listing) -> tuple[list[Video], list[str]]:
    """Return the videos of a listing with labels, groups and splits, and remarks."""
    lists = read_ucf101_lists(_list_files(root, listing))
    official = lists.parts if lists else {}
    classes = lists.classes if lists else {}
    sorted_in = _in_class_folders(listing.videos)
    videos = []
    for path in listing.videos:
        name, key = ucf101_name(path), ucf101_key(path)
        splits: dict[int, Part]
        if official:
            splits = {number: parts.get(key, "unused") for number, parts in official.items()}
        else:
            splits = name.parts if name else {1: "unused", 2: "unused", 3: "unused"}
        group = name.group_name if name else None
        label = _ucf101_label(path, classes, sorted_in=sorted_in)
        videos.append(Video(path, path, label, group, splits))
    notes = [*lists.notes] if lists else []
    return videos, notes + _ucf101_notes(root, videos, lists)


def _list_files(root: Path, listing: Listing) -> list[Path]:
    """Return the list files below the root, or else in `ucfTrainTestlist` next to it."""
    if listing.lists:
        return [root / path for path in listing.lists]
    nearby = root.parent / _LIST_FOLDER
    return [f for f in nearby.iterdir() if LIST_NAME.fullmatch(f.name)] if nearby.is_dir() else []


def _in_class_folders(paths: Sequence[str]) -> bool:
    """Return whether the folders are classes, rather than one folder with several classes."""
    actions = {name.action.lower() for name in map(ucf101_name, paths) if name}
    folders = {PurePosixPath(path).parent.name.lower() for path in paths}
    return len(folders) > 1 or len(actions) < 2


def _ucf101_label(path: str, classes: dict[str, str], *, sorted_in: bool) -> str | None:
    """Return the class as in classInd.txt, else the folder's name, else the file name's class."""
    name = ucf101_name(path)
    action = name.action if name else None
    folder = PurePosixPath(path).parent.name or action
    for candidate in (folder, action):
        if candidate and candidate.lower() in classes:
            return classes[candidate.lower()]
    return folder if sorted_in or not action else action


def _ucf101_notes(root: Path, videos: list[Video], lists: Ucf101Lists | None) -> list[str]:
    unused = sum(set(video.splits.values()) == {"unused"} for video in videos)
    if lists is None or not lists.parts:
        if unused == len(videos):
            raise DatasetError(
                f"{escape(root)}: no video is named v_<Class>_g<NN>_c<NN> and there are no "
                "official lists; pass --layout classes"
            )
        notes = ["no official lists: splits follow from group numbers"]
        if unused:
            notes.append(f"{counted(unused, 'video')} not named v_<Class>_g<NN>_c<NN>: unused")
        return notes
    if unused == len(videos):
        raise DatasetError(
            f"{escape(lists.folder)}: the lists name none of the {len(videos)} videos; remove the "
            "lists or pass --layout classes"
        )
    notes = []
    if len(lists.parts) < 3:
        notes.append(f"official lists of split {', '.join(map(str, lists.parts))} only")
    missing = len(set().union(*lists.parts.values()) - {ucf101_key(v.path) for v in videos})
    notes += missing_note(missing)
    if unused:
        notes.append(f"{counted(unused, 'video')} in no list: unused")
    return notes
