"""`slic prep frames`: decode every video once, or read its images, into a clip store."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, Entry
from slic.cache.entries import fingerprint
from slic.cache.shards import CodecName
from slic.datasets.videos import Dataset, Video
from slic.errors import InputError, StoreError
from slic.prep.frames_video import FrameJob, close_decoder, not_stored, preview, store_frames
from slic.prep.source import read_source, size_and_time
from slic.prep.space import estimate, say_needed, source_size
from slic.prep.store import (
    LayoutChoice,
    PrepResult,
    Scope,
    check_settings,
    codec_of,
    list_failures,
    resolve,
    sample,
)
from slic.prep.workers.executor import Executor, open_executor
from slic.prep.workers.jobs import Stage
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
        dataset: folder, csv or list of the videos.
        store: path of the store. None: `./<name>.zarr`.
        layout: how the data set is laid out.
        short_side: short side of stored frames, in pixels; smaller videos keep their size.
        codec: `jpeg` (quality 90) or lossless `zstd`.
        fps: frame rate to record for folders of images, in frames per second.
        workers: number of processes. None: one per core.
        scheduler: address of a Dask scheduler, to use its workers instead.
        limit: number of videos to process, a fixed sample of all. None: all.
        overwrite: whether to replace stored frames, with other parameters if they differ.
        retry: whether to decode again the videos that failed before.

    Raises:
        DatasetError, StoreError: the data set or the store cannot be used; nothing is written.
        InputError: impossible arguments, or a cluster that cannot be used.
        WorkError: the store cannot be written; complete videos stay.
    """
    with open_executor(workers, scheduler) as executor:
        found, path = resolve(dataset, store=store, layout=layout)
        if found is None:
            raise StoreError(f"{dataset}: is a store; give the data set its frames come from")
        settings = {"short_side": short_side, "codec": codec, "fps": fps}
        return store_missing_frames(executor, found, path, settings, Scope(limit, overwrite, retry))


def store_missing_frames(
    executor: Executor, dataset: Dataset, path: Path, settings: dict[str, Any], scope: Scope
) -> PrepResult:
    """Decode the videos of a data set that a store lacks.

    Args:
        executor: runs the jobs.
        dataset: the data set.
        path: of the store, which need not exist.
        settings: `short_side`, `codec` and `fps`, as for `prep_frames`.
        scope: which videos.
    """
    begin = time.monotonic()
    if settings["fps"] is not None and not dataset.of_images:
        raise InputError(f"{dataset.root}: video files have a frame rate of their own: omit --fps")
    quality = JPEG_QUALITY if settings["codec"] == "jpeg" else None
    ordered = {key: settings[key] for key in ("short_side", "codec")}
    ordered |= {"quality": quality, "fps": settings["fps"]}
    settings = {key: value for key, value in ordered.items() if value is not None}
    with disk_errors_at(path):
        store = ClipStore.create(path)
        check_settings(store, "frames", settings, overwrite=scope.overwrite)
        store.set_settings("frames", settings)
    videos = sample(dataset.videos, scope.limit)
    store.clear_leftovers()
    result = PrepResult(store=str(path), videos=len(videos), notes=list(dataset.notes))
    if renewed := store.index.relabel(dataset.videos):
        result.notes.append(f"label, group or split of {renewed} stored videos updated")
    if others := set(store.ids) - {v.id for v in dataset.videos}:
        result.notes.append(f"{path} also holds {len(others)} videos that are not in this data set")
    if jobs := _missing(store, dataset, videos, settings, scope):
        needed = estimate(jobs, weight=source_size, measure=lambda job: preview(job).bytes)
        close_decoder()
        say_needed(path, needed, refuse=not scope.overwrite)
        result.estimated_bytes = needed.bytes
        _run(store, jobs, executor, result)
    failed = {entry.id: entry for entry in store.failures()}
    result.failures += list_failures(failed[v.id] for v in videos if v.id in failed)
    remarks = {video: remark for video, remark in store.index.rows("id", "remark") if remark}
    result.damaged = [(v.id, remarks[v.id]) for v in videos if v.id in remarks]
    return result.finished(begin)


def _missing(
    store: ClipStore, dataset: Dataset, videos: list[Video], settings: dict[str, Any], scope: Scope
) -> list[FrameJob]:
    entries = {entry.id: entry for entry in store.index.entries()}
    present = store.keys("frames")
    digest = fingerprint(settings)
    codec, side, fps = codec_of(settings), settings["short_side"], settings.get("fps")
    jobs, touched = [], {}
    for video in videos:
        entry = entries.get(video.id)
        mtime_ns = _unchanged_since(entry, dataset.root / video.path) if entry else None
        if entry and mtime_ns is not None and mtime_ns != entry.source_mtime_ns:
            touched[video.id] = mtime_ns
        done = entry and mtime_ns is not None and _is_done(entry, digest, present, scope.retry)
        if scope.overwrite or not done:
            jobs.append(FrameJob(store.path, dataset.root, video, side, codec, digest, fps))
    store.index.set_mtimes(touched)
    return jobs


def _is_done(entry: Entry, digest: str, present: set[str], retry: bool) -> bool:
    """Return whether the entry of an unchanged source has frames of these parameters."""
    if entry.reason is not None:
        return not retry
    return entry.settings == digest and entry.key in present


def _unchanged_since(entry: Entry, path: Path) -> int | None:
    """Return the time of change of a source with the entry's content; None for another content."""
    try:
        size, mtime_ns = size_and_time(path)
        # Rows that `cache verify` restored from old arrays lack size and time.
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
    stored = set(store.ids)
    with (
        progress(len(jobs), "frames", unit="frames") as advance,
        closing(executor.run(Stage(store_frames, jobs, not_stored))) as entries,
    ):
        for entry in entries:
            if entry.reason is None:
                result.written += 1
                result.frames += entry.frames or 0
            else:
                result.new_failures += 1
            if entry.reason is not None and entry.source_digest is None and entry.id in stored:
                # A source that cannot be read now is no reason to lose what was stored from it.
                result.failures.append((entry.id, entry.reason))
            else:
                store.index.put(entry)
                if entry.reason is not None:
                    store.drop(entry.id, view="frames")
                    store.drop(entry.id, view="flow")
            advance(1, entry.frames or 0)
