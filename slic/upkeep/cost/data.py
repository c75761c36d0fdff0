"""Amounts of a data set: from some of its videos, from a store, or as published."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from slic.cache import ClipStore, Codec, Entry, View
from slic.config import Settings
from slic.datasets.videos import Dataset
from slic.errors import DatasetError, StoreError
from slic.prep.frames import JPEG_QUALITY
from slic.prep.frames_video import FrameJob, Preview, close_decoder, preview
from slic.prep.space import OVERHEAD, VIDEOS, estimate, source_size
from slic.runtime.text import counted, escape
from slic.upkeep.cost.rates import REFERENCE_PIXELS, TABLES, Rate

SHORT_SIDE = 128  # the default of `slic prep frames`
# Of 105 real clips, 6,690 frames: docs/reproduce.md. A stored frame of 171x128 is 21,888 pixels.
FRAME_BYTES_A_PIXEL, FLOW_BYTES_A_PIXEL = 8100 / 21888, 2200 / 21888
BYTES_FROM = "bytes per frame as in 105 real clips (docs/reproduce.md)"
KNOWN: tuple[str, ...] = tuple(TABLES["datasets"])


@dataclass(frozen=True, kw_only=True)
class Data:
    """Amounts of a data set.

    Attributes:
        name: name to show.
        basis: where the amounts are from, in one line.
        videos: number of videos.
        train, test: videos of the training split, and labelled videos of the test split.
        labelled: whether any video has a label.
        frames: frames of all videos.
        pixels: pixels of a stored frame.
        frame_bytes, flow_bytes: bytes of a stored frame, and of a flow field.
        frames_left, videos_left: frames and videos to decode.
        pairs_left: pairs of frames to compute flow of.
        weight: work of decoding a source frame, in units of the rate `decode`.
    """

    name: str
    basis: str
    videos: int
    train: int
    test: int
    labelled: bool
    frames: float
    pixels: float
    frame_bytes: float
    flow_bytes: float
    frames_left: float
    pairs_left: float
    videos_left: int
    weight: float = 1.0

    @property
    def pairs(self) -> float:
        """Pairs of consecutive frames in all videos."""
        return max(0.0, self.frames - self.videos)


def _unprepared(*, videos: int, frames: float, pixels: float, **others: Any) -> Data:
    """Make the amounts of a data set of which nothing is stored yet."""
    return Data(
        videos=videos,
        frames=frames,
        pixels=pixels,
        flow_bytes=FLOW_BYTES_A_PIXEL * pixels,
        frames_left=frames,
        pairs_left=max(0.0, frames - videos),
        videos_left=videos,
        **others,
    )


def known(name: str) -> Data:
    """Return the published amounts of one of the data sets in `KNOWN`."""
    return described(name, **TABLES["datasets"][name])


def described(
    name: str,
    *,
    basis: str,
    frames: float,
    train: int,
    test: int = 0,
    unused: int = 0,
    width: int = 320,
    height: int = 240,
) -> Data:
    """Make the amounts of a data set from videos per split, frames per video and frame size."""
    scale, videos = min(1.0, SHORT_SIDE / min(width, height)), train + test + unused
    pixels = round(width * scale) * round(height * scale)
    return _unprepared(
        name=name,
        basis=f"{basis}; {BYTES_FROM}",
        videos=videos,
        train=train,
        test=test,
        labelled=test > 0,
        frames=videos * frames,
        pixels=pixels,
        frame_bytes=FRAME_BYTES_A_PIXEL * pixels,
        weight=width * height / REFERENCE_PIXELS,
    )


def sampled(found: Dataset, *, settings: Settings) -> tuple[Data, Rate]:
    """Estimate the amounts of a data set, and the rate of decoding it, from some of its videos.

    Raises:
        DatasetError: none of these videos can be decoded.
    """
    codec = Codec("jpeg", quality=JPEG_QUALITY)
    jobs = [FrameJob(found.root, found.root, v, SHORT_SIDE, codec, "") for v in found.videos]
    previews: list[Preview] = []

    def measure(job: FrameJob) -> float:
        previews.append(preview(job))
        return previews[-1].bytes

    preview(jobs[0])  # starts the decoder
    needed = estimate(jobs, weight=source_size, measure=measure)
    close_decoder()
    previews = [p for p in previews if p.decoded]
    if not previews:
        raise DatasetError(f"{escape(found.root)}: none of the videos sampled decodes")
    frames, size = sum(p.frames for p in previews), sum(p.bytes for p in previews)
    scale = (needed.bytes - len(jobs) * OVERHEAD) / size
    data = _unprepared(
        name=found.name,
        basis=f"{len(previews)} of {counted(len(jobs), 'video')} sampled; flow's {BYTES_FROM}",
        videos=len(jobs),
        frames=scale * frames,
        pixels=sum(p.frames * p.pixels for p in previews) / frames,
        frame_bytes=size / frames,
        **_splits([(v.splits.get(settings.split), v.label) for v in found.videos]),
    )
    rate = sum(p.decoded for p in previews) / sum(p.seconds for p in previews)
    return data, Rate(rate, "measured", f"{counted(len(previews), 'video')} of {found.name}")


def stored(path: Path, *, settings: Settings) -> Data:
    """Return the amounts of a clip store.

    Raises:
        StoreError: the store contains no video.
    """
    store = ClipStore(path)
    entries = [entry for entry in store.entries() if entry.frames]
    if not entries:
        raise StoreError(f"{path}: contains no video; `slic prep frames` decodes some")
    with_flow = [entry for entry in entries if entry.flow is not None]
    frames, done = _frames(entries), _frames(with_flow) - len(with_flow)
    pixels = sum((e.frames or 0) * (e.height or 0) * (e.width or 0) for e in entries) / frames
    return Data(
        name=store.name,
        basis="the store's index and some of its arrays",
        videos=len(entries),
        frames=frames,
        pixels=pixels,
        frame_bytes=_frame_bytes(store, "frames", entries),
        flow_bytes=_frame_bytes(store, "flow", with_flow) or FLOW_BYTES_A_PIXEL * pixels,
        frames_left=0.0,
        pairs_left=float(frames - len(entries) - done),
        videos_left=0,
        **_splits([(entry.split(settings.split), entry.label) for entry in entries]),
    )


def _splits(rows: Sequence[tuple[str | None, str | None]]) -> dict[str, Any]:
    """Count training and labelled test videos in rows of (split, label)."""
    return {
        "train": sum(split == "train" for split, _ in rows),
        "test": sum(split == "test" and label is not None for split, label in rows),
        "labelled": any(label is not None for _, label in rows),
    }


def _frames(entries: Sequence[Entry]) -> int:
    return sum(entry.frames or 0 for entry in entries)


def _frame_bytes(store: ClipStore, view: View, entries: Sequence[Entry]) -> float:
    """Bytes per frame in the arrays of a random few; 0 if there are none."""
    few = Random(0).sample(entries, min(VIDEOS, len(entries)))
    files = [file for e in few for file in (store.path / view / e.key).glob("*")]
    return sum(file.stat().st_size for file in files) / max(_frames(few), 1)
