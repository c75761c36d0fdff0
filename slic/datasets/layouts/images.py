"""Layout images: a folder of numbered images per video, with flow in it or in u/ and v/."""

from collections import defaultdict
from collections.abc import Iterable

from slic.datasets.images import view_of_prefix
from slic.runtime.text import counted

Flow = tuple[str, str]


def image_videos(pictures: dict[str, set[str]]) -> tuple[dict[str, Flow | None], list[str]]:
    """Find which folders of images are videos, and where their flow is.

    A folder that contains folders of images is not a video: its own images are thumbnails. Flow is
    in the folder itself (`flow_x_*`, `flow_y_*`), or in folders u/ and v/ with the same parent and
    the same subfolders as the videos: `u/<class>/<video>` or `u/<video>`. Folders u and v without
    corresponding videos are classes.

    Args:
        pictures: as in a `Listing`.

    Returns:
        The folders of u and v of each video, or None; and remarks.
    """
    frames = {p for p, prefixes in pictures.items() if "frames" in map(view_of_prefix, prefixes)}
    pairs, lone = _flow_beside(pictures, frames)
    flow_folders = {folder for pair in pairs.values() for folder in pair} | lone
    holders = {holder for folder in pictures.keys() - flow_folders for holder in _above(folder)}
    videos: dict[str, Flow | None] = {}
    for path in sorted(frames - holders - flow_folders):
        own = {view_of_prefix(prefix) for prefix in pictures[path]} - {"frames"}
        videos[path] = (path, path) if own else pairs.get(path)
    without = len((pictures.keys() - frames - flow_folders) | lone)
    return videos, [f"{counted(without, 'folder')} of flow without frames ignored"] * bool(without)


def _flow_beside(
    pictures: dict[str, set[str]], frames: set[str]
) -> tuple[dict[str, Flow], set[str]]:
    """Return the folders of u and v by video, and those without a video."""
    places = {p: place for p in pictures for place in [_place_in_flow(p)] if place}
    sides: dict[str, set[str]] = defaultdict(set)
    for parent, side, _ in places.values():
        sides[parent].add(side)
    places = {p: place for p, place in places.items() if len(sides[place[0]]) == 2}
    others = frames - places.keys()
    ends = _by_ending(others)
    pairs: dict[str, Flow] = {}
    lone = set()
    for path, (parent, _, below) in places.items():
        exact = _joined(parent, below)
        video = exact if exact in others else ends.get(below)
        if video is None:
            lone.add(path)
        else:
            pairs[video] = (_joined(parent, "u", below), _joined(parent, "v", below))
    return pairs, lone if pairs else set()


def _place_in_flow(path: str) -> tuple[str, str, str] | None:
    """Split a path through a folder u or v into its parent, u or v, and the rest."""
    parts = path.split("/")
    for place, part in enumerate(parts):
        if part in ("u", "v"):
            return "/".join(parts[:place]), part, "/".join(parts[place + 1 :])
    return None


def _by_ending(paths: Iterable[str]) -> dict[str, str | None]:
    """Map each sequence of last components to the path that has it; None if several have it."""
    ends: dict[str, str | None] = {}
    for path in paths:
        parts = path.split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            ends[end] = None if end in ends else path
    return ends


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _above(folder: str) -> list[str]:
    parts = folder.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts))] if folder else []
