"""Compute the flow of one stored video: read its frames in blocks, solve, write in order."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, Entry, quantise
from slic.cache.flow_levels import default_bound
from slic.errors import DamagedChunk, DiskError, WorkError
from slic.prep.tvl1 import Tvl1Parameters, engine_version, tvl1_flow
from slic.prep.workers.jobs import Job, check_claim
from slic.runtime.disk import to_disk_error
from slic.runtime.processes import add_units

# Limits of a block, so that memory does not grow with the video.
BLOCK_FRAMES, BLOCK_PIXELS = 64, 2**22
SAMPLED_PAIRS = 3  # from which the stored size of a video's flow is estimated
AHEAD = 1  # blocks submitted before the result of the oldest is awaited

Levels = NDArray[np.uint8]
# Takes a block of gray frames and the bound; returns a function that waits for its levels.
Submit = Callable[[NDArray[np.uint8], float], Callable[[], Levels]]


@dataclass(frozen=True)
class EntryJob(Job):
    """A stored video that needs flow.

    Attributes:
        entry: its row of the index.
        codec: how its flow is coded.
    """

    entry: Entry
    codec: Codec

    @property
    def id(self) -> str:
        """The video's id."""
        return self.entry.id

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its frames."""
        return self.entry.height or 0, self.entry.width or 0

    @property
    def pairs(self) -> int:
        """Number of pairs of consecutive frames."""
        return max(0, (self.entry.frames or 0) - 1)

    @property
    def work(self) -> int:
        """Pairs times pixels: what time and size on disk are proportional to."""
        height, width = self.size
        return self.pairs * height * width


@dataclass(frozen=True)
class FlowJob(EntryJob):
    """A stored video whose TV-L1 flow is to be computed.

    Attributes:
        engine: of TV-L1.
        parameters: of TV-L1.
        bound: largest flow that can be stored, pixels per frame. None: `default_bound`.
        fingerprint: what the index records of the flow.
    """

    engine: str
    parameters: Tvl1Parameters
    bound: float | None
    fingerprint: str

    @property
    def pixels_bound(self) -> float:
        """The bound in pixels per frame."""
        return self.bound or default_bound(*self.size)


@dataclass(frozen=True)
class FlowResult:
    """The fingerprint of a video's stored flow, or the reason why there is none."""

    entry: Entry
    fingerprint: str | None
    reason: str | None = None


def no_flow(job: EntryJob, reason: object) -> FlowResult:
    """Return the result of a video that gets no flow."""
    return FlowResult(job.entry, None, f"no flow: {reason}")


def write_flow(
    job: EntryJob,
    blocks: Callable[[ClipStore], Iterator[Levels]],
    attributes: Mapping[str, Any],
) -> FlowResult:
    """Write one video's flow and move it into the store.

    Args:
        job: the video.
        blocks: yields its flow in order, levels `(n, H, W, 2)`; it is given the opened store.
        attributes: of the array, `fingerprint` among them; `blocks` may change them.

    Raises:
        DiskError: the store cannot be written.
    """
    entry = job.entry
    store = ClipStore(job.store, writable=True)
    try:
        with store.write(entry.id, view="flow", codec=job.codec) as writer:
            for levels in blocks(store):
                for field in levels:
                    writer.append(field)
            writer.close({"id": entry.id, **attributes}, empty_shape=(*job.size, 2))
            check_claim(job.claim)
            store.publish(writer, entry.id, view="flow")
    except DamagedChunk as error:
        return FlowResult(entry, None, f"frames damaged, no flow: {error}")
    except DiskError:
        raise
    except WorkError as error:
        return no_flow(job, error)
    except OSError as error:
        raise to_disk_error(f"{job.store}: flow of {entry.id}", error) from error
    finally:
        store.index.close()
    return FlowResult(entry, attributes["fingerprint"])


def store_flow_here(job: FlowJob) -> FlowResult:
    """Compute and store one video's flow in this process, with an engine that needs no device."""

    def submit(frames: NDArray[np.uint8], bound: float) -> Callable[[], Levels]:
        flow = tvl1_flow(frames, engine=job.engine, **asdict(job.parameters))  # type: ignore[arg-type]
        levels = quantise(flow, bound)
        return lambda: levels

    return store_flow(job, submit, on_units=add_units)


def store_flow(job: FlowJob, submit: Submit, *, on_units: Callable[[int], None]) -> FlowResult:
    """Compute one video's flow and move it into the store.

    Args:
        job: the video.
        submit: begins to solve a block.
        on_units: receives the number of pairs of each block that is complete.

    Raises:
        DiskError: the store cannot be written.
    """

    def blocks(store: ClipStore) -> Iterator[Levels]:
        for levels in _solve(store, job, submit):
            yield levels
            on_units(len(levels))

    attributes = {
        "bound": job.pixels_bound,
        "engine": engine_version(job.engine),
        "parameters": asdict(job.parameters),
        "fingerprint": job.fingerprint,
    }
    return write_flow(job, blocks, attributes)


def _solve(store: ClipStore, job: FlowJob, submit: Submit) -> Iterator[Levels]:
    """Yield a video's flow in blocks; the next is being solved while one is written."""
    waiting: deque[Callable[[], Levels]] = deque()
    for frames in _gray_blocks(store, job):
        waiting.append(submit(frames, job.pixels_bound))
        if len(waiting) > AHEAD:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


def _gray_blocks(store: ClipStore, job: FlowJob) -> Iterator[NDArray[np.uint8]]:
    """Yield gray frames; each block begins with the last frame of the one before."""
    height, width = job.size
    length = max(2, min(BLOCK_FRAMES, BLOCK_PIXELS // max(height * width, 1)))
    for start in range(0, job.pairs, length - 1):
        yield to_gray(store.read(job.id, start, min(length, job.pairs + 1 - start)))


def to_gray(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert RGB frames `(T, H, W, 3)` to luma `(T, H, W)`, both uint8, by OpenCV's weights."""
    import cv2

    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
