"""`slic prep frames`: decode every video once, or take in its images, into a clip store."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, Codec, Entry
from slic.cache.clipstore import fingerprint
from slic.cache.shards import CodecName
from slic.datasets.videos import Dataset, Video
from slic.errors import InputError, StoreError
from slic.prep.frames_video import FrameJob, close_decoder, size_on_disk, store_frames, unstored
from slic.prep.source import read_source, size_and_time
from slic.prep.space import estimate, say_needed, weight_of
from slic.prep.store import (
    LayoutChoice,
    PrepResult,
    agree_on_settings,
    list_failures,
    resolve,
    sample,
)
from slic.prep.workers.executor import Executor
from slic.prep.workers.pick import executor_of
from slic.runtime.disk import disk_errors_at
from slic.runtime.progress import progress

JPEG_QUALITY = 90


def prep_frames(
    dataset: str,
    *,
    store: str | None = None,
    layout: LayoutChoice = "auto",
    short_side: int = 128,
    codec: CodecName = "jpeg",
    fps: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
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
        scheduler: address of a Dask scheduler, whose workers do it instead.
        limit: at most so many videos, a stable sample of the data set.
        overwrite: decode again what the store holds, with new parameters if they differ.
        retry: try videos again that failed before.

    Raises:
        DatasetError, StoreError: unusable input; nothing is written.
        InputError: no scheduler, or workers that do not fit.
        WorkError: the store cannot be written; what is complete stays.
    """
    with executor_of(workers, scheduler) as executor:
        found, path = resolve(dataset, store=store, layout=layout)
        if found is None:
            raise StoreError(f"{dataset}: is a store; give the data set its frames come from")
        return store_missing_frames(
            executor,
            found,
            path,
            short_side=short_side,
            codec=codec,
            fps=fps,
            limit=limit,
            overwrite=overwrite,
            retry=retry,
        )


def store_missing_frames(
    executor: Executor,
    found: Dataset,
    path: Path,
    *,
    short_side: int,
    codec: CodecName,
    fps: float | None,
    limit: int | None,
    overwrite: bool,
    retry: bool,
) -> PrepResult:
    """Decode the videos of a data set that a store lacks, as `prep_frames` does."""
    begin = time.monotonic()
    if fps is not None and not found.of_images:
        raise InputError(f"{found.root}: video files say their frame rate: leave out --fps")
    with disk_errors_at(path):
        target = ClipStore.create(path)
    settings: dict[str, Any] = {"short_side": short_side, "codec": codec}
    settings |= {"quality": JPEG_QUALITY} if codec == "jpeg" else {}
    settings |= {"fps": fps} if fps is not None else {}
    with disk_errors_at(path):
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
    if jobs:
        needed = estimate(jobs, weight=_weight, measure=size_on_disk)
        close_decoder()
        say_needed(path, needed, refuse=not overwrite)
        result.estimated_bytes = needed.bytes
    _run(target, jobs, executor, result)
    failed = {entry.id: entry for entry in target.failures()}
    result.failures += list_failures(failed[v.id] for v in videos if v.id in failed)
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


def _weight(job: FrameJob) -> float:
    return weight_of(job.root / job.video.path)


def _is_done(entry: Entry, settings: str, present: set[str], *, retry: bool) -> bool:
    """Whether an entry of an unchanged file stands for these parameters."""
    if entry.reason is not None:
        return not retry
    return entry.settings == settings and entry.key in present


def _same_source(entry: Entry, path: Path) -> int | None:
    """The time of a file or folder whose content is still the entry's, or None."""
    try:
        size, mtime_ns = size_and_time(path)
        # Rows that `cache verify` took from old arrays do not tell size and time.
        if entry.source_bytes not in (None, size):
            return None
        if mtime_ns == entry.source_mtime_ns:
            return mtime_ns
        source = read_source(path)
        return source.mtime_ns if source.digest == entry.source_digest else None
    except OSError:
        # A file that cannot be read is no reason to decode it again.
        known = entry.source_mtime_ns
        return 0 if known is None and entry.reason is None else known


def _run(store: ClipStore, jobs: list[FrameJob], executor: Executor, result: PrepResult) -> None:
    if not jobs:
        return
    with (
        progress(len(jobs), "frames", unit="frames") as advance,
        closing(executor.run(store_frames, jobs, lost=unstored)) as outcomes,
    ):
        stored = set(store.ids)
        for entry in outcomes:
            unread = entry.reason is not None and entry.source_digest is None
            if unread and entry.id in stored:
                # What cannot be read now takes nothing with it that was stored before.
                result.failures.append((entry.id, entry.reason or ""))
                result.new_failures += 1
                advance(1, 0)
                continue
            store.index.put(entry)
            if entry.reason is None:
                result.written += 1
                result.frames += entry.frames or 0
            else:
                result.new_failures += 1
                store.drop(entry.id, view="frames")
                store.drop(entry.id, view="flow")
            advance(1, entry.frames or 0)
