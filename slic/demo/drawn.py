"""A data set of drawn action videos in UCF101's own tree, for demos and tests."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from slic.demo.figures import ACTIONS
from slic.demo.scenes import draw_clip, iterate_clip
from slic.errors import DatasetError, SettingsError
from slic.runtime.disk import atomic_write

__all__ = ["ACTIONS", "draw_clip", "draw_dataset", "groups_tested", "iterate_clip"]

_STAMP = "drawn.json"
_VERSION = 1  # of the drawing: another look, another number
_SPLITS = (1, 2, 3)
_QUANTISER = "3"  # of MPEG-4, from 1 (best) to 31: no visible blocks


@dataclass(frozen=True)
class _Plan:
    """What a drawn data set is made from; its stamp on disk."""

    version: int
    actions: int
    groups: int
    clips: int
    frames: int
    width: int
    height: int
    fps: float
    scene_bias: float
    seed: int

    def videos(self) -> Iterator[tuple[str, int, int]]:
        """(action, group, clip) of every video, group and clip from 1."""
        for action in ACTIONS[: self.actions]:
            for group in range(1, self.groups + 1):
                for clip in range(1, self.clips + 1):
                    yield action, group, clip


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
    on_video: Callable[[int], None] | None = None,
) -> int:
    """Draw a set of action videos: `UCF-101/<Class>/*.avi` beside `ucfTrainTestlist/`.

    Videos that an earlier call with the same arguments left in `root` are kept, so that an
    interrupted call goes on where it stopped and a finished one has nothing to do.

    Args:
        root: A folder of its own: missing, empty, or of an earlier call.
        actions: How many of `ACTIONS`, from the first.
        groups: Groups an action, from 2; `groups_tested` says which ones are tested on.
        clips: Clips a group.
        frames: Frames a clip.
        size: Width and height in pixels, both even.
        fps: Frames a second.
        scene_bias: See `draw_clip`.
        seed: Another seed, another data set.
        on_video: Called after each video drawn with the number of videos there are by then.

    Returns:
        Videos in the data set.

    Raises:
        SettingsError: An argument is out of range.
        DatasetError: `root` holds something else, or a set drawn with other arguments.
    """
    width, height = size
    plan = _Plan(
        version=_VERSION,
        actions=actions,
        groups=groups,
        clips=clips,
        frames=frames,
        width=width,
        height=height,
        fps=float(fps),
        scene_bias=float(scene_bias),
        seed=seed,
    )
    _check(plan)
    _claim(Path(root), plan)
    _write_lists(Path(root) / "ucfTrainTestlist", plan)
    wanted = {Path(root) / "UCF-101" / _name(*video): video for video in plan.videos()}
    missing = {path: video for path, video in wanted.items() if not path.exists()}
    kept = len(wanted) - len(missing)
    for done, (path, video) in enumerate(missing.items(), start=kept + 1):
        _write_video(path, video, plan=plan)
        if on_video is not None:
            on_video(done)
    return len(wanted)


def groups_tested(split: int, *, groups: int = 25) -> tuple[int, ...]:
    """Groups that a split tests on; the others it trains on.

    Each split takes the next block of `max(1, round(7 * groups / 25))` groups, as UCF101's
    do (of 25 groups: 1-7, 8-14, 15-21). A block that reaches the last group goes on with the
    first, so that of 2 groups splits 1 and 3 test on the same one.

    Args:
        split: 1, 2 or 3.
        groups: Groups an action.
    """
    count = max(1, round(7 * groups / 25))
    first = (split - 1) * count
    return tuple((first + i) % groups + 1 for i in range(count))


def _check(plan: _Plan) -> None:
    if not 1 <= plan.actions <= len(ACTIONS):
        raise SettingsError(f"{plan.actions} drawn actions: ask for 1 to {len(ACTIONS)}")
    if not 2 <= plan.groups <= 99:
        raise SettingsError(f"{plan.groups} groups an action: ask for 2 to 99, to train and test")
    if not 1 <= plan.clips <= 99:
        raise SettingsError(f"{plan.clips} clips a group: ask for 1 to 99")
    if plan.width % 2 or plan.height % 2:
        raise SettingsError(f"videos of {plan.width}x{plan.height} pixels: ask for even numbers")
    if plan.fps <= 0:
        raise SettingsError(f"videos of {plan.fps} frames a second: ask for more than 0")
    draw_clip(
        ACTIONS[0],
        group=1,
        clip=1,
        frames=min(plan.frames, 1),
        size=(plan.width, plan.height),
        scene_bias=plan.scene_bias,
        seed=plan.seed,
    )


def _claim(root: Path, plan: _Plan) -> None:
    """Put the stamp into an empty root; refuse a root that is not this plan's."""
    stamp = root / _STAMP
    if not stamp.exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DatasetError(f"{root} holds something else: give a new or an empty folder")
        _write_text(stamp, json.dumps(asdict(plan), indent=1) + "\n")
        return
    try:
        found = json.loads(stamp.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DatasetError(f"{stamp} does not read as JSON: remove {root} or give another folder")
    for key, value in asdict(plan).items():
        if found.get(key) != value:
            raise DatasetError(
                f"{root} was drawn with {key} {found.get(key)}, not {value}: "
                "remove it or give another folder"
            )


def _name(action: str, group: int, clip: int) -> str:
    return f"{action}/v_{action}_g{group:02d}_c{clip:02d}.avi"


def _write_lists(folder: Path, plan: _Plan) -> None:
    """UCF101's official lists: 1-based class numbers, and labels in the training lists only."""
    numbers = {name: number for number, name in enumerate(ACTIONS[: plan.actions], start=1)}
    classes = "".join(f"{number} {name}\n" for name, number in numbers.items())
    _write_text(folder / "classInd.txt", classes)
    for split in _SPLITS:
        tested = groups_tested(split, groups=plan.groups)
        train, test = "", ""
        for action, group, clip in plan.videos():
            name = _name(action, group, clip)
            if group in tested:
                test += f"{name}\n"
            else:
                train += f"{name} {numbers[action]}\n"
        _write_text(folder / f"trainlist{split:02d}.txt", train)
        _write_text(folder / f"testlist{split:02d}.txt", test)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def _write_video(path: Path, video: tuple[str, int, int], *, plan: _Plan) -> None:
    """Draw one video into `path`, which appears only once whole."""
    action, group, clip = video
    pictures = iterate_clip(
        action,
        group=group,
        clip=clip,
        frames=plan.frames,
        size=(plan.width, plan.height),
        scene_bias=plan.scene_bias,
        seed=plan.seed,
    )
    content = _encoded(pictures, plan=plan)
    with atomic_write(path) as file:
        file.write(content)


def _encoded(pictures: Iterator[np.ndarray], *, plan: _Plan) -> bytes:
    """MPEG-4 in AVI, as UCF101's files are; in memory, as FFmpeg may not tell of a full disk."""
    content = io.BytesIO()
    with av.open(content, "w", format="avi") as container:
        rate = Fraction(plan.fps).limit_denominator(1001)
        options = {"qmin": _QUANTISER, "qmax": _QUANTISER}
        stream = container.add_stream("mpeg4", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = plan.width, plan.height, "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return content.getvalue()
