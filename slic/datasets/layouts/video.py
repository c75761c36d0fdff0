"""Videos of a data set, and what every layout needs."""

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
        id: Its path, suffix included: `a.mp4` and `a.avi` may stand side by side.
        path: Relative to the data set's root, with forward slashes: a video file, or a folder of
            numbered images.
        label: Class name, if known.
        group: Videos of one class and group share their scene and stay in one part of a split.
        splits: Split number -> train, test or unused.
        flow: Of a folder of images: the folders of its images of u and v, if it has any.
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
        root: The folder that the paths are relative to.
        name: Name of the folder, or of the csv without suffix; of the folder around a list.
        layout: How it was read.
        videos: Sorted by id.
        notes: One-line remarks for the user.
        of_images: Whether the videos are folders of images.

    Raises:
        DatasetError: A name is longer than any path.
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


def hold_out_noted(videos: list[Video]) -> tuple[list[Video], list[str]]:
    """`hold_out`, and what to tell the user about it."""
    videos = hold_out(videos)
    if any(video.splits[1] == "test" for video in videos):
        by = " by group" if any(video.group for video in videos) else ""
        return videos, [f"no split given: a quarter of each class held out{by}"]
    return videos, ["no split given, and nothing to hold out: all videos are train"]


def missing_note(missing: int) -> list[str]:
    """A remark on listed videos that are not on disk, if there are any."""
    verb = "is" if missing == 1 else "are"
    return [f"{counted(missing, 'listed video')} {verb} not on disk"] if missing else []
