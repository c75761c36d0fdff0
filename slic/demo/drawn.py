"""A generated data set of action videos in UCF101's layout, for the demo and the tests."""

import io
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from slic.demo.figures import ACTIONS
from slic.demo.scenes import iterate_clip
from slic.errors import DatasetError
from slic.runtime.disk import atomic_write

_STAMP = "drawn.json"
_VERSION = 1  # to be raised when the videos look different
_QUANTISER = "3"  # of MPEG-4, from 1 (best) to 31: no visible blocks


def draw_dataset(
    root: Path,
    *,
    actions: int = 10,
    groups: int = 25,
    clips: int = 4,
    frames: int = 40,
    size: tuple[int, int] = (128, 96),
    fps: float = 25.0,
    scene_bias: float = 0.4,
    seed: int = 0,
    on_video: Callable[[], object] = lambda: None,
) -> int:
    """Generate a data set: `UCF-101/<Class>/*.avi` and the lists in `ucfTrainTestlist/`.

    Videos left by an earlier call with the same arguments are kept, so an interrupted call can
    be repeated to continue.

    Args:
        root: folder of its own: missing, empty, or made by an earlier call.
        actions: number of classes, the first of `ACTIONS`.
        groups: groups per action, 2 to 99; see `groups_tested`.
        clips: clips per group, 1 to 99.
        frames: frames per clip.
        size: width and height in pixels, both even and at least 16.
        fps: frames per second.
        scene_bias: as in `iterate_clip`.
        seed: random seed.
        on_video: called for each video, once it is there.

    Returns:
        Number of videos in the data set.

    Raises:
        DatasetError: `root` contains something else, or a set with other arguments.
        DiskError: the file system refuses to write.
    """
    stamp: dict[str, Any] = {"version": _VERSION, "actions": actions, "groups": groups}
    stamp |= {"clips": clips, "frames": frames, "width": size[0], "height": size[1], "fps": fps}
    _claim(root, {**stamp, "scene_bias": scene_bias, "seed": seed})
    videos = [
        (action, group, clip)
        for action in ACTIONS[:actions]
        for group in range(1, groups + 1)
        for clip in range(1, clips + 1)
    ]
    _write_lists(root / "ucfTrainTestlist", videos, groups=groups)
    for action, group, clip in videos:
        path = root / "UCF-101" / _name(action, group, clip)
        if not path.exists():
            look: dict[str, Any] = {"frames": frames, "size": size, "scene_bias": scene_bias}
            pictures = iterate_clip(action, group=group, clip=clip, seed=seed, **look)
            _write(path, _encoded(pictures, size=size, fps=fps))
        on_video()
    return len(videos)


def groups_tested(split: int, *, groups: int = 25) -> tuple[int, ...]:
    """Return the groups that a split tests on; it trains on the others.

    Each split takes the next block of `max(1, round(7 * groups / 25))` groups, as UCF101's
    splits do (of 25 groups: 1-7, 8-14, 15-21), and wraps around after the last group.

    Args:
        split: 1, 2 or 3.
        groups: groups per action.
    """
    count = max(1, round(7 * groups / 25))
    first = (split - 1) * count
    return tuple((first + i) % groups + 1 for i in range(count))


def _claim(root: Path, stamp: dict[str, Any]) -> None:
    """Write the stamp into an empty folder; refuse a folder that has other content."""
    path = root / _STAMP
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DatasetError(f"{root}: is not empty; choose a new or an empty folder")
        _write(path, (json.dumps(stamp, indent=1) + "\n").encode())
        return
    try:
        found = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise DatasetError(f"{path}: is damaged; remove {root} or choose another folder") from None
    for key, value in stamp.items():
        if found.get(key) != value:
            raise DatasetError(
                f"{root}: was generated with {key} {found.get(key)}, not {value};"
                " remove it or choose another folder"
            )


def _name(action: str, group: int, clip: int) -> str:
    return f"{action}/v_{action}_g{group:02d}_c{clip:02d}.avi"


def _write_lists(folder: Path, videos: list[tuple[str, int, int]], *, groups: int) -> None:
    """Write UCF101's lists: class numbers begin at 1, and only training lists give labels."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(a for a, _, _ in videos), start=1)}
    classes = "".join(f"{number} {name}\n" for name, number in numbers.items())
    _write(folder / "classInd.txt", classes.encode())
    for split in (1, 2, 3):
        tested = groups_tested(split, groups=groups)
        test = [_name(*video) for video in videos if video[1] in tested]
        train = [f"{_name(*v)} {numbers[v[0]]}" for v in videos if v[1] not in tested]
        for kind, lines in (("train", train), ("test", test)):
            text = "".join(f"{line}\n" for line in lines)
            _write(folder / f"{kind}list{split:02d}.txt", text.encode())


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _encoded(pictures: Iterator[np.ndarray], *, size: tuple[int, int], fps: float) -> bytes:
    """Encode as MPEG-4 in AVI, like UCF101; in memory, as FFmpeg may not report a full disk."""
    content = io.BytesIO()
    with av.open(content, "w", format="avi") as container:
        rate = Fraction(fps).limit_denominator(1001)
        options = {"qmin": _QUANTISER, "qmax": _QUANTISER}
        stream = container.add_stream("mpeg4", rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return content.getvalue()
