"""`slic prep flow`: compute or import optical flow for the frames of a clip store."""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from slic.cache import ClipStore, Entry
from slic.cache.shards import CodecName
from slic.datasets.videos import Dataset
from slic.errors import InputError
from slic.prep.flow_compute import ComputedFlow
from slic.prep.flow_import import ImportedFlow, flow_folders
from slic.prep.flow_video import FlowResult
from slic.prep.frames import store_missing_frames
from slic.prep.frames_video import close_decoder
from slic.prep.space import estimate, say_needed
from slic.prep.store import (
    IMPORTED,
    LayoutChoice,
    PrepResult,
    Scope,
    check_settings,
    entries_of,
    frame_settings,
    is_store,
    list_failures,
    resolve,
    sample,
)
from slic.prep.tvl1 import Engine, Tvl1Parameters
from slic.prep.workers.executor import Executor, open_executor
from slic.runtime.disk import disk_errors_at
from slic.runtime.progress import progress

FlowSource = ComputedFlow | ImportedFlow


def prep_flow(
    dataset: str,
    *,
    store: str | None = None,
    layout: LayoutChoice = "auto",
    engine: Engine | Literal["imported"] = "auto",
    device: str | None = None,
    parameters: dict[str, Any] | None = None,
    bound: float | None = None,
    short_side: int | None = None,
    codec: CodecName | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    retry: bool = False,
) -> PrepResult:
    """Compute or import the flow that a store lacks, after storing frames that it lacks.

    Args:
        dataset: folder, csv or list of the videos, or the store.
        store: path of the store. None: `./<name>.zarr`.
        layout: how the data set is laid out.
        engine: engine of TV-L1, see `slic.prep.tvl1.resolve_engine`; all compute the same up to
            rounding. "imported" reads the flow images of the data set instead.
        device: where the engine runs. "cuda" uses all visible GPUs, one process each.
        parameters: parameters of TV-L1 that differ from their defaults.
        bound: largest flow that can be stored, in pixels per frame; larger flow is clipped.
            None: a twelfth of the short side. For flow images: what level 255 means.
        short_side: short side of frames that are still missing, in pixels. None: the store's.
        codec: codec of frames that are still missing. None: the store's.
        workers: number of processes; on a device, of threads that read and write. None: by cores.
        scheduler: address of a Dask scheduler, to use its workers instead.
        limit: number of videos to process, a fixed sample of all. None: all.
        overwrite: whether to replace stored flow, with other parameters if they differ.
        retry: whether to decode again the videos whose frames failed before.

    Raises:
        DatasetError, StoreError: the data set or the store cannot be used.
        InputError: impossible arguments, or a cluster that cannot be used.
        WorkError: the store cannot be written; complete videos stay.
    """
    if bound is not None:
        bound = float(bound)
        if not (math.isfinite(bound) and bound > 0):
            raise InputError(f"--bound {bound:g}: must be above 0 pixels per frame")
    scope = Scope(limit, overwrite, retry)
    with open_executor(workers, scheduler) as executor:
        source: FlowSource
        if engine == IMPORTED:
            if parameters or device not in (None, "auto", "cpu"):
                raise InputError("--param and --device do not apply to imported flow: omit them")
            found, path = resolve(dataset, store=store, layout=layout)
            source = _imported(found, path, bound)
        else:
            tvl1 = Tvl1Parameters.named(**(parameters or {}))
            source = ComputedFlow(*executor.engine(engine, device), tvl1, bound)
            found, path = resolve(dataset, store=store, layout=layout)
        if found is None and (retry or short_side is not None):
            option = "--retry" if retry else "--short-side"
            raise InputError(f"{path}: is a store: {option} needs the data set it was made from")
        frames = frame_settings(path, short_side=short_side, codec=codec)
        return _store_missing_flow(executor, found, path, source, frames, scope)


def _imported(dataset: Dataset | None, path: Path, bound: float | None) -> ImportedFlow:
    if bound is None:
        raise InputError(
            "--engine imported: give with --bound what level 255 of the images means, in pixels"
            " (20 for most tools)"
        )
    if dataset is None:
        raise InputError(f"{path}: is a store: --engine imported needs the data set of images")
    flow_folders(dataset)  # refused before frames are stored
    return ImportedFlow(dataset, bound)


def _store_missing_flow(
    executor: Executor,
    dataset: Dataset | None,
    path: Path,
    source: FlowSource,
    frames: dict[str, Any],
    scope: Scope,
) -> PrepResult:
    """Store missing frames, if the data set is given, and then missing flow."""
    begin = time.monotonic()
    if is_store(path):  # other parameters are refused before any frames are decoded
        present = ClipStore(path)
        check_settings(present, "flow", source.settings(present), overwrite=scope.overwrite)
    result = PrepResult(store=str(path))
    if dataset is not None:
        missing = replace(scope, overwrite=False)
        first = store_missing_frames(executor, dataset, path, frames, missing)
        result.notes, result.new_failures = first.notes, first.new_failures
        result.estimated_bytes = first.estimated_bytes
    store = ClipStore(path, writable=True)
    store.clear_leftovers()
    entries = sample(entries_of(store, dataset), scope.limit)
    result.videos, result.failures = len(entries), list_failures(entries)
    settings = source.settings(store)
    with disk_errors_at(path):
        # In this order, a run that is stopped leaves no flow of other parameters behind.
        store.index.forget_flow(source.outdated(store, settings))
        store.set_settings("flow", settings)
    jobs = _missing(store, entries, source, overwrite=scope.overwrite)
    if jobs:
        needed = estimate(jobs, weight=lambda job: job.work, measure=source.size_on_disk)
        close_decoder()
        say_needed(path, needed, refuse=not scope.overwrite)
        result.estimated_bytes += needed.bytes
        _run(store, jobs, source, executor, result)
    return result.finished(begin)


def _missing(
    store: ClipStore, entries: Sequence[Entry], source: FlowSource, *, overwrite: bool
) -> list[Any]:
    present = store.keys("flow")
    jobs: list[Any] = [*source.jobs(store, [e for e in entries if e.reason is None])]
    if overwrite:
        return jobs
    return [job for job in jobs if job.entry.key not in present or not source.is_stored(job)]


def _run(
    store: ClipStore, jobs: list[Any], source: FlowSource, executor: Executor, result: PrepResult
) -> None:
    # The longest first, so that none is left alone at the end.
    jobs.sort(key=lambda job: job.work, reverse=True)
    pairs = sum(job.pairs for job in jobs)
    with progress(len(jobs), f"flow ({source.engine})", unit="pairs", units=pairs) as advance:

        def on_units(count: int) -> None:
            result.frames += count
            advance(0, count)

        with closing(source.run(jobs, executor, on_units=on_units, notes=result.notes)) as results:
            for done in results:
                _enter(store, done, result)
                advance(1, 0)


def _enter(store: ClipStore, done: FlowResult, result: PrepResult) -> None:
    """Enter one video's result in the index, and count it."""
    video, reason = done.entry.id, done.reason
    if done.fingerprint is not None and not store.index.set_flow(done.entry, done.fingerprint):
        store.drop(video, view="flow")
        reason = "its frames were replaced meanwhile: run the same command again"
    if reason is None:
        result.written += 1
    else:
        result.failures.append((video, reason))
        result.new_failures += 1
