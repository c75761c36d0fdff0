"""Amounts of a data set: what is published of known sets, and of sets that do not exist yet.

| set | videos, split 1 | frames a video | from |
|---|---|---|---|
| ucf101 | 13,320: 9,537 train, 3,783 test | 187, 320x240 | CRCV-TR-12-01, its lists |
| hmdb51 | 6,766: 3,570 train, 1,530 test | 79, the median; 320x240 | ICCV 2011, its lists |
| kinetics400 | 259,800: 240,000 train, 19,800 validation | 300 | arXiv 1705.06950: 10 s |
| kinetics700 | 580,317: 545,317 train, 35,000 validation | 300 | arXiv 1907.06987: 10 s |

Of Kinetics, 30 frames a second and copies at 340x256 are assumed: its videos are of many sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slic.errors import InputError
from slic.runtime.text import counted
from slic.upkeep.cost.rates import REFERENCE_PIXELS

SHORT_SIDE = 128
# Of 105 real clips, 6,690 frames: docs/reproduce.md. A stored frame of 171x128 is 21,888 pixels.
FRAME_BYTES_A_PIXEL, FLOW_BYTES_A_PIXEL = 8100 / 21888, 2200 / 21888
BYTES_FROM = "bytes a frame as of 105 real clips (docs/reproduce.md)"


@dataclass(frozen=True, kw_only=True)
class Data:
    """Amounts of a data set.

    Attributes:
        name: for people.
        basis: where the amounts are from, in one line.
        videos: how many.
        train, test: videos of the split that is trained on.
        labelled: whether any has a label.
        frames: of all videos.
        weight: work of decoding a source frame, relative to one of 320x240.
        pixels: of a stored frame.
        frame_bytes, flow_bytes: of a stored frame, and of a flow field.
        frames_left, pairs_left: still to be decoded, and to have their flow computed.
        videos_left: still to be decoded.
    """

    name: str
    basis: str
    videos: int
    train: int
    test: int
    labelled: bool
    frames: float
    weight: float
    pixels: float
    frame_bytes: float
    flow_bytes: float
    frames_left: float
    pairs_left: float
    videos_left: int

    @property
    def pairs(self) -> float:
        """Consecutive frames of all videos."""
        return max(0.0, self.frames - self.videos)


@dataclass(frozen=True)
class Published:
    """Of a known set: videos of split 1, mean frames a video, width and height."""

    train: int
    test: int
    unused: int
    frames: int
    width: int
    height: int
    remark: str = ""


KNOWN: Mapping[str, Published] = {
    "ucf101": Published(9537, 3783, 0, 187, 320, 240),
    "hmdb51": Published(3570, 1530, 1666, 79, 320, 240, "frames by their median"),
    "kinetics400": Published(240_000, 19_800, 0, 300, 340, 256, "30 frames/s, 340x256 assumed"),
    "kinetics700": Published(545_317, 35_000, 0, 300, 340, 256, "30 frames/s, 340x256 assumed"),
}
MOST_VIDEOS, MOST_SECONDS, MOST_FPS = 10**12, 10**6, 10**4


def known(name: str) -> Data | None:
    """The published amounts of a set, by its name in any case; None of one that is not known."""
    found = KNOWN.get(name.lower())
    if found is None:
        return None
    remark = f"; {found.remark}" if found.remark else ""
    return _unprepared(
        name.lower(),
        f"published sizes{remark}; {BYTES_FROM}",
        sizes=(found.train, found.test, found.unused),
        frames=found.frames,
        shape=(found.width, found.height),
        labelled=True,
    )


def imagined(videos: int, *, seconds: float, fps: float) -> Data:
    """A set that does not exist yet, of unlabelled videos of 320x240.

    Raises:
        InputError: a number is out of range.
    """
    for option, value, most in (
        ("--videos", videos, MOST_VIDEOS),
        ("--seconds", seconds, MOST_SECONDS),
        ("--fps", fps, MOST_FPS),
    ):
        if not 0 < value <= most:
            raise InputError(f"{option} {value:g}: must be above 0, and at most {most}")
    return _unprepared(
        f"{counted(videos, 'video')} of {seconds:g} s",
        f"320x240 and {fps:g} frames/s as asked or assumed; {BYTES_FROM}",
        sizes=(videos, 0, 0),
        frames=max(1.0, seconds * fps),
        shape=(320, 240),
        labelled=False,
    )


def _unprepared(
    name: str,
    basis: str,
    *,
    sizes: tuple[int, int, int],
    frames: float,
    shape: tuple[int, int],
    labelled: bool,
) -> Data:
    (width, height), videos = shape, sum(sizes)
    scale = min(1.0, SHORT_SIDE / min(shape))
    pixels = round(width * scale) * round(height * scale)
    return Data(
        name=name,
        basis=basis,
        videos=videos,
        train=sizes[0],
        test=sizes[1],
        labelled=labelled,
        frames=videos * frames,
        weight=width * height / REFERENCE_PIXELS,
        pixels=pixels,
        frame_bytes=FRAME_BYTES_A_PIXEL * pixels,
        flow_bytes=FLOW_BYTES_A_PIXEL * pixels,
        frames_left=videos * frames,
        pairs_left=videos * max(0.0, frames - 1),
        videos_left=videos,
    )
