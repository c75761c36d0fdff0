"""TV-L1 as a source of flow: which videos need it, and who computes it."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from slic.cache import ClipStore, Entry, quantise
from slic.cache.entries import flow_fingerprint
from slic.cache.flow_levels import DEFAULT_BOUND
from slic.errors import WorkError
from slic.prep.flow_video import (
    SAMPLED_PAIRS,
    FlowJob,
    FlowResult,
    no_flow,
    store_flow_here,
    to_gray,
)
from slic.prep.store import codec_of, flow_codec
from slic.prep.tvl1 import ON_DEVICES, Tvl1Parameters, engine_version, tvl1_flow
from slic.prep.workers.executor import Executor, LocalProcesses
from slic.prep.workers.jobs import Stage


@dataclass(frozen=True)
class ComputedFlow:
    """Flow that an engine of TV-L1 computes from stored frames.

    Attributes:
        engine: the engine, never "auto".
        device: the device it runs on.
        parameters: of TV-L1.
        bound: largest flow that can be stored, pixels per frame. None: by each video's size.
    """

    engine: str
    device: str
    parameters: Tvl1Parameters
    bound: float | None

    def settings(self, store: ClipStore) -> dict[str, Any]:
        """Return what the store records of all its flow."""
        bound = DEFAULT_BOUND if self.bound is None else self.bound
        return {
            "method": "tvl1",
            **asdict(self.parameters),
            "bound": bound,
            **flow_codec(store),
        }

    def outdated(self, store: ClipStore, settings: dict[str, Any]) -> list[str]:
        """Return the ids of videos whose flow has other settings, or is of other frames."""
        entries = [entry for entry in store.index.entries() if entry.flow is not None]
        return [e.id for e in entries if e.flow != flow_fingerprint(e, settings)]

    def jobs(self, store: ClipStore, entries: Sequence[Entry]) -> list[FlowJob]:
        """Return a job for each entry."""
        settings = self.settings(store)
        return [
            FlowJob(
                store.path,
                entry,
                codec_of(settings),
                self.engine,
                self.parameters,
                self.bound,
                flow_fingerprint(entry, settings),
            )
            for entry in entries
        ]

    def is_stored(self, job: FlowJob) -> bool:
        """Whether the index says that a video has this very flow."""
        return job.entry.flow == job.fingerprint

    def size_on_disk(self, job: FlowJob) -> float:
        """Estimate the bytes of a video's flow from a few pairs; 0 if they cannot be read."""
        if not job.pairs:
            return 0.0
        starts = range(0, job.pairs, -(-job.pairs // SAMPLED_PAIRS))
        store = ClipStore(job.store)
        stored = 0
        try:
            for start in starts:
                gray = to_gray(store.read(job.id, start, 2))
                flow = tvl1_flow(gray, engine="cpu", **asdict(job.parameters))
                stored += len(job.codec.encode(quantise(flow, job.pixels_bound)[0]))
        except WorkError:
            return 0.0
        finally:
            store.index.close()
        return stored / len(starts) * job.pairs

    def run(
        self,
        jobs: Sequence[FlowJob],
        executor: Executor,
        *,
        on_units: Callable[[int], None],
        notes: list[str],
    ) -> Generator[FlowResult]:
        """Yield the results of jobs in order of completion; add to the notes who computed them."""
        by = f"flow computed by engine {engine_version(self.engine)}"
        if self.engine not in ON_DEVICES:
            notes.append(f"{by} {executor.describe(len(jobs))}")
            yield from executor.run(Stage(store_flow_here, jobs, no_flow, on_units))
            return
        from slic.prep.flow_device import (  # they need torch
            devices_for,
            flow_on_devices,
            store_flow_on_device,
        )

        if isinstance(executor, LocalProcesses):
            devices = devices_for(self.engine, self.device)
            notes.append(f"{by} on {', '.join(devices)}")
            yield from flow_on_devices(jobs, devices, threads=executor.workers, on_units=on_units)
            return
        notes.append(f"{by} ({self.device}) {executor.describe(len(jobs))}")
        work = partial(store_flow_on_device, device=self.device)
        yield from executor.run(Stage(work, jobs, no_flow, on_units, self.device))
