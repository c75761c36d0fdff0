"""Decode one video in a guarded child process, and move its frames into the store."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, Entry, video_key
from slic.cache.entries import array_attributes
from slic.datasets.images import image_sequence
from slic.datasets.segments import Segment, ends_before, known_fps
from slic.datasets.videos import Video
from slic.decode.guarded import Decoding, GuardedDecoder, Reader
from slic.errors import DecodeError
from slic.prep.source import (
    SourceChanged,
    Stamp,
    check_unchanged,
    read_source,
    size_and_time,
    stamp,
)
from slic.prep.workers.jobs import Job, check_claim
from slic.runtime.disk import to_disk_error

ATTEMPTS = 2  # to read a file that changes meanwhile
FRAMES = 32  # decoded to estimate the size of a video in the store
LEAST_FRAME = 8  # bytes that a coded frame takes at least

Block = NDArray[np.uint8]  # (n, H, W, 3)


@dataclass(frozen=True)
class FrameJob(Job):
    """A video to decode.

    Attributes:
        root: of the data set.
        video: the video.
        short_side: of the stored frames, in pixels.
        codec: how frames are coded.
        settings: fingerprint of the parameters, for the index.
        fps: frame rate to record for a folder of images.
        segment: the part to store. None: all.
    """

    root: Path
    video: Video
    short_side: int
    codec: Codec
    settings: str
    fps: float | None = None
    segment: Segment | None = None

    @property
    def id(self) -> str:
        """The video's id."""
        return self.video.id

    @property
    def path(self) -> Path:
        """The video file, or the folder of images."""
        return self.root / self.video.path


_thread = threading.local()  # threads of a Dask worker each have a decoder


def worker_decoder() -> GuardedDecoder:
    """Return this thread's decoder, which stays: starting one takes longer than a short video."""
    if not hasattr(_thread, "decoder"):
        _thread.decoder = GuardedDecoder()
    decoder: GuardedDecoder = _thread.decoder
    return decoder


def close_decoder() -> None:
    """End this thread's decoder."""
    if hasattr(_thread, "decoder"):
        _thread.decoder.close()
        del _thread.decoder


def store_frames(job: FrameJob) -> Entry:
    """Decode one video, move it into the store, and return its row for the index.

    Raises:
        DiskError: the store cannot be written, or the data set is gone.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(SourceChanged):
            return _store_frames(job)
    return not_stored(job, "changed each time while it was read")


def not_stored(job: FrameJob, reason: str) -> Entry:
    """Return the row of a video that could not be read; without a source, it is tried again."""
    return replace(_new_entry(job.video), reason=reason)


def _new_entry(video: Video) -> Entry:
    return Entry(
        id=video.id,
        key=video_key(video.id),
        path=video.path,
        label=video.label,
        group=video.group,
        split1=video.splits.get(1),
        split2=video.splits.get(2),
        split3=video.splits.get(3),
    )


def _store_frames(job: FrameJob) -> Entry:
    about = Decoding()
    try:
        before = stamp(job.path)
        source = read_source(job.path)
        entry = replace(
            _new_entry(job.video),
            source_bytes=source.size,
            source_mtime_ns=source.mtime_ns,
            source_digest=source.digest,
        )
        blocks = _blocks(job, source.size, about)
    except DecodeError as error:
        return replace(entry, reason=str(error))
    except OSError as error:
        return not_stored(job, _why_unreadable(job, error))
    if job.segment is not None:
        blocks = _cut(blocks, job.segment, about)
    try:
        return _write(job, entry, blocks, about, before)
    except DecodeError as error:
        check_unchanged(job.path, before)
        return replace(entry, reason=str(error))


def _why_unreadable(job: FrameJob, error: OSError) -> str:
    """Return why a video cannot be read.

    Raises:
        DiskError: no video can be: the data set is gone, or too many files are open.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise to_disk_error(job.path, error)
    with contextlib.suppress(PermissionError):
        if not job.root.is_dir() or not any(job.root.iterdir()):  # perhaps it is not mounted
            raise to_disk_error(
                job.root, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            )
    return f"cannot be read: {error.strerror}"


def _blocks(
    job: FrameJob, size: int, about: Decoding, *, most: int | None = None
) -> Iterator[Block]:
    """Return the decoded frames of a source of `size` bytes.

    Raises:
        DecodeError: there is nothing to read; further ones come while reading.
        OSError: a folder cannot be read.
    """
    reader: Reader = "pyav"
    files: list[list[Path]] = []
    if job.path.is_dir():
        reader = "images"
        files = [[image] for image in image_sequence(job.path, view="frames")]
    elif not size:
        raise DecodeError("the file is empty")
    return worker_decoder().blocks(
        job.path, reader=reader, short_side=job.short_side, about=about, files=files, most=most
    )


def _cut(blocks: Iterator[Block], segment: Segment, about: Decoding) -> Iterator[Block]:
    """Yield the frames of a segment; what comes after it is not decoded.

    Raises:
        DecodeError: the video ends before the segment begins.
    """
    position = 0
    for block in blocks:
        first, count = segment.frames(known_fps(about.fps))
        end = position + len(block) if count is None else first + count
        part = block[max(0, first - position) : max(0, end - position)]
        position += len(block)
        if len(part):
            yield part
        if position >= end and count is not None:
            return
    if position <= first:
        raise DecodeError(ends_before(segment, position, about.fps))


def _write(
    job: FrameJob, entry: Entry, blocks: Iterator[Block], about: Decoding, before: Stamp
) -> Entry:
    """Write frames, move them into the store if the source is unchanged, and complete the row."""
    store = ClipStore(job.store, writable=True)
    try:
        with store.write(entry.id, view="frames", codec=job.codec) as writer:
            for block in blocks:
                for frame in block:
                    writer.append(frame)
                height, width = block.shape[1:3]
            fps = job.fps if job.path.is_dir() else about.fps
            entry = replace(entry, fps=fps, settings=job.settings, remark=about.remark)
            writer.close(array_attributes(entry))
            check_unchanged(job.path, before)
            check_claim(job.claim)
            # Flow of the former frames must not be read beside the new ones.
            store.drop(entry.id, view="flow")
            store.publish(writer, entry.id, view="frames")
    except OSError as error:
        raise to_disk_error(f"{job.store}: {entry.id}", error) from error
    finally:
        store.index.close()
    return replace(entry, frames=writer.count, height=height, width=width)


@dataclass(frozen=True)
class Preview:
    """Estimates for a video from its first frames; all 0 if none can be decoded.

    Attributes:
        decoded: number of frames decoded for the preview.
        seconds: time to decode and resize them.
        frames: frames of the whole video, as its header says.
        pixels: pixels of a stored frame.
        bytes: bytes that all frames will take in the store.
    """

    decoded: int = 0
    seconds: float = 0.0
    frames: int = 0
    pixels: int = 0
    bytes: float = 0.0


def preview(job: FrameJob) -> Preview:
    """Decode the first frames of a video and estimate the size of the whole."""
    about, begin = Decoding(), time.perf_counter()
    try:
        size, _ = size_and_time(job.path)
        decoded = [frame for block in _blocks(job, size, about, most=FRAMES) for frame in block]
    except (DecodeError, OSError):
        return Preview()
    seconds, count = time.perf_counter() - begin, len(decoded)
    frames = count
    if count >= FRAMES:
        # A header may promise any number of frames, but each takes some bytes.
        promised = about.promised if job.path.is_dir() else min(about.promised, size // LEAST_FRAME)
        frames = max(count, promised)
    stored = sum(len(job.codec.encode(frame)) for frame in decoded)
    pixels = decoded[0].shape[0] * decoded[0].shape[1]
    return Preview(count, seconds, frames, pixels, stored / count * frames)
