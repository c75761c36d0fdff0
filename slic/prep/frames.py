"""`slic prep frames`: decode every video once, or take in its images, into a clip store."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, Codec, Entry, video_key
from slic.cache.clipstore import fingerprint
from slic.cache.shards import CodecName
from slic.decode import Decoding, GuardedDecoder, Reader, available_readers
from slic.errors import DecodeError, InputError, StoreError, WorkError
from slic.images import image_sequence
from slic.prep.source import Source, read_source, size_and_time
from slic.prep.store import (
    LayoutChoice,
    PrepResult,
    agree_on_settings,
    list_failures,
    resolve,
    sample,
)
from slic.processes import default_workers, run_jobs
from slic.progress import progress
from slic.videos import Dataset, Video

JPEG_QUALITY = 90


@dataclass(frozen=True)
class FrameJob:
    """One video to decode; `fps` is what to record of images, which do not say."""

    root: Path
    store: Path
    video: Video
    short_side: int
    codec: Codec
    settings: str
    fps: float | None = None


def prep_frames(
    dataset: str,
    *,
    store: str | None = None,
    layout: LayoutChoice = "auto",
    short_side: int = 128,
    codec: CodecName = "jpeg",
    fps: float | None = None,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    retry: bool = False,
) -> PrepResult:
    """Decode the videos of a data set that its store lacks.

    Args:
        dataset: folder, csv or list.
        store: path of the store; `./<name>.zarr` if None.
        layout: how the folder is to be read.
        short_side: pixels; smaller videos keep their size.
        codec: `jpeg` (quality 90) or lossless `zstd`.
        fps: frames a second to record of folders of images.
        workers: processes; all cores if None.
        limit: at most so many videos, a stable sample of the data set.
        overwrite: decode again what the store holds, with new parameters if they differ.
        retry: try videos again that failed before.

    Raises:
        DatasetError, StoreError: unusable input; nothing is written.
        WorkError: the store cannot be written; what is complete stays.
    """
    begin = time.monotonic()
    found, path = resolve(dataset, store=store, layout=layout)
    if found is None:
        raise StoreError(f"{dataset}: is a store; give the data set its frames come from")
    if fps is not None and not found.of_images:
        raise InputError(f"{dataset}: video files say their frame rate: leave out --fps")
    target = ClipStore.create(path)
    settings: dict[str, Any] = {"short_side": short_side, "codec": codec}
    settings |= {"quality": JPEG_QUALITY} if codec == "jpeg" else {}
    settings |= {"fps": fps} if fps is not None else {}
    agree_on_settings(target, "frames", settings, overwrite=overwrite)
    videos = sample(found.videos, limit)
    target.clear_leftovers()
    renewed = target.index.relabel(found.videos)
    result = PrepResult(store=str(path), videos=len(videos), notes=list(found.notes))
    if renewed:
        result.notes.append(f"label, group or split renewed of {renewed} stored videos")
    others = set(target.ids) - {v.id for v in found.videos}
    if others:
        result.notes.append(f"{path} also holds {len(others)} videos that are not in this data set")
    jobs = _missing(target, found, videos, settings, overwrite=overwrite, retry=retry)
    _run(target, jobs, workers or default_workers(), result)
    failed = {entry.id: entry for entry in target.failures()}
    result.failures = list_failures(failed[v.id] for v in videos if v.id in failed)
    remarks = {video: remark for video, remark in target.index.rows("id", "remark") if remark}
    result.damaged = [(v.id, remarks[v.id]) for v in videos if v.id in remarks]
    return result.finished(begin)


def _missing(
    store: ClipStore,
    dataset: Dataset,
    videos: list[Video],
    settings: dict[str, Any],
    *,
    overwrite: bool,
    retry: bool,
) -> list[FrameJob]:
    entries = {entry.id: entry for entry in store.index.entries()}
    present = store.keys("frames")
    digest = fingerprint(settings)
    codec = Codec(settings["codec"], quality=settings.get("quality", 0))
    jobs, touched = [], {}
    for video in videos:
        entry = entries.get(video.id)
        mtime_ns = _same_source(entry, dataset.root / video.path) if entry else None
        if entry and mtime_ns is not None and mtime_ns != entry.source_mtime_ns:
            touched[video.id] = mtime_ns
        done = entry and mtime_ns is not None and _is_done(entry, digest, present, retry=retry)
        if overwrite or not done:
            side, fps = settings["short_side"], settings.get("fps")
            jobs.append(FrameJob(dataset.root, store.path, video, side, codec, digest, fps))
    store.index.set_mtimes(touched)
    return jobs


def _is_done(entry: Entry, settings: str, present: set[str], *, retry: bool) -> bool:
    """Whether an entry of an unchanged file stands for these parameters."""
    if entry.reason is not None:
        return not retry
    return entry.settings == settings and entry.key in present


def _same_source(entry: Entry, path: Path) -> int | None:
    """The time of a file or folder whose content is still the entry's, or None."""
    try:
        size, mtime_ns = size_and_time(path)
        if size != entry.source_bytes:
            return None
        if mtime_ns == entry.source_mtime_ns:
            return mtime_ns
        source = read_source(path)
        return source.mtime_ns if source.digest == entry.source_digest else None
    except OSError:
        # A file that cannot be read is no reason to decode it again.
        return entry.source_mtime_ns


def _run(store: ClipStore, jobs: list[FrameJob], workers: int, result: PrepResult) -> None:
    if not jobs:
        return
    with progress(len(jobs), "frames", unit="frames") as advance:
        for entry in run_jobs(store_frames, jobs, workers=min(workers, len(jobs))):
            store.index.put(entry)
            if entry.reason is None:
                result.written += 1
                result.frames += entry.frames or 0
            else:
                result.new_failures += 1
                store.drop(entry.id, view="frames")
                store.drop(entry.id, view="flow")
            advance(1, entry.frames or 0)


_decoder: GuardedDecoder | None = None


def worker_decoder() -> GuardedDecoder:
    """The decoder of this worker process: starting its child costs more than a short video."""
    global _decoder
    if _decoder is None:
        _decoder = GuardedDecoder()
    return _decoder


def store_frames(job: FrameJob) -> Entry:
    """Decode one video and move it into the store; its index row, not yet entered."""
    video = job.video
    entry = Entry(
        id=video.id,
        key=video_key(video.id),
        path=video.path,
        label=video.label,
        group=video.group,
        split1=video.splits.get(1),
        split2=video.splits.get(2),
        split3=video.splits.get(3),
    )
    path = job.root / video.path
    try:
        source = read_source(path)
    except OSError as error:
        return replace(entry, reason=f"cannot be read: {error.strerror}")
    entry = replace(
        entry,
        source_bytes=source.size,
        source_mtime_ns=source.mtime_ns,
        source_digest=source.digest,
    )
    try:
        attempts = _attempts(path, source)
    except DecodeError as error:
        return replace(entry, reason=str(error))
    except OSError as error:
        return replace(entry, reason=f"cannot be read: {error.strerror}")
    reasons = []
    for reader, files in attempts:
        about = Decoding()
        blocks = worker_decoder().blocks(
            path, reader=reader, short_side=job.short_side, about=about, files=files
        )
        try:
            return _write(job, entry, blocks, about)
        except DecodeError as error:
            reasons.append(str(error))
    return replace(entry, reason="; ".join(reasons))


def _attempts(path: Path, source: Source) -> list[tuple[Reader, list[list[Path]]]]:
    """Readers to try with the files they need.

    Raises:
        DecodeError: there is nothing to read.
    """
    if path.is_dir():
        return [("images", [[image] for image in image_sequence(path, view="frames")])]
    if not source.size:
        raise DecodeError("the file is empty")
    return [(reader, []) for reader in available_readers()]


def _write(job: FrameJob, entry: Entry, blocks: Iterator, about: Decoding) -> Entry:
    store = ClipStore(job.store, writable=True)
    try:
        with store.write(entry.id, view="frames", codec=job.codec) as writer:
            for block in blocks:
                for frame in block:
                    writer.append(frame)
                height, width = block.shape[1:3]
            fps = job.fps if (job.root / entry.path).is_dir() else about.fps
            attributes = {"id": entry.id, "fps": fps, "source": entry.source_digest}
            writer.close(attributes)
            # Flow of other frames must not stand beside these.
            store.drop(entry.id, view="flow")
            store.publish(writer, entry.id, view="frames")
    except OSError as error:
        raise WorkError(
            f"{job.store}: cannot write {entry.id}: {error.strerror}; what is complete stays"
        ) from error
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
