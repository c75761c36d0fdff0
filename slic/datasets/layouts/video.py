"""Videos and data sets, and functions that several layouts need."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from slic.datasets.listing import LONGEST_NAME
from slic.datasets.splits import Part, held_out
from slic.errors import DatasetError
from slic.runtime.text import counted, escape

Layout = Literal["ucf101", "hmdb51", "kinetics", "classes", "images", "mmaction", "csv", "flat"]


@dataclass(frozen=True)
class Video:
    """One video of a data set.

    Attributes:
        id: its path with the suffix, since `a.mp4` and `a.avi` may both exist.
        path: a video file or a folder of numbered images, relative to the data set's root, with
            forward slashes.
        label: class name, if known.
        group: videos of one class and group show the same scene, and are in the same part of a
            split.
        splits: split number -> train, test or unused.
        flow: folders with the images of u and v, if it is a folder of images and has any.
    """

    id: str
    path: str
    label: str | None = None
    group: str | None = None
    splits: dict[int, Part] = field(default_factory=dict, hash=False)
    flow: tuple[str, str] | None = None


@dataclass(frozen=True)
class Dataset:
    """The videos of a data set.

    Attributes:
        root: the folder that paths are relative to.
        name: name of the folder, of the csv without suffix, or of the folder of a list.
        layout: how it was read.
        videos: sorted by id.
        notes: remarks for the user, one line each.
        of_images: whether the videos are folders of images.

    Raises:
        DatasetError: a name is longer than a path can be.
    """

    root: Path
    name: str
    layout: Layout
    videos: tuple[Video, ...]
    notes: tuple[str, ...] = ()
    of_images: bool = False

    def __post_init__(self) -> None:
        for video in self.videos:
            for name in (video.id, video.label, video.group):
                if name is not None and len(name) > LONGEST_NAME:
                    raise DatasetError(
                        f"{escape(self.root)}: a name of {len(name)} characters,"
                        f" {escape(name[:40])}...: longer than {LONGEST_NAME}; shorten it"
                    )

    @property
    def labelled(self) -> bool:
        """Return whether any video has a label."""
        return any(video.label is not None for video in self.videos)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the class names, sorted."""
        return tuple(sorted({v.label for v in self.videos if v.label is not None}))

    @property
    def split_numbers(self) -> tuple[int, ...]:
        """Return the numbers of the splits, sorted."""
        return tuple(sorted({number for video in self.videos for number in video.splits}))


def hold_out(videos: Sequence[Video]) -> list[Video]:
    """Make split 1 for videos without splits: a quarter of each class's groups are for testing.

    Of the n groups of a class, sorted by the blake2b digest of their names, the first
    max(1, n / 4), rounded half up, are test, or none if there is only one. A video without a
    group is a group by itself, named by its id. A video without a label is for training. The
    order of `videos` does not matter.

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


def hold_out_noted(videos: list[Video]) -> tuple[list[Video], list[str]]:
    """Apply `hold_out`, and return a remark for the user as well."""
    videos = hold_out(videos)
    if any(video.splits[1] == "test" for video in videos):
        by = " by group" if any(video.group for video in videos) else ""
        return videos, [f"no split given: a quarter of each class held out{by}"]
    return videos, [
        "no split given, and too few videos to hold any out: all videos are for training"
    ]


def missing_note(missing: int) -> list[str]:
    """Return a remark on listed videos that are not on disk, if there are any."""
    verb = "is" if missing == 1 else "are"
    return [f"{counted(missing, 'listed video')} {verb} not on disk"] if missing else []
