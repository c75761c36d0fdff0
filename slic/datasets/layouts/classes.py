"""Layout classes: `<class>/*` or `{train,val,test}/<class>/*`, possibly in one more folder."""

from collections.abc import Sequence
from pathlib import Path

from slic.datasets.layouts.video import Video, hold_out_noted
from slic.datasets.splits import FOLDER_WORDS, part_of_word, val_note
from slic.errors import DatasetError
from slic.runtime.text import counted, escape


def read_classes(root: Path, paths: Sequence[str]) -> tuple[list[Video], list[str]]:
    """Return the videos at relative paths, labelled by folder, and remarks."""
    folders = [path.split("/")[:-1] for path in paths]
    notes = []
    if wrapper := _wrapper(folders):
        folders = [parts[1:] for parts in folders]
        notes.append(f"class folders found in {escape(wrapper)}/")
    words = _split_words(root, folders)
    if words is None:
        labels = [parts[0] if parts else None for parts in folders]
        videos = [Video(p, p, label) for p, label in zip(paths, labels, strict=True)]
        videos, remarks = hold_out_noted(videos)
    else:
        videos = [_split_video(p, f, words) for p, f in zip(paths, folders, strict=True)]
        remarks = [*val_note(words)]
    return videos, notes + remarks + _label_notes(videos)


def _wrapper(folders: list[list[str]]) -> str | None:
    """Return the single folder that contains all class or split folders, if there is one."""
    firsts = {parts[0] if parts else "" for parts in folders}
    seconds = {parts[1] if len(parts) > 1 else "" for parts in folders}
    if len(firsts) > 1 or firsts & {"", *_as_split_folders(firsts)} or "" in seconds:
        return None
    return firsts.pop() if len(seconds) > 1 or _as_split_folders(seconds) else None


def _as_split_folders(names: set[str]) -> set[str]:
    return {name for name in names if name.lower() in FOLDER_WORDS}


def _split_words(root: Path, folders: list[list[str]]) -> set[str] | None:
    """Return the words of split folders, in lower case; None if the folders are classes.

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
            f"{escape(root)}: {escape(other)}/ is next to split folders "
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
        return [f"{counted(unlabelled, 'video')} outside the class folders: no label"]
    if len(labels) == 1:
        (label,) = labels
        return [f"only one class, {escape(label)}: if it is not a class, use --layout flat"]
    return []
