"""Data set layouts: which videos there are, with id, path, label, splits and group.

| layout | what it looks like |
|---|---|
| ucf101 | class folders of `v_<Class>_g<NN>_c<NN>.avi`, with or without the official lists |
| classes | `<class>/*` or `{train,val,test}/<class>/*`, possibly in one folder around them |
| csv | a table `path,label,split,group`, of which only `path` must be there |
| flat | videos without labels |
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final, Literal, get_args

from slic.errors import DatasetError
from slic.listing import (
    LIST_NAME,
    VIDEO_SUFFIXES,
    Listing,
    Row,
    counted,
    find_rows,
    is_one_line,
    is_utf8,
    list_folder,
    read_csv,
    shown,
)
from slic.splits import (
    FOLDER_WORDS,
    PART_WORDS,
    Part,
    Ucf101Lists,
    held_out,
    is_split_list,
    part_of_word,
    read_ucf101_lists,
    ucf101_key,
    ucf101_name,
    val_note,
)

__all__ = ["VIDEO_SUFFIXES", "Dataset", "Layout", "Part", "Video", "hold_out", "read_dataset"]

Layout = Literal["ucf101", "classes", "csv", "flat"]

_LIST_FOLDER: Final = "ucfTrainTestlist"


@dataclass(frozen=True)
class Video:
    """One video of a data set.

    Attributes:
        id: Its path, suffix included: `a.mp4` and `a.avi` may stand side by side.
        path: Relative to the data set's root, with forward slashes.
        label: Class name, if known.
        group: Videos of one class and group share their scene and stay in one part of a split.
        splits: Split number -> train, test or unused.
    """

    id: str
    path: str
    label: str | None = None
    group: str | None = None
    splits: dict[int, Part] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Dataset:
    """The videos of a data set.

    Attributes:
        root: The folder that the paths are relative to.
        name: Name of the folder, or of the csv without suffix.
        layout: How it was read.
        videos: Sorted by id.
        notes: One-line remarks for the user.
    """

    root: Path
    name: str
    layout: Layout
    videos: tuple[Video, ...]
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether any video has a label."""
        return any(video.label is not None for video in self.videos)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(sorted({v.label for v in self.videos if v.label is not None}))

    @property
    def split_numbers(self) -> tuple[int, ...]:
        """The splits that there are, sorted."""
        return tuple(sorted({number for video in self.videos for number in video.splits}))


def read_dataset(
    path: str | os.PathLike[str], *, layout: Layout | Literal["auto"] = "auto"
) -> Dataset:
    """Find the videos of a data set and what is known of them.

    Args:
        path: A folder or a csv.
        layout: How to read it. `auto` takes a file as csv; a folder with UCF101's lists or with
            mostly UCF101's file names as ucf101; one with videos only at its top as flat; one
            with videos only in sub-folders as classes.

    Returns:
        All videos that are on disk. Splits 1 to 3 of ucf101 are the official lists, or follow
        from the group numbers where there are none; if only some splits are listed, only those
        are there. The other layouts have split 1, by `hold_out` where they name none.

    Raises:
        DatasetError: Nothing there, no video, a layout that does not fit, a malformed csv or list.
    """
    if layout not in ("auto", *get_args(Layout)):
        raise DatasetError(
            f"layout {layout!r} is unknown; choose auto, {', '.join(get_args(Layout))}"
        )
    root = Path(os.path.abspath(path))
    if not is_one_line(str(root)) or not is_utf8(str(root)):
        raise DatasetError(f"{str(root)!a}: the name holds NUL, a line break or foreign bytes")
    if not os.path.exists(root):  # unlike Path.exists, no error where permission is lacking
        raise DatasetError(f"{shown(path)}: no such file or folder")
    if root.is_dir():
        return _read_folder(root, layout)
    if layout == "csv" or (layout == "auto" and root.suffix.lower() == ".csv"):
        return _read_csv(root)
    wanted = "a folder or a .csv" if layout == "auto" else f"a folder for layout {layout}"
    raise DatasetError(f"{shown(path)}: a file; give {wanted}")


def hold_out(videos: Sequence[Video]) -> list[Video]:
    """Give split 1 to videos that come without: a quarter of each class's groups is tested.

    Of the n groups of a class, ordered by the blake2b digest of their names, the first
    max(1, n / 4), rounded half up, are test; none where there is only one. A video without
    group is a group by itself, under its id. A video without label is trained on. The order of
    `videos` does not matter.

    Returns:
        The videos in the given order, with new `splits`.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        if video.label is not None:
            names[video.label].add(video.group or video.id)
    tested = {(label, name) for label, groups in names.items() for name in held_out(groups)}
    return [
        replace(v, splits={1: "test" if (v.label, v.group or v.id) in tested else "train"})
        for v in videos
    ]


def _hold_out_noted(videos: list[Video]) -> tuple[list[Video], list[str]]:
    """`hold_out`, and what to tell the user about it."""
    videos = hold_out(videos)
    if any(video.splits[1] == "test" for video in videos):
        by = " by group" if any(video.group for video in videos) else ""
        return videos, [f"no split given: a quarter of each class held out{by}"]
    return videos, ["no split given, and nothing to hold out: all videos are train"]


# --- folders ---------------------------------------------------------------------------------


def _read_folder(root: Path, layout: Layout | Literal["auto"]) -> Dataset:
    if layout == "csv":
        raise DatasetError(f"{shown(root)}: a folder; layout csv wants the csv itself")
    listing = list_folder(root)
    if layout == "auto":
        layout = _recognise(root, listing)
    if layout == "ucf101":
        videos, notes = _ucf101(root, listing)
    elif layout == "classes":
        videos, notes = _classes(root, listing.videos)
    else:
        videos, notes = [Video(path, path, splits={1: "train"}) for path in listing.videos], []
    name = root.name or "dataset"
    return Dataset(root, name, layout, tuple(videos), (*listing.notes, *notes))


def _recognise(root: Path, listing: Listing) -> Layout:
    inner = [path for path in listing.videos if "/" in path]
    named = sum(ucf101_name(path) is not None for path in inner)
    if 2 * named > len(inner) or any(map(is_split_list, listing.lists)):
        return "ucf101"
    if not inner:
        return "flat"
    if len(inner) < len(listing.videos):
        top = len(listing.videos) - len(inner)
        raise DatasetError(
            f"{shown(root)}: {counted(top, 'video')} at the top and {len(inner)} in folders; "
            "pass --layout classes (folders are classes, the top has no label) or --layout flat "
            "(no labels)"
        )
    return "classes"


# --- UCF101 ----------------------------------------------------------------------------------


def _ucf101(root: Path, listing: Listing) -> tuple[list[Video], list[str]]:
    lists = read_ucf101_lists(_list_files(root, listing))
    official = lists.parts if lists else {}
    classes = lists.classes if lists else {}
    videos = []
    for path in listing.videos:
        name, key = ucf101_name(path), ucf101_key(path)
        splits: dict[int, Part]
        if official:
            splits = {number: parts.get(key, "unused") for number, parts in official.items()}
        else:
            splits = name.parts if name else {1: "unused", 2: "unused", 3: "unused"}
        group = name.group_name if name else None
        videos.append(Video(path, path, _ucf101_label(path, classes), group, splits))
    notes = [*lists.notes] if lists else []
    return videos, notes + _ucf101_notes(root, videos, lists)


def _list_files(root: Path, listing: Listing) -> list[Path]:
    """List files below the root, or in `ucfTrainTestlist` beside it."""
    if listing.lists:
        return [root / path for path in listing.lists]
    beside = root.parent / _LIST_FOLDER
    return [f for f in beside.iterdir() if LIST_NAME.fullmatch(f.name)] if beside.is_dir() else []


def _ucf101_label(path: str, classes: dict[str, str]) -> str | None:
    """The class as classInd.txt spells it, else the folder's name, else the file name's class."""
    name = ucf101_name(path)
    action = name.action if name else None
    folder = PurePosixPath(path).parent.name or action
    for candidate in (folder, action):
        if candidate and candidate.lower() in classes:
            return classes[candidate.lower()]
    return folder


def _ucf101_notes(root: Path, videos: list[Video], lists: Ucf101Lists | None) -> list[str]:
    unused = sum(set(video.splits.values()) == {"unused"} for video in videos)
    if lists is None or not lists.parts:
        if unused == len(videos):
            raise DatasetError(
                f"{shown(root)}: no video is named v_<Class>_g<NN>_c<NN> and there are no official "
                "lists; pass --layout classes"
            )
        notes = ["no official lists: splits follow from group numbers"]
        if unused:
            notes.append(f"{counted(unused, 'video')} not named v_<Class>_g<NN>_c<NN>: unused")
        return notes
    if unused == len(videos):
        raise DatasetError(
            f"{shown(lists.folder)}: the lists name none of the {len(videos)} videos; remove the "
            "lists or pass --layout classes"
        )
    notes = []
    if len(lists.parts) < 3:
        notes.append(f"official lists of split {', '.join(map(str, lists.parts))} only")
    missing = len(set().union(*lists.parts.values()) - {ucf101_key(v.path) for v in videos})
    if missing:
        verb = "is" if missing == 1 else "are"
        notes.append(f"{counted(missing, 'listed video')} {verb} not on disk")
    if unused:
        notes.append(f"{counted(unused, 'video')} in no list: unused")
    return notes


# --- class folders ---------------------------------------------------------------------------


def _classes(root: Path, paths: Sequence[str]) -> tuple[list[Video], list[str]]:
    folders = [path.split("/")[:-1] for path in paths]
    notes = []
    if wrapper := _wrapper(folders):
        folders = [parts[1:] for parts in folders]
        notes.append(f"class folders taken from {shown(wrapper)}/")
    words = _split_words(root, folders)
    if words is None:
        labels = [parts[0] if parts else None for parts in folders]
        videos = [Video(p, p, label) for p, label in zip(paths, labels, strict=True)]
        videos, remarks = _hold_out_noted(videos)
    else:
        videos = [_split_video(p, f, words) for p, f in zip(paths, folders, strict=True)]
        remarks = [*val_note(words)]
    return videos, notes + remarks + _label_notes(videos)


def _wrapper(folders: list[list[str]]) -> str | None:
    """The single folder around the class or split folders, if that is how it is."""
    firsts = {parts[0] if parts else "" for parts in folders}
    seconds = {parts[1] if len(parts) > 1 else "" for parts in folders}
    if len(firsts) > 1 or firsts & {"", *_as_split_folders(firsts)} or "" in seconds:
        return None
    return firsts.pop() if len(seconds) > 1 or _as_split_folders(seconds) else None


def _as_split_folders(names: set[str]) -> set[str]:
    return {name for name in names if name.lower() in FOLDER_WORDS}


def _split_words(root: Path, folders: list[list[str]]) -> set[str] | None:
    """The words of the split folders, in lower case; None where the folders are classes.

    A class may be called train, so one such name among others is a class.
    """
    firsts = {parts[0] for parts in folders if parts}
    splits = _as_split_folders(firsts)
    words = {name.lower() for name in splits}
    if splits and splits == firsts:
        return words
    if "train" in words and len(words) > 1:
        other = min(firsts - splits)
        raise DatasetError(
            f"{shown(root)}: {shown(other)}/ stands beside split folders "
            f"({', '.join(sorted(splits))}); move one or the other away"
        )
    return None


def _split_video(path: str, folders: list[str], words: set[str]) -> Video:
    word = folders[0].lower() if folders else None
    label = folders[1] if len(folders) > 1 else None
    return Video(path, path, label, splits={1: part_of_word(word, words=words)})


def _label_notes(videos: list[Video]) -> list[str]:
    labels = {video.label for video in videos}
    unlabelled = sum(video.label is None for video in videos)
    if unlabelled:
        return [f"{counted(unlabelled, 'video')} in no class folder: no label"]
    if len(labels) == 1:
        (label,) = labels
        return [f"one class only, {shown(label)}: if that is no class, use --layout flat"]
    return []


# --- csv -------------------------------------------------------------------------------------


def _read_csv(file: Path) -> Dataset:
    rows = read_csv(file)
    _check_words(file, rows)
    present = find_rows(file, rows)
    if not present:
        raise DatasetError(
            f"{shown(file)}: none of the {len(rows)} listed videos is on disk, such as "
            f"{shown(file.parent / rows[0].path)}; paths are relative to the csv's folder"
        )
    notes = []
    if missing := len(rows) - len(present):
        gone = min({row.path for row in rows} - {row.path for row in present})
        verb = "is" if missing == 1 else "are"
        notes.append(
            f"{counted(missing, 'listed video')} {verb} not on disk, such as {shown(gone)}"
        )
    videos, remarks = _csv_videos(present, {row.split for row in rows})
    videos.sort(key=lambda video: video.id)
    return Dataset(file.parent, file.stem, "csv", tuple(videos), (*notes, *remarks))


def _csv_videos(rows: list[Row], words: set[str | None]) -> tuple[list[Video], list[str]]:
    """Videos of the rows on disk, given the split words of all rows."""
    videos = [
        Video(r.path, r.path, r.label, r.group, {1: part_of_word(r.split, words=words)})
        for r in rows
    ]
    if words != {None}:
        return videos, [*val_note(words)]
    if any(video.label is not None for video in videos):
        return _hold_out_noted(videos)
    return hold_out(videos), []


def _check_words(file: Path, rows: list[Row]) -> None:
    for row in rows:
        if row.split is not None and row.split not in PART_WORDS:
            raise DatasetError(
                f"{shown(file)} line {row.line}: split {shown(row.split)!r} is unknown; use train, "
                "val, test, unused or leave it empty"
            )
