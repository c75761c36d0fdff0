"""Read a data set in one of these layouts:

| layout | what it looks like |
|---|---|
| ucf101 | class folders of `v_<Class>_g<NN>_c<NN>.avi`, with or without the official lists |
| hmdb51 | class folders and lists `<class>_test_split<k>.txt` |
| kinetics | `<id>_<start>_<end>.mp4` and csv files `label,youtube_id,time_start,time_end,split` |
| classes | `<class>/*` or `{train,val,test}/<class>/*`, possibly in one folder around them |
| images | folders of numbered images as videos, in any of the trees above, or flat |
| mmaction | a list of mmaction2: `<path> <class number>` or `<folder> <frames> <class number>` |
| csv | a table `path,label,split,group`; only `path` is required |
| flat | videos without labels |
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from slic.datasets.layouts.classes import read_classes
from slic.datasets.layouts.hmdb51 import is_hmdb51_name, read_hmdb51
from slic.datasets.layouts.images import image_videos
from slic.datasets.layouts.kinetics import is_kinetics_table, read_kinetics
from slic.datasets.layouts.mmaction import read_mmaction
from slic.datasets.layouts.table import read_table
from slic.datasets.layouts.ucf101 import read_ucf101
from slic.datasets.layouts.video import Dataset, Layout, Video, hold_out
from slic.datasets.listing import VIDEO_SUFFIXES, Listing, list_folder
from slic.datasets.splits import Part, is_split_list, ucf101_name
from slic.errors import DatasetError
from slic.runtime.text import counted, escape, is_one_line, is_utf8

__all__ = ["VIDEO_SUFFIXES", "Dataset", "Layout", "Part", "Video", "hold_out", "read_dataset"]

Choice = Layout | Literal["auto"]


def read_dataset(path: str | os.PathLike[str], *, layout: Choice = "auto") -> Dataset:
    """Read the videos of a data set, with id, path, label, splits and group.

    Args:
        path: a folder, a csv or a list of mmaction2.
        layout: how to read it. "auto" recognises mmaction by the suffix `.txt`; kinetics by a csv
            with YouTube ids; csv by any other csv; ucf101 and hmdb51 by their official lists, or
            if most files have such names; flat if all videos are at the top of the folder;
            classes if all are in subfolders. A folder without video files, but with folders of
            numbered images, is read in the same ways, as layout images.

    Returns:
        All videos that are on disk. Splits 1 to 3 of ucf101 and hmdb51 are those of the official
        lists (for ucf101 without lists, by group number); splits without lists are absent. Other
        layouts have split 1, from `hold_out` if they specify none.

    Raises:
        DatasetError: there is no video, the layout does not fit, or a csv or list is malformed.
    """
    if layout not in ("auto", *get_args(Layout)):
        raise DatasetError(
            f"layout {layout!r} is unknown; choose auto, {', '.join(get_args(Layout))}"
        )
    root = Path(os.path.abspath(path))
    if not is_one_line(str(root)) or not is_utf8(str(root)):
        raise DatasetError(
            f"{str(root)!a}: the name contains NUL, a line break or bytes that are not UTF-8"
        )
    if not os.path.exists(root):  # unlike Path.exists, no error where permission is lacking
        raise DatasetError(f"{escape(path)}: no such file or folder")
    if root.is_dir():
        return _read_folder(root, layout)
    if layout == "auto" and root.suffix.lower() == ".csv":
        layout = "kinetics" if is_kinetics_table(root) else "csv"
    if layout == "mmaction" or (layout == "auto" and root.suffix.lower() == ".txt"):
        return read_mmaction(root)
    if layout == "kinetics":
        return _read_folder(root.parent, layout, table=root)
    if layout == "csv":
        return read_table(root)
    expected = "a folder, .csv or .txt" if layout == "auto" else f"a folder for layout {layout}"
    raise DatasetError(f"{escape(path)}: is a file; give {expected}")


def _read_folder(root: Path, layout: Choice, *, table: Path | None = None) -> Dataset:
    """Read the data set of a folder; of its csv files only `table`, if given."""
    if layout == "csv":
        raise DatasetError(f"{escape(root)}: a folder; for layout csv, give the csv itself")
    if layout == "mmaction":
        raise DatasetError(
            f"{escape(root)}: a folder; for layout mmaction, give one of the lists in it"
        )
    listing = list_folder(root)
    flows, found = image_videos(listing.pictures)
    of_images = layout == "images" or not listing.videos
    if of_images:
        listing = _of_images(root, listing, list(flows))
    elif flows:
        found = [f"{counted(len(flows), 'folder')} of images ignored: see --layout images"]
    tables = [table] if table else _kinetics_tables(root, listing)
    if layout == "auto" or layout == "images":
        inner = _recognise(root, listing, tables, of_images=of_images)
        layout = "images" if of_images else inner
    else:
        inner = layout
    videos, notes = _read_listing(root, listing, inner, tables)
    if of_images:
        videos = [replace(video, flow=flows[video.path]) for video in videos]
        found = [
            f"videos are folders of images, with labels and splits as in layout {inner}",
            *found,
        ]
    return Dataset(
        root=root,
        name=table.stem if table else root.name or "dataset",
        layout=layout,
        videos=tuple(videos),
        notes=(*listing.notes, *found, *notes),
        of_images=of_images,
    )


def _of_images(root: Path, listing: Listing, folders: list[str]) -> Listing:
    """Return the listing with folders of images as its videos."""
    if folders == [""]:
        raise DatasetError(f"{escape(root)}: holds the images of one video; give its parent folder")
    if not folders:
        raise DatasetError(
            f"{escape(root)}: no folder of numbered images such as image_00001.jpg in this folder"
        )
    notes = listing.notes
    if listing.videos:
        notes += (f"{counted(len(listing.videos), 'video file')} ignored: layout images",)
    return replace(listing, videos=tuple(folders), notes=notes)


def _read_listing(
    root: Path, listing: Listing, layout: Choice, tables: list[Path]
) -> tuple[list[Video], list[str]]:
    if layout == "ucf101":
        return read_ucf101(root, listing)
    if layout == "hmdb51":
        return read_hmdb51(root, listing)
    if layout == "kinetics":
        return read_kinetics(root, listing, tables=tables)
    if layout == "classes":
        return read_classes(root, listing.videos)
    return [Video(path, path, splits={1: "train"}) for path in listing.videos], []


def _kinetics_tables(root: Path, listing: Listing) -> list[Path]:
    return [root / path for path in listing.tables if is_kinetics_table(root / path)]


def _recognise(root: Path, listing: Listing, tables: list[Path], *, of_images: bool) -> Layout:
    inner = [path for path in listing.videos if "/" in path]
    named = listing.videos if of_images else inner
    if _mostly(named, ucf101_name) or any(map(is_split_list, listing.lists)):
        return "ucf101"
    if _mostly(named, is_hmdb51_name) or listing.hmdb51_lists:
        return "hmdb51"
    if tables:
        return "kinetics"
    if not inner:
        return "flat"
    if len(inner) < len(listing.videos):
        top = len(listing.videos) - len(inner)
        raise DatasetError(
            f"{escape(root)}: {counted(top, 'video')} at the top and {len(inner)} in folders; "
            "pass --layout classes (folders are classes, the top has no label) or --layout flat "
            "(no labels)"
        )
    return "classes"


def _mostly(paths: Sequence[str], named: Callable[[str], object]) -> bool:
    return 2 * sum(bool(named(path)) for path in paths) > len(paths)
