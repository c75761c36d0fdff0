"""Videos stored as folders of numbered images: `image_00001.jpg`, flow as `flow_x_00001.jpg`."""

import os
import re
from pathlib import Path
from typing import Final, Literal

from slic.errors import DecodeError

ImageView = Literal["frames", "u", "v"]

_NUMBERED: Final = re.compile(r"(.*?)(\d+)\.(?:jpe?g|png)", re.IGNORECASE)
_FLOW_PREFIXES: Final[dict[str, ImageView]] = {"flow_x": "u", "x": "u", "flow_y": "v", "y": "v"}


def image_prefix(name: str) -> str | None:
    """Return the part of an image's name before its number; None for any other file."""
    match = _NUMBERED.fullmatch(name)
    return match[1] if match else None


def view_of_prefix(prefix: str) -> ImageView:
    """Return what images of a prefix show: `flow_x_` and `x_` are u, `flow_y_` and `y_` are v."""
    return _FLOW_PREFIXES.get(prefix.rstrip("_-. ").lower(), "frames")


def image_files(folder: Path, *, view: ImageView | None = None) -> list[Path]:
    """Return the numbered images of a folder in order, whether or not some are missing.

    Args:
        folder: the folder of one video.
        view: only images that show this. None: all.

    Raises:
        OSError: the folder cannot be read.
    """
    return [path for _, _, path in _numbered(folder, view)]


def image_sequence(folder: Path, *, view: ImageView | None = None) -> list[Path]:
    """Return the images of one video in order: one prefix, numbered from 0 or 1 without a gap.

    Raises:
        DecodeError: there is no image, or they are not one sequence; the message says why.
        OSError: the folder cannot be read.
    """
    found = _numbered(folder, view)
    what = "image" if view in (None, "frames") else f"image of {view}"
    if not found:
        raise DecodeError(f"no numbered {what}")
    prefixes = sorted({prefix for _, prefix, _ in found})
    if len(prefixes) > 1:
        names = " and ".join(f"{prefix}*" for prefix in prefixes[:2])
        raise DecodeError(
            f"images with {len(prefixes)} prefixes, such as {names}; keep those of the video"
        )
    first, _, path = found[0]
    if first > 1:
        raise DecodeError(f"the first {what} is {path.name}: numbers must begin with 0 or 1")
    for expected, (number, _, path) in enumerate(found, start=first):
        if number < expected:
            raise DecodeError(f"two images of number {number}, such as {path.name}")
        if number > expected:
            raise DecodeError(f"{what} number {expected} is missing: the next is {path.name}")
    return [path for _, _, path in found]


def _numbered(folder: Path, view: ImageView | None) -> list[tuple[int, str, Path]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _NUMBERED.fullmatch(entry.name)
            if not match or entry.name.startswith(".") or not entry.is_file():
                continue
            if view in (None, view_of_prefix(match[1])):
                found.append((int(match[2]), match[1], folder / entry.name))
    return sorted(found)
