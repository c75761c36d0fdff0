"""`slic prep flow`: TV-L1 optical flow of the stored frames, beside them, or imported flow."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from slic.cache import ClipStore, Codec, Entry
from slic.cache.flow_settings import DEFAULT_BOUND, flow_fingerprint
from slic.cache.shards import CodecName
from slic.datasets.videos import Dataset
from slic.errors import InputError
from slic.prep.flow_import import import_flow
from slic.prep.flow_video import (
    FlowDone,
    FlowJob,
    enter_flow,
    size_on_disk,
    store_flow_here,
    unsolved,
    work,
)
from slic.prep.frames import store_missing_frames
from slic.prep.space import estimate, say_needed
from slic.prep.store import (
    IMPORTED,
    LayoutChoice,
    PrepResult,
    agree_on_settings,
    entries_of,
    flow_codec,
    frame_parameters,
    is_store,
    list_failures,
    resolve,
    sample,
)
from slic.prep.tvl1 import ON_DEVICES, Engine, Tvl1Parameters, engine_version
from slic.prep.workers.executor import Executor
from slic.prep.workers.local import LocalProcesses
from slic.prep.workers.pick import executor_of
from slic.runtime.disk import disk_errors_at
from slic.runtime.progress import progress


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
    """Compute or import the flow that a store lacks; of a data set, missing frames first.

    Args:
        dataset: folder, csv, or store.
        store: path of the store; `./<name>.zarr` if None.
        layout: how a folder is to be read.
        engine, device: which TV-L1 to use, as in `slic.prep.tvl1.resolve_engine`; it does not
            change what is computed. "cuda" takes all GPUs that are visible, one process each.
            "imported" computes nothing and takes the flow images of the data set.
        parameters: of TV-L1 that are not to be its defaults.
        bound: flow at which the stored values saturate, pixels a frame; a twelfth of the
            short side if None. Of flow images, what level 255 stands for.
        short_side, codec: for frames that are still missing; as the store has them if None.
        workers: processes, as many as cores if None; on a device, threads that read and write.
        scheduler: address of a Dask scheduler, whose workers do it instead.
        limit: at most so many videos, a stable sample.
        overwrite: compute again what the store holds, with new parameters if they differ.
        retry: try frames again that failed before.

    Raises:
        DatasetError, StoreError: unusable input.
        InputError: no scheduler, or workers that do not fit.
        WorkError: the store cannot be written; what is complete stays.
    """
    if bound is not None and not (np.isfinite(bound) and bound > 0):
        raise InputError(f"--bound {bound}: must be above 0 pixels a frame")
    wanted: dict[str, Any] = {"bound": bound, "short_side": short_side, "codec": codec}
    wanted |= {"limit": limit, "overwrite": overwrite, "retry": retry}
    with executor_of(workers, scheduler) as executor:
        if engine == IMPORTED:
            if parameters or device not in (None, "auto", "cpu"):
                raise InputError(
                    "--param and --device have no part in imported flow: leave them out"
                )
            found, path = resolve(dataset, store=store, layout=layout)
            return import_flow(executor, found, path, **wanted)
        tvl1 = Tvl1Parameters.named(**(parameters or {}))
        solver = executor.engine(engine, device)
        found, path = resolve(dataset, store=store, layout=layout)
        return _compute_flow(executor, found, path, tvl1=tvl1, solver=solver, **wanted)


def _compute_flow(
    executor: Executor,
    found: Dataset | None,
    path: Path,
    *,
    tvl1: Tvl1Parameters,
    solver: tuple[str, str],
    bound: float | None,
    short_side: int | None,
    codec: CodecName | None,
    limit: int | None,
    overwrite: bool,
    retry: bool,
) -> PrepResult:
    """Compute the flow that a store lacks, as `prep_flow` does, by an engine on a device."""
    begin = time.monotonic()
    if found is None and (retry or short_side is not None):
        option = "--retry" if retry else "--short-side"
        raise InputError(f"{path}: is a store: {option} needs the data set it was made from")
    if is_store(path):  # before any frames are decoded
        present = ClipStore(path)
        settings = _settings(present, bound, tvl1)
        agree_on_settings(present, "flow", settings, overwrite=overwrite, record=False)
    result = PrepResult(store=str(path))
    if found is not None:
        first = store_missing_frames(
            executor,
            found,
            path,
            limit=limit,
            overwrite=False,
            retry=retry,
            **frame_parameters(path, short_side=short_side, codec=codec),
        )
        result.notes, result.new_failures = first.notes, first.new_failures
        result.estimated_bytes = first.estimated_bytes
    target = ClipStore(path, writable=True)
    target.clear_leftovers()
    chosen = sample(entries_of(target, found), limit)
    settings = _settings(target, bound, tvl1)
    with disk_errors_at(path):
        agree_on_settings(target, "flow", settings, overwrite=overwrite)
    _forget_outdated(target, settings)
    result.videos, result.failures = len(chosen), list_failures(chosen)
    engine, device = solver
    jobs = _missing(target, chosen, settings, engine, overwrite=overwrite)
    if jobs:
        needed = estimate(jobs, weight=work, measure=size_on_disk)
        say_needed(path, needed, refuse=not overwrite)
        result.estimated_bytes += needed.bytes
    _run(target, jobs, device, executor, result)
    return result.finished(begin)


def _settings(store: ClipStore, bound: float | None, tvl1: Tvl1Parameters) -> dict[str, Any]:
    return {
        "method": "tvl1",
        **asdict(tvl1),
        "bound": DEFAULT_BOUND if bound is None else float(bound),
        **flow_codec(store),
    }


def _forget_outdated(store: ClipStore, settings: dict[str, Any]) -> None:
    """Flow by other parameters counts no more, so that a stopped run leaves no mixture."""
    entries = [entry for entry in store.index.entries() if entry.flow is not None]
    store.index.forget_flow(e.id for e in entries if e.flow != flow_fingerprint(e, settings))


def _missing(
    store: ClipStore,
    entries: list[Entry],
    settings: dict[str, Any],
    engine: str,
    *,
    overwrite: bool,
) -> list[FlowJob]:
    present = store.keys("flow")
    codec = Codec(settings["codec"], quality=settings.get("quality", 0))
    bound = settings["bound"] if isinstance(settings["bound"], float) else None
    parameters = Tvl1Parameters(**{name: settings[name] for name in asdict(Tvl1Parameters())})
    jobs = []
    for entry in entries:
        digest = flow_fingerprint(entry, settings)
        done = entry.flow == digest and entry.key in present
        if entry.reason is None and (overwrite or not done):
            jobs.append(FlowJob(store.path, entry, engine, bound, codec, parameters, digest))
    return jobs


def _run(
    store: ClipStore,
    jobs: list[FlowJob],
    device: str,
    executor: Executor,
    result: PrepResult,
) -> None:
    if not jobs:
        return
    # The longest first, so that none is left alone at the end.
    jobs.sort(key=work, reverse=True)
    pairs = sum(_pairs(job) for job in jobs)
    what = f"flow ({jobs[0].engine})"
    with progress(len(jobs), what, unit="pairs", units=pairs) as advance:

        def counted(pairs: int) -> None:
            result.frames += pairs
            advance(0, pairs)

        with closing(_solved(jobs, device, executor, counted, result.notes)) as outcomes:
            for done in outcomes:
                enter_flow(store, done, result)
                advance(1, 0)


def _pairs(job: FlowJob) -> int:
    return max(0, (job.entry.frames or 0) - 1)


def _solved(
    jobs: list[FlowJob],
    device: str,
    executor: Executor,
    counted: Callable[[int], None],
    notes: list[str],
) -> Generator[FlowDone]:
    """Outcomes of all jobs as they come, by processes, workers or devices."""
    engine, parameters = jobs[0].engine, jobs[0].parameters
    version = engine_version(engine)
    if engine not in ON_DEVICES:
        notes.append(f"flow by {version} {executor.told(len(jobs))}")
        yield from executor.run(store_flow_here, jobs, lost=unsolved, counted=counted)
        return
    if not isinstance(executor, LocalProcesses):
        from slic.prep.flow_on_worker import store_flow_on_device

        notes.append(f"flow by {version} on {device} {executor.told(len(jobs))}")
        solve = partial(store_flow_on_device, device=device)
        yield from executor.run(solve, jobs, lost=unsolved, counted=counted, device=device)
        return
    from slic.prep.flow_device import DeviceWork, default_threads, devices_for, flow_on_devices

    works = [
        DeviceWork(engine, name, parameters, executor.workers or default_threads())
        for name in devices_for(engine, device)
    ]
    notes.append(f"flow by {version} on {', '.join(w.device for w in works)}")
    yield from flow_on_devices(jobs, works, counted=counted, say=notes.append)
