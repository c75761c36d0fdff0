"""`slic prep flow --engine imported`: flow images that people already have, into a store.

Levels 0 to 255 of the images stand for -bound to bound linearly. They are turned to pixels,
resized with the frames, and quantised as all flow of a store; flow that is 0 stays exactly 0.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, Entry, quantise
from slic.cache.clipstore import fingerprint
from slic.cache.shards import ArrayWriter, CodecName
from slic.datasets.images import ImageView, image_sequence
from slic.datasets.videos import Dataset
from slic.decode.guarded import Decoding
from slic.errors import DatasetError, DecodeError, InputError
from slic.prep.flow_video import FlowDone, enter_flow, unsolved
from slic.prep.frames import store_missing_frames
from slic.prep.frames_video import close_decoder, worker_decoder
from slic.prep.space import estimate, say_needed
from slic.prep.store import (
    IMPORTED,
    PrepResult,
    agree_on_settings,
    entries_of,
    flow_codec,
    frame_parameters,
    is_store,
    list_failures,
    sample,
)
from slic.prep.workers.claims import check_claim
from slic.prep.workers.executor import Executor
from slic.runtime.disk import disk_errors_at, to_disk_error
from slic.runtime.processes import add_units
from slic.runtime.progress import progress

CENTRE = 127.5  # the level of no flow, between 127 and 128, which both become exactly 0
ANY_SIZE = 1 << 30
FEW_PAIRS = 3  # by which the size of a video's flow is told

Flow = tuple[str, str]


@dataclass(frozen=True)
class ImportJob:
    """One video whose flow images are to be taken in.

    Attributes:
        store, root: of the clip store, and of the data set.
        entry: the video.
        flow: folders of its images of u and v, or None.
        settings: parameters of the import.
        claim: what must stand for it to be published, if it is done on a cluster.
    """

    store: Path
    root: Path
    entry: Entry
    flow: Flow | None
    settings: Mapping[str, Any]
    claim: Path | None = None

    @property
    def id(self) -> str:
        """Of the video."""
        return self.entry.id


def import_flow(
    executor: Executor,
    found: Dataset | None,
    path: Path,
    *,
    bound: float | None,
    short_side: int | None,
    codec: CodecName | None,
    limit: int | None,
    overwrite: bool,
    retry: bool,
) -> PrepResult:
    """Take in the flow images of a data set, its frames first if they are missing.

    Further args and errors are those of `prep_flow`; `bound` must be given.

    Args:
        executor: does the jobs.
        found: the data set; None where its store was named.
        path: of the store.
    """
    begin = time.monotonic()
    if bound is None:
        raise InputError(
            "--engine imported: say by --bound what level 255 of the images stands for, in pixels"
            " (most tools: 20)"
        )
    if found is None:
        raise InputError(f"{path}: is a store: --engine imported needs the data set of images")
    flows = _flows(found)
    if is_store(path):  # before any frames are decoded
        present = ClipStore(path)
        wanted = _settings(present, bound)
        agree_on_settings(present, "flow", wanted, overwrite=overwrite, record=False)
    first = store_missing_frames(
        executor,
        found,
        path,
        limit=limit,
        overwrite=False,
        retry=retry,
        **frame_parameters(path, short_side=short_side, codec=codec),
    )
    target = ClipStore(path, writable=True)
    target.clear_leftovers()
    settings = _settings(target, bound)
    if target.settings("flow") != settings:  # so that a stopped run leaves no mixture
        target.index.forget_flow(e.id for e in target.index.entries() if e.flow is not None)
    with disk_errors_at(path):
        agree_on_settings(target, "flow", settings, overwrite=overwrite)
    chosen = sample(entries_of(target, found), limit)
    result = PrepResult(store=str(path), videos=len(chosen), notes=first.notes)
    result.failures = list_failures(chosen)
    jobs = [ImportJob(path, found.root, e, flows[e.id], settings) for e in chosen if not e.reason]
    result.estimated_bytes = first.estimated_bytes
    jobs = _missing(target, jobs, overwrite=overwrite)
    if jobs:
        needed = estimate(jobs, weight=_weight, measure=size_on_disk)
        close_decoder()
        say_needed(path, needed, refuse=not overwrite)
        result.estimated_bytes += needed.bytes
    _run(target, jobs, executor, result)
    result.new_failures += first.new_failures
    return result.finished(begin)


def _flows(found: Dataset) -> dict[str, Flow | None]:
    """Folders of flow by video."""
    flows = {video.id: video.flow for video in found.videos}
    if not any(flows.values()):
        raise DatasetError(
            f"{found.root}: no flow images: neither flow_x_* and flow_y_* beside frames, nor u/ and"
            " v/ with the folders of frames"
        )
    return flows


def _settings(store: ClipStore, bound: float) -> dict[str, Any]:
    return {"method": IMPORTED, "bound": float(bound), **flow_codec(store)}


def _missing(store: ClipStore, jobs: list[ImportJob], *, overwrite: bool) -> list[ImportJob]:
    present = store.keys("flow")
    return [job for job in jobs if overwrite or job.entry.key not in present or not _is_done(job)]


def _is_done(job: ImportJob) -> bool:
    if job.entry.flow is None:
        return False
    try:
        return job.entry.flow == _digest(job, _image_pairs(job))
    except (DecodeError, OSError):
        return False


def _run(store: ClipStore, jobs: list[ImportJob], executor: Executor, result: PrepResult) -> None:
    if not jobs:
        return

    def counted(pairs: int) -> None:
        result.frames += pairs
        advance(0, pairs)

    with progress(len(jobs), f"flow ({IMPORTED})", unit="pairs") as advance:
        run = executor.run(store_imported, jobs, lost=unsolved, counted=counted)
        with closing(run) as outcomes:
            for done in outcomes:
                enter_flow(store, done, result)
                advance(1, 0)


def _weight(job: ImportJob) -> int:
    frames, height, width = job.entry.frames, job.entry.height, job.entry.width
    return max(0, (frames or 0) - 1) * (height or 0) * (width or 0)


def size_on_disk(job: ImportJob) -> float:
    """Bytes that a video's flow will take, by its first images; 0 if there are none."""
    size = job.entry.height or 0, job.entry.width or 0
    stored = counted = 0
    try:
        pairs = _image_pairs(job)
        for levels in _blocks(job, pairs[:FEW_PAIRS]):
            bound = job.settings["bound"] * max(_stretch(levels.shape[1:3], size))
            pixels = flow_pixels(levels, size, bound=job.settings["bound"])
            stored += sum(len(_codec(job).encode(field)) for field in quantise(pixels, bound))
            counted += len(levels)
    except (DecodeError, OSError):
        return 0.0
    return stored / max(counted, 1) * len(pairs)


def _codec(job: ImportJob) -> Codec:
    return Codec(job.settings["codec"], quality=job.settings.get("quality", 0))


def store_imported(job: ImportJob) -> FlowDone:
    """Move one video's flow images into the store."""
    try:
        pairs = _image_pairs(job)
        settings = _digest(job, pairs)
    except (DecodeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return FlowDone(job.entry, None, f"no flow: {reason}")
    store = ClipStore(job.store, writable=True)
    try:
        with store.write(job.entry.id, view="flow", codec=_codec(job)) as writer:
            attributes = {**_write(job, pairs, writer), "fingerprint": settings}
            size = (job.entry.height or 0, job.entry.width or 0)
            writer.close(attributes, empty_shape=(*size, 2))
            check_claim(job.claim)
            store.publish(writer, job.entry.id, view="flow")
    except DecodeError as error:
        return FlowDone(job.entry, None, f"no flow: {error}")
    except OSError as error:
        raise to_disk_error(f"{job.store}: flow of {job.entry.id}", error) from error
    finally:
        store.index.close()
    add_units(len(pairs))
    return FlowDone(job.entry, settings)


def _image_pairs(job: ImportJob) -> list[list[Path]]:
    """Images of u and v of each pair of frames.

    Raises:
        DecodeError: there are none, or not as many as pairs; the message says why.
        OSError: a folder cannot be read.
    """
    frames = job.entry.frames or 0
    if frames == 1:
        return []
    if job.flow is None:
        raise DecodeError("no flow images")
    beside = job.flow[0] == job.flow[1]
    u = _side(job.root, job.flow[0], "u" if beside else None)
    v = _side(job.root, job.flow[1], "v" if beside else None)
    if len(u) != len(v):
        raise DecodeError(f"{len(u)} images of u and {len(v)} of v")
    # Some tools repeat the last flow, so that there is one for every frame.
    if len(u) not in (frames - 1, frames):
        raise DecodeError(f"{len(u)} flow images for {frames} frames: expected {frames - 1}")
    return [[*pair] for pair in zip(u, v, strict=True)][: frames - 1]


def _side(root: Path, folder: str, view: ImageView | None) -> list[Path]:
    if not (root / folder).is_dir():
        raise DecodeError(f"no folder {folder}")
    try:
        return image_sequence(root / folder, view=view)
    except DecodeError as error:
        raise DecodeError(f"{folder}: {error}") from None


def _digest(job: ImportJob, pairs: list[list[Path]]) -> str:
    """Fingerprint of a video's flow: of the very frames beside it, and of the images' sizes."""
    images = [(image.name, image.stat().st_size) for pair in pairs for image in pair]
    of = {"source": job.entry.source_digest, "frames": job.entry.settings, "images": images}
    return fingerprint({**job.settings, **of})


def _write(job: ImportJob, pairs: list[list[Path]], writer: ArrayWriter) -> dict[str, Any]:
    """Append all flow; the array's attributes."""
    size = job.entry.height or 0, job.entry.width or 0
    bound, shape = job.settings["bound"], size
    for levels in _blocks(job, pairs):
        shape = levels.shape[1:3]
        pixels = flow_pixels(levels, size, bound=job.settings["bound"])
        bound = job.settings["bound"] * max(_stretch(shape, size))
        for field in quantise(pixels, bound):
            writer.append(field)
    parameters = {"bound": job.settings["bound"], "height": shape[0], "width": shape[1]}
    return {"id": job.entry.id, "bound": bound, "engine": IMPORTED, "parameters": parameters}


def _blocks(job: ImportJob, pairs: list[list[Path]]) -> Iterator[NDArray[np.uint8]]:
    if not pairs:
        return
    yield from worker_decoder().blocks(
        job.root, reader="images", short_side=ANY_SIZE, about=Decoding(), files=pairs
    )


def flow_pixels(
    levels: NDArray[np.uint8], size: tuple[int, int], *, bound: float
) -> NDArray[np.float32]:
    """Flow in pixels of the wanted size from levels of images.

    Args:
        levels: `(n, H, W, 2)` uint8, 0 to 255 for -bound to bound.
        size: height and width wanted.
        bound: pixels of the images.

    Returns:
        `(n, *size, 2)` float32: u and v scaled as width and height are.
    """
    import cv2

    pixels = (levels.astype(np.float32) - CENTRE) * np.float32(bound / CENTRE)
    shape = levels.shape[1:3]
    if shape != size:
        shrinks = size[0] * size[1] < shape[0] * shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = np.stack([cv2.resize(field, size[::-1], interpolation=how) for field in pixels])
    return pixels * np.array(_stretch(shape, size), np.float32)


def _stretch(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[float, float]:
    """By how much u and v grow with the images."""
    return size[1] / shape[1], size[0] / shape[0]
