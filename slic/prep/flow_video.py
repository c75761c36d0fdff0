"""Flow of one stored video: its frames read in blocks, solved somewhere, written in order."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, Entry, quantise
from slic.cache.flow_settings import default_bound
from slic.cache.shards import ArrayWriter
from slic.errors import DamagedChunk, DiskError, WorkError
from slic.prep.store import PrepResult
from slic.prep.tvl1 import Tvl1Parameters, engine_version, tvl1_flow
from slic.prep.workers.claims import check_claim
from slic.runtime.disk import to_disk_error
from slic.runtime.processes import add_units

# A block is as long as this allows, so that memory does not grow with the video.
BLOCK_FRAMES, BLOCK_PIXELS = 64, 2**22
FEW_PAIRS = 3  # by which the size of a video's flow is told
AHEAD = 1  # blocks handed on before the oldest is waited for

Levels = NDArray[np.uint8]
# Takes a block of gray frames and the bound, gives what waits for their quantised flow.
Submit = Callable[[NDArray[np.uint8], float], Callable[[], Levels]]


@dataclass(frozen=True)
class FlowJob:
    """One video whose flow is to be computed: `bound` in pixels, or None for the default.

    `settings` is the fingerprint to enter when it is done; `claim` what must stand for it to be
    published, if it is done on a cluster.
    """

    store: Path
    entry: Entry
    engine: str
    bound: float | None
    codec: Codec
    parameters: Tvl1Parameters
    settings: str
    claim: Path | None = None

    @property
    def id(self) -> str:
        """Of the video."""
        return self.entry.id


@dataclass(frozen=True)
class FlowDone:
    """The outcome of an entry's video: the fingerprint to enter, or the reason there is none."""

    entry: Entry
    settings: str | None
    reason: str | None = None


class OfEntry(Protocol):
    """A job on a stored video."""

    @property
    def entry(self) -> Entry: ...


def unsolved(job: OfEntry, reason: str) -> FlowDone:
    """The outcome of a video whose flow could not be computed."""
    return FlowDone(job.entry, None, f"no flow: {reason}")


def enter_flow(store: ClipStore, done: FlowDone, result: PrepResult) -> None:
    """Enter one video's outcome in the index, and count it."""
    video, reason = done.entry.id, done.reason
    if done.settings is not None and not store.index.set_flow(done.entry, done.settings):
        store.drop(video, view="flow")
        reason = "its frames were replaced meanwhile: run the same command again"
    if reason is None:
        result.written += 1
    else:
        result.failures.append((video, reason))
        result.new_failures += 1


def work(job: FlowJob) -> int:
    """Pairs of frames, times pixels of each."""
    frames, height, width = job.entry.frames, job.entry.height, job.entry.width
    return max(0, (frames or 0) - 1) * (height or 0) * (width or 0)


def size_on_disk(job: FlowJob) -> float:
    """Bytes that a video's flow will take, by its flow of a few pairs; 0 if there is none."""
    entry = job.entry
    pairs = max(0, (entry.frames or 0) - 1)
    if not pairs:
        return 0.0
    starts = range(0, pairs, -(-pairs // FEW_PAIRS))
    bound = job.bound or default_bound(entry.height or 0, entry.width or 0)
    store = ClipStore(job.store)
    try:
        stored = 0
        for start in starts:
            gray = to_gray(store.read(entry.id, start, 2))
            flow = tvl1_flow(gray, engine="cpu", **asdict(job.parameters))
            stored += len(job.codec.encode(quantise(flow, bound)[0]))
    except (DamagedChunk, WorkError):
        return 0.0
    finally:
        store.index.close()
    return stored / len(starts) * pairs


def store_flow_here(job: FlowJob) -> FlowDone:
    """Compute one video's flow in this process, with an engine that takes no device."""

    def submit(frames: NDArray[np.uint8], bound: float) -> Callable[[], Levels]:
        flow = tvl1_flow(frames, engine=job.engine, **asdict(job.parameters))  # type: ignore[arg-type]
        levels = quantise(flow, bound)
        return lambda: levels

    return store_flow(job, submit, counted=add_units)


def store_flow(job: FlowJob, submit: Submit, *, counted: Callable[[int], None]) -> FlowDone:
    """Compute one video's flow and move it into the store.

    Args:
        job: the video.
        submit: solves its blocks, in any order.
        counted: takes the number of pairs of each block that is done.

    Raises:
        WorkError: the store cannot be written.
    """
    entry = job.entry
    store = ClipStore(job.store, writable=True)
    height, width = entry.height or 0, entry.width or 0
    bound = job.bound or default_bound(height, width)
    attributes = {
        "id": entry.id,
        "bound": bound,
        "engine": engine_version(job.engine),
        "parameters": asdict(job.parameters),
        "fingerprint": job.settings,
    }
    try:
        with store.write(entry.id, view="flow", codec=job.codec) as writer:
            for levels in _levels(store, entry, bound, submit):
                _append(writer, levels)
                counted(len(levels))
            writer.close(attributes, empty_shape=(height, width, 2))
            check_claim(job.claim)
            store.publish(writer, entry.id, view="flow")
    except DamagedChunk as error:
        return FlowDone(entry, None, f"frames damaged, no flow: {error}")
    except DiskError:
        raise
    except WorkError as error:
        return unsolved(job, str(error))
    except OSError as error:
        raise to_disk_error(f"{job.store}: flow of {entry.id}", error) from error
    finally:
        store.index.close()
    return FlowDone(entry, job.settings)


def _append(writer: ArrayWriter, levels: Levels) -> None:
    for field in levels:
        writer.append(field)


def _levels(store: ClipStore, entry: Entry, bound: float, submit: Submit) -> Iterator[Levels]:
    """Quantised flow of a video's blocks in order, the next one under way meanwhile."""
    waiting: deque[Callable[[], Levels]] = deque()
    for frames in _blocks(store, entry):
        waiting.append(submit(frames, bound))
        if len(waiting) > AHEAD:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


def _blocks(store: ClipStore, entry: Entry) -> Iterator[NDArray[np.uint8]]:
    """Gray frames of a video, each block beginning with the last frame of the one before."""
    frames, pixels = entry.frames or 0, (entry.height or 0) * (entry.width or 0)
    most = max(2, min(BLOCK_FRAMES, BLOCK_PIXELS // max(pixels, 1)))
    for start in range(0, frames - 1, most - 1):
        yield to_gray(store.read(entry.id, start, min(most, frames - start)))


def to_gray(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB `(T, H, W, 3)` uint8 to luma `(T, H, W)` uint8, by OpenCV's weights."""
    import cv2

    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
