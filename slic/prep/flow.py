"""`slic prep flow`: TV-L1 optical flow of the stored frames, beside them."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, Entry
from slic.cache.clipstore import FLOW_QUALITY, fingerprint
from slic.cache.shards import CodecName
from slic.errors import DamagedChunk, InputError, WorkError
from slic.prep.frames import prep_frames
from slic.prep.store import (
    LayoutChoice,
    PrepResult,
    agree_on_settings,
    is_store,
    list_failures,
    resolve,
    sample,
)
from slic.prep.tvl1 import (
    Engine,
    Tvl1Parameters,
    engine_version,
    quantise,
    resolve_engine,
    tvl1_flow,
)
from slic.processes import default_workers, run_jobs
from slic.progress import progress
from slic.videos import Dataset

BOUND_SHARE = 12
BLOCK_FRAMES = 64


@dataclass(frozen=True)
class FlowJob:
    """One video whose flow is to be computed."""

    store: Path
    entry: Entry
    engine: str
    bound: float | None
    codec: Codec
    parameters: dict[str, Any]
    settings: str


@dataclass(frozen=True)
class FlowDone:
    """One video's outcome: the fingerprint to enter, or the reason there is none."""

    id: str
    pairs: int
    settings: str | None
    reason: str | None = None


def prep_flow(
    dataset: str,
    *,
    store: str | None = None,
    layout: LayoutChoice = "auto",
    engine: Engine = "auto",
    bound: float | None = None,
    short_side: int | None = None,
    codec: CodecName | None = None,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    retry: bool = False,
) -> PrepResult:
    """Compute the flow that a store lacks; of a data set, its frames first if they are missing.

    Args:
        dataset: folder, csv, or store.
        store: path of the store; `./<name>.zarr` if None.
        layout: how a folder is to be read.
        engine: which TV-L1 to use; it does not change what is computed.
        bound: flow at which the stored values saturate, pixels a frame; a twelfth of the
            short side if None.
        short_side, codec: for frames that are still missing; as the store has them if None.
        workers: processes; all cores if None.
        limit: at most so many videos, a stable sample.
        overwrite: compute again what the store holds, with new parameters if they differ.
        retry: try frames again that failed before.

    Raises:
        DatasetError, StoreError: unusable input.
        WorkError: the store cannot be written; what is complete stays.
    """
    begin = time.monotonic()
    if bound is not None and not (np.isfinite(bound) and bound > 0):
        raise InputError(f"--bound {bound}: must be above 0 pixels a frame")
    found, path = resolve(dataset, store=store, layout=layout)
    notes, new_failures = [], 0
    if found is not None:
        first = prep_frames(
            dataset,
            store=store,
            layout=layout,
            workers=workers,
            limit=limit,
            retry=retry,
            **_frame_parameters(path, short_side=short_side, codec=codec),
        )
        notes, new_failures = first.notes, first.new_failures
    target = ClipStore(path, writable=True)
    target.clear_leftovers()
    chosen = sample(_entries(target, found), limit)
    settings = _settings(target, bound)
    agree_on_settings(target, "flow", settings, overwrite=overwrite)
    result = PrepResult(store=str(path), videos=len(chosen), notes=notes)
    result.failures = list_failures(chosen)
    jobs = _missing(target, chosen, settings, resolve_engine(engine), overwrite=overwrite)
    _run(target, jobs, workers or default_workers(), result)
    result.new_failures += new_failures
    return result.finished(begin)


def _entries(store: ClipStore, dataset: Dataset | None) -> list[Entry]:
    """The store's entries, or those of them that are in the data set."""
    ids = {video.id for video in dataset.videos} if dataset else None
    return [entry for entry in store.index.entries() if ids is None or entry.id in ids]


def _frame_parameters(
    path: Path, *, short_side: int | None, codec: CodecName | None
) -> dict[str, Any]:
    """Frame parameters as asked, else as the store has them, else the defaults."""
    present = (ClipStore(path).settings("frames") or {}) if is_store(path) else {}
    return {
        "short_side": short_side or present.get("short_side", 128),
        "codec": codec or present.get("codec", "jpeg"),
    }


def _settings(store: ClipStore, bound: float | None) -> dict[str, Any]:
    frames = store.settings("frames") or {}
    codec = frames.get("codec", "jpeg")
    quality = {"quality": FLOW_QUALITY} if codec == "jpeg" else {}
    return {
        "method": "tvl1",
        **asdict(Tvl1Parameters()),
        "bound": f"short side / {BOUND_SHARE}" if bound is None else float(bound),
        "codec": codec,
        **quality,
    }


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
    jobs = []
    for entry in entries:
        # Flow belongs to the very frames it was computed from.
        of = {"source": entry.source_digest, "frames": entry.settings}
        digest = fingerprint({**settings, **of})
        done = entry.flow == digest and entry.key in present
        if entry.reason is None and (overwrite or not done):
            parameters = asdict(Tvl1Parameters())
            jobs.append(FlowJob(store.path, entry, engine, bound, codec, parameters, digest))
    return jobs


def _run(store: ClipStore, jobs: list[FlowJob], workers: int, result: PrepResult) -> None:
    if not jobs:
        return
    result.notes.append(f"flow by {engine_version(jobs[0].engine)}")
    with progress(len(jobs), "flow", unit="pairs") as advance:
        for done in run_jobs(store_flow, jobs, workers=min(workers, len(jobs))):
            if done.reason is None:
                store.index.set_flow(done.id, done.settings)
                result.written += 1
                result.frames += done.pairs
            else:
                result.failures.append((done.id, done.reason))
                result.new_failures += 1
            advance(1, done.pairs)


def store_flow(job: FlowJob) -> FlowDone:
    """Compute one video's flow and move it into the store."""
    entry = job.entry
    frames, height, width = entry.frames or 0, entry.height or 0, entry.width or 0
    store = ClipStore(job.store, writable=True)
    bound = job.bound or min(height, width) / BOUND_SHARE
    attributes = {
        "id": entry.id,
        "bound": bound,
        "engine": engine_version(job.engine),
        "parameters": job.parameters,
    }
    try:
        with store.write(entry.id, view="flow", codec=job.codec) as writer:
            for start in range(0, frames - 1, BLOCK_FRAMES - 1):
                count = min(BLOCK_FRAMES, frames - start)
                gray = to_gray(store.read(entry.id, start, count))
                flow = tvl1_flow(gray, engine=job.engine, **job.parameters)  # type: ignore[arg-type]
                for field in quantise(flow, bound):
                    writer.append(field)
            writer.close(attributes, empty_shape=(height, width, 2))
            store.publish(writer, entry.id, view="flow")
    except DamagedChunk as error:
        return FlowDone(entry.id, 0, None, f"frames damaged, no flow: {error}")
    except OSError as error:
        raise WorkError(
            f"{job.store}: cannot write flow of {entry.id}: {error.strerror};"
            " what is complete stays"
        ) from error
    finally:
        store.index.close()
    return FlowDone(entry.id, writer.count, job.settings)


def to_gray(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB `(T, H, W, 3)` uint8 to luma `(T, H, W)` uint8, by OpenCV's weights."""
    import cv2

    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
