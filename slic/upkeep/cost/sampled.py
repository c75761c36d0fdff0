"""A few videos of a data set, decoded into a store aside: its amounts, and what it takes."""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, Entry, video_key
from slic.cache.array_attributes import described
from slic.cache.clipstore import fingerprint
from slic.config import Settings
from slic.datasets.images import image_sequence
from slic.datasets.videos import Dataset
from slic.decode.guarded import Decoding, GuardedDecoder, Reader
from slic.demo.drawn import draw_dataset
from slic.errors import DatasetError, DecodeError, StoreError, WorkError
from slic.prep.frames import JPEG_QUALITY
from slic.prep.frames_video import FRAMES, LEAST_FRAME
from slic.prep.source import size_and_time
from slic.prep.space import OVERHEAD, estimate, weight_of
from slic.runtime.text import counted, escape
from slic.upkeep.cost.data import BYTES_FROM, FLOW_BYTES_A_PIXEL, SHORT_SIDE, Data

FRAME_SETTINGS = {"short_side": SHORT_SIDE, "codec": "jpeg", "quality": JPEG_QUALITY}
STORED_LOOKS = 4
SHORTEST_S = 0.01  # that processor time can tell
LONGEST_S = 5.0  # of looking at videos, after which fewer have to do


@dataclass(frozen=True)
class Look:
    """What the first frames of a video tell.

    Attributes:
        frames: stored of it.
        all_frames: of the whole video, as its header says.
        pixels: of a stored frame.
        bytes: of the stored frames.
        storing: seconds of a core to store it, whatever its length.
        encoding: seconds of a core to code a frame.
    """

    frames: int
    all_frames: float
    pixels: int
    bytes: int
    storing: float
    encoding: float


class Sampler:
    """Takes videos into a store aside, and times it: the time of cores, whatever else they do.

    Args:
        folder: an empty one, for the store.
    """

    def __init__(self, folder: Path) -> None:
        self.store = ClipStore.create(folder / "sample.zarr")
        self.store.set_settings("frames", FRAME_SETTINGS)
        self.looks: list[Look] = []
        self._decoder = GuardedDecoder()
        self._begin = time.monotonic()
        self._starting = 0.0  # seconds of a core to start the decoder's child
        self._decoding, self._frames = 0.0, 0
        self._bytes = self._weight = 0.0

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()
        self.store.index.close()

    def take_file(self, path: Path) -> float:
        """A video's file, or folder of images; bytes of its frames, 0 where none decode."""
        weight = weight_of(path)
        if len(self.looks) > 2 and time.monotonic() - self._begin > LONGEST_S:
            # As those looked at, so that it changes nothing of what they tell.
            return self._bytes / max(self._weight, 1.0) * weight
        size = self._take(path)
        self._bytes, self._weight = self._bytes + size, self._weight + weight
        return size

    def _take(self, path: Path) -> float:
        about = Decoding()
        try:
            size, _ = size_and_time(path)
            files = [[f] for f in image_sequence(path, view="frames")] if path.is_dir() else []
            if not self._frames:
                self._start(path, files)
            begin = time.process_time()
            frames = self._decoded(path, files, about, FRAMES)
            self._decoding += time.process_time() - begin
        except (DecodeError, OSError):
            return 0.0
        self._frames += len(frames)
        promised = len(files) or min(about.promised, size // LEAST_FRAME)
        whole = max(len(frames), promised) if len(frames) >= FRAMES else len(frames)
        return self._store(frames, whole)

    def _start(self, path: Path, files: list[list[Path]]) -> None:
        """Learn what starting the child takes, and start it anew for what is timed."""
        before = children_s()
        self._decoded(path, files, Decoding(), 1)
        self._decoder.close()
        self._starting = children_s() - before

    def decoding_s(self) -> float | None:
        """Seconds of a core to decode and resize a frame, of the files taken since the last call.

        None where there were none.
        """
        before = children_s()
        self._decoder.close()
        child, frames = children_s() - before, self._frames
        spent = self._decoding + max(0.0, child - self._starting)
        self._decoding, self._frames = 0.0, 0
        return max(spent, SHORTEST_S) / frames if frames else None

    def take_stored(self, store: ClipStore, entry: Entry) -> None:
        """A video that another store holds."""
        frames = store.read(entry.id, 0, min(FRAMES, entry.frames or 0))
        self._store(frames, entry.frames or 0)

    def _decoded(
        self, path: Path, files: list[list[Path]], about: Decoding, most: int
    ) -> NDArray[np.uint8]:
        """The first frames of a video."""
        reader: Reader = "images" if path.is_dir() else "pyav"
        how: dict[str, Any] = {"short_side": SHORT_SIDE, "about": about, "files": files}
        blocks = list(self._decoder.blocks(path, reader=reader, most=most, **how))
        if not blocks:
            raise DecodeError("no frame")
        return np.concatenate(blocks)

    def _store(self, frames: NDArray[np.uint8], whole: float) -> float:
        """Bytes that all of a video's frames will take, of which these are the first."""
        count, height, width = frames.shape[:3]
        codec = Codec("jpeg", quality=JPEG_QUALITY)
        codec.encode(frames[0])  # the first one loads what the others use
        begin = time.process_time()
        stored = sum(len(codec.encode(frame)) for frame in frames)
        encoding = time.process_time() - begin
        entry = _entry(f"{len(self.looks)}", count, height, width)
        begin = time.process_time()
        with self.store.write(entry.id, view="frames", codec=codec) as writer:
            for frame in frames:
                writer.append(frame)
            writer.close(described(entry))
            self.store.publish(writer, entry.id, view="frames")
        self.store.index.put(entry)
        storing = max(0.0, time.process_time() - begin - encoding)
        look = Look(count, whole, height * width, stored, storing, encoding / count)
        self.looks.append(look)
        return stored / count * whole


def children_s() -> float:
    """Processor time of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _entry(name: str, frames: int, height: int, width: int) -> Entry:
    return Entry(
        id=name,
        key=video_key(name),
        path=name,
        label=None,
        group=None,
        split1="train",
        split2=None,
        split3=None,
        frames=frames,
        height=height,
        width=width,
        fps=0.0,
        settings=fingerprint(FRAME_SETTINGS),
        source_bytes=0,
        source_mtime_ns=0,
        source_digest=name,
    )


def take_drawn(sampler: Sampler, folder: Path) -> None:
    """Videos drawn for the purpose, at 320x240."""
    draw_dataset(folder / "drawn", actions=2, groups=2, clips=1, frames=FRAMES + 1, size=(320, 240))
    for path in sorted((folder / "drawn" / "UCF-101").glob("*/*.avi")):
        sampler.take_file(path)


def sampled(found: Dataset, sampler: Sampler, *, settings: Settings) -> Data:
    """Amounts of a data set of files, from some of them as `prep` looks at them.

    Raises:
        DatasetError: none of these decodes.
    """
    paths = [found.root / video.path for video in found.videos]
    needed = estimate(paths, weight=weight_of, measure=sampler.take_file)
    looks = sampler.looks
    if not looks:
        raise DatasetError(f"{escape(found.root)}: no video of those looked at decodes")
    # What the bytes of those looked at, and so their frames, stand for.
    weighed = sum(look.bytes / look.frames * look.all_frames for look in looks)
    scale = (needed.bytes - len(paths) * OVERHEAD) / weighed
    frames = scale * sum(look.all_frames for look in looks)
    pixels = scale * sum(look.all_frames * look.pixels for look in looks) / frames
    words = [video.splits.get(settings.split) for video in found.videos]
    return Data(
        name=found.name,
        basis=f"{len(looks)} of {counted(len(paths), 'video')} looked at; flow's {BYTES_FROM}",
        videos=len(paths),
        train=words.count("train"),
        test=_tested(words, [video.label for video in found.videos]),
        labelled=found.labelled,
        frames=frames,
        weight=1.0,
        pixels=pixels,
        frame_bytes=scale * weighed / frames,
        flow_bytes=FLOW_BYTES_A_PIXEL * pixels,
        frames_left=frames,
        pairs_left=max(0.0, frames - len(paths)),
        videos_left=len(paths),
    )


def stored(path: Path, sampler: Sampler, *, settings: Settings) -> Data:
    """Amounts of a clip store, some of whose videos are taken into the sampler.

    Raises:
        StoreError: it holds no video.
    """
    store = ClipStore(path)
    entries = [entry for entry in store.entries() if entry.frames]
    if not entries:
        raise StoreError(f"{path}: holds no video; `slic prep frames` decodes some")

    def measure(entry: Entry) -> float:
        if len(sampler.looks) < STORED_LOOKS:
            with contextlib.suppress(WorkError):  # a damaged one
                sampler.take_stored(store, entry)
        return _weight_of_array(store, "frames", entry)

    held = estimate(entries, weight=_work, measure=measure)
    with_flow = [entry for entry in entries if entry.flow is not None]
    frames = sum(entry.frames or 0 for entry in entries)
    pixels = sum(map(_work, entries)) / frames
    flow = FLOW_BYTES_A_PIXEL * pixels
    if with_flow:
        of = estimate(with_flow, weight=_work, measure=lambda e: _weight_of_array(store, "flow", e))
        pairs = sum((entry.frames or 0) - 1 for entry in with_flow)
        flow = max(0.0, of.bytes - len(with_flow) * OVERHEAD) / max(pairs, 1)
    words = [entry.split(settings.split) for entry in entries]
    done = sum(entry.frames or 0 for entry in with_flow) - len(with_flow)
    return Data(
        name=store.name,
        basis="the store's index and some of its arrays",
        videos=len(entries),
        train=words.count("train"),
        test=_tested(words, [entry.label for entry in entries]),
        labelled=any(entry.label is not None for entry in entries),
        frames=frames,
        weight=1.0,
        pixels=pixels,
        frame_bytes=max(0.0, held.bytes - len(entries) * OVERHEAD) / frames,
        flow_bytes=flow,
        frames_left=0.0,
        pairs_left=float(frames - len(entries) - done),
        videos_left=0,
    )


def _tested(words: Sequence[str | None], labels: Sequence[str | None]) -> int:
    pairs = zip(words, labels, strict=True)
    return sum(word == "test" and label is not None for word, label in pairs)


def _work(entry: Entry) -> float:
    return float((entry.frames or 0) * (entry.height or 0) * (entry.width or 0))


def _weight_of_array(store: ClipStore, view: str, entry: Entry) -> float:
    folder = store.path / view / entry.key
    with contextlib.suppress(OSError):
        return float(sum(file.stat().st_size for file in folder.iterdir()))
    return 0.0
