"""Frames of one video: read, decoded in a guarded child, and moved into the store."""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from slic.cache import ClipStore, Codec, Entry, video_key
from slic.cache.array_attributes import described
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
from slic.prep.workers.claims import check_claim
from slic.runtime.disk import to_disk_error

READINGS = 2  # of a file that changes meanwhile
FRAMES = 32  # of a video, by which its size in the store is told
LEAST_FRAME = 8  # bytes of a coded frame


@dataclass(frozen=True)
class FrameJob:
    """One video to decode.

    `fps` is what to record of images, which do not say; `segment` the part to store, if not all;
    `claim` what must stand for it to be published, if it is done on a cluster.
    """

    root: Path
    store: Path
    video: Video
    short_side: int
    codec: Codec
    settings: str
    fps: float | None = None
    segment: Segment | None = None
    claim: Path | None = None

    @property
    def id(self) -> str:
        """Of the video."""
        return self.video.id


_thread = threading.local()  # a worker of a cluster may decode in several threads


def worker_decoder() -> GuardedDecoder:
    """The decoder of this worker's thread: starting its child costs more than a short video."""
    if not hasattr(_thread, "decoder"):
        _thread.decoder = GuardedDecoder()
    decoder: GuardedDecoder = _thread.decoder
    return decoder


def close_decoder() -> None:
    """End its child."""
    if hasattr(_thread, "decoder"):
        _thread.decoder.close()
        del _thread.decoder


def store_frames(job: FrameJob) -> Entry:
    """Decode one video and move it into the store; its index row, not yet entered.

    Raises:
        DiskError: the store cannot be written, or the data set has gone.
    """
    for _ in range(READINGS):
        with contextlib.suppress(SourceChanged):
            return _store_frames(job)
    return unstored(job, "changed each time while it was read")


def unstored(job: FrameJob, reason: str) -> Entry:
    """The row of a video that is not stored, which the next run tries again: it tells no source."""
    return replace(_blank(job.video), reason=reason)


def _blank(video: Video) -> Entry:
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
    path, entry = job.root / job.video.path, _blank(job.video)
    try:
        before = stamp(path)
        source = read_source(path)
    except OSError as error:
        return replace(entry, reason=_unread(job, error))
    entry = replace(
        entry,
        source_bytes=source.size,
        source_mtime_ns=source.mtime_ns,
        source_digest=source.digest,
    )
    try:
        reader, files = _reader(path, source.size)
    except DecodeError as error:
        return replace(entry, reason=str(error))
    except OSError as error:
        return replace(_blank(job.video), reason=_unread(job, error))
    about = Decoding()
    blocks = worker_decoder().blocks(
        path, reader=reader, short_side=job.short_side, about=about, files=files
    )
    if job.segment is not None:
        blocks = _cut(blocks, job.segment, about)
    try:
        return _write(job, entry, blocks, about, before)
    except DecodeError as error:
        check_unchanged(path, before)
        return replace(entry, reason=str(error))


def _unread(job: FrameJob, error: OSError) -> str:
    """Why a video cannot be read, unless none can.

    Raises:
        DiskError: the data set has gone, or this process may open no more files.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise to_disk_error(job.root / job.video.path, error)
    with contextlib.suppress(PermissionError):
        if not job.root.is_dir() or not any(job.root.iterdir()):  # what was mounted there is not
            raise to_disk_error(
                job.root, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            )
    return f"cannot be read: {error.strerror}"


def _reader(path: Path, size: int) -> tuple[Reader, list[list[Path]]]:
    """What reads a source of that many bytes, with the files it needs.

    Raises:
        DecodeError: there is nothing to read.
    """
    if path.is_dir():
        return "images", [[image] for image in image_sequence(path, view="frames")]
    if not size:
        raise DecodeError("the file is empty")
    return "pyav", []


def _cut(blocks: Iterator, segment: Segment, about: Decoding) -> Iterator:
    """The part of the blocks that lies in a segment; what comes after is not decoded.

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


def _write(job: FrameJob, entry: Entry, blocks: Iterator, about: Decoding, before: Stamp) -> Entry:
    store = ClipStore(job.store, writable=True)
    try:
        with store.write(entry.id, view="frames", codec=job.codec) as writer:
            for block in blocks:
                for frame in block:
                    writer.append(frame)
                height, width = block.shape[1:3]
            fps = job.fps if (job.root / entry.path).is_dir() else about.fps
            told = replace(entry, fps=fps, settings=job.settings, remark=about.remark)
            writer.close(described(told))
            check_unchanged(job.root / entry.path, before)
            check_claim(job.claim)
            # Flow of other frames must not stand beside these.
            store.drop(entry.id, view="flow")
            store.publish(writer, entry.id, view="frames")
    except OSError as error:
        raise to_disk_error(f"{job.store}: {entry.id}", error) from error
    finally:
        store.index.close()
    return replace(
        entry,
        frames=writer.count,
        height=height,
        width=width,
        fps=fps,
        settings=job.settings,
        remark=about.remark,
    )


def size_on_disk(job: FrameJob) -> float:
    """Bytes that a video's frames will take, from its first ones; 0 where none decode."""
    path, about = job.root / job.video.path, Decoding()
    counted = stored = 0
    try:
        size, _ = size_and_time(path)
        reader, files = _reader(path, size)
        for block in worker_decoder().blocks(
            path, reader=reader, short_side=job.short_side, about=about, files=files, most=FRAMES
        ):
            stored += sum(len(job.codec.encode(frame)) for frame in block)
            counted += len(block)
    except (DecodeError, OSError):
        return 0.0
    if counted < FRAMES:
        return float(stored)
    # A header may promise anything; but a frame takes some bytes.
    frames = len(files) or min(about.promised, size // LEAST_FRAME)
    return stored / counted * max(frames, counted)
