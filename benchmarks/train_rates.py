"""Rates of the parts of training, alone and together: slic's, and those of the usual way."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import refuse
from peer_clips import JpegFolder
from peer_training import JpegSamples, Side, jpeg_loader, plain_side, slic_side

from slic.cache import ClipStore, Entry
from slic.clips.augmentation import augment_frames
from slic.clips.positions import clip_span
from slic.clips.reading import ReaderPool
from slic.clips.samples import read_clips
from slic.clips.seeding import even_batches
from slic.config import Settings
from slic.embed.embedding import EMBED_AT_ONCE, Protocol, embed
from slic.engine.forward import ComputeOptions
from slic.engine.loader import SAMPLES_PER_JOB, SampleLoader
from slic.train.methods.slic import SLIC
from slic.train.negatives import batch_labels
from slic.train.sampling import VideoTriplet, plan_epoch

VIDEOS = 9_537  # UCF101's, of split 1
MATES = 5  # videos a cluster


class Rate(NamedTuple):
    """Throughput of clips.

    Attributes:
        clips_per_s: by the clock.
        cpu_ms: CPU time of a clip in this process and its readers; None where there is no /proc.
    """

    clips_per_s: float
    cpu_ms: float | None


class Watch:
    """A stopwatch that starts when it is created."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.begin, self._cpu = self._now(), cpu_seconds()

    def rate(self, clips: int) -> Rate:
        """Of clips done since."""
        cpu = cpu_seconds()
        spent = None if cpu is None or self._cpu is None else 1000 * (cpu - self._cpu) / clips
        return Rate(clips / (self._now() - self.begin), spent)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def cpu_seconds() -> float | None:
    """Return user and system time of this process and its living children."""
    if not os.path.exists("/proc/self/stat"):
        return None
    ticks = 0
    for process in multiprocessing.active_children():
        with open(f"/proc/{process.pid}/stat") as file:
            # The name, in parentheses, may hold blanks; user and system time are 14th and 15th.
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


class Bench:
    """The measurements: each method returns a rate.

    Attributes:
        store: that holds the videos.
        settings, compute: of the training.
        seconds: that a call lasts.
        samples: of an epoch, in full batches.
        readers: slic's, by whether they only cut.
        plain, ours: sides of the step.
    """

    def __init__(
        self,
        store: ClipStore,
        folder: Path,
        *,
        settings: Settings,
        compute: ComputeOptions,
        seconds: float,
    ) -> None:
        self.store, self.settings, self.compute, self.seconds = store, settings, compute, seconds
        self.entries = usable(store, settings)
        self.samples, self.clusters = planned(self.entries, settings)
        pin = compute.device.type == "cuda"
        self.pool = ReaderPool(store, workers=compute.workers, device=compute.device)
        self.readers = {
            cut: SampleLoader(
                self.pool, settings, clips=SLIC.clips_per_sample, augment_on_device=cut
            )
            for cut in (False, True)
        }
        jpegs = JpegFolder(folder, store, [entry.id for entry in self.entries])
        samples = JpegSamples(jpegs, self.samples, settings)
        self.jpegs = jpeg_loader(samples, workers=compute.workers, pin=pin)
        self.plain = plain_side(settings, compute.device)
        self.ours = slic_side(settings, compute)

    @property
    def plan(self) -> list[list[VideoTriplet]]:
        return even_batches(self.samples, self.settings.batch_size)

    def rate(self, batches: Iterator[Any], use: Callable[[Any], object], *, queued: int) -> Rate:
        """Measure `use` after the batches that wait in queues are consumed."""
        for batch in islice(batches, queued + 1):
            use(batch)
        watch, done = Watch(self.compute.device), 0
        while not done or time.perf_counter() - watch.begin < self.seconds:
            use(next(batches))
            done += 1
        return watch.rate(done * SLIC.clips_per_sample * self.settings.batch_size)

    def jpegs_alone(self) -> Rate:
        return self._jpegs_with(lambda clips: None)

    def readers_alone(self, *, cut: bool) -> Rate:
        return self._readers_with(lambda parts: None, cut=cut)

    def augmenting_on_cpu(self) -> Rate:
        """Measure reading of clips that are in memory, in this process alone."""
        samples = self.plan[0]
        views = [v for s in samples for v in read_clips(self.store, s, settings=self.settings)]
        return self.rate(
            repeat(views),
            lambda some: [augment_frames(clip, how, self.settings.size) for clip, how in some],
            queued=0,
        )

    def augmenting_alone(self) -> Rate:
        """Measure augmentation of crops that are in the host's memory."""
        loader = self.readers[True]
        crops = list(loader.batches(self.plan[:2]))
        return self.rate(
            cycle(crops), lambda parts: loader.on_device(parts, self.compute.device), queued=1
        )

    def steps_alone(self, side: Side) -> Rate:
        """Measure steps on clips that are on the device."""
        batch = self.plan[0]
        parts = next(self.readers[False].batches([batch]))
        clips = self.readers[False].on_device(parts, self.compute.device)
        return self.rate(repeat(clips), self._step(side), queued=2)

    def plain_together(self) -> Rate:
        step = self._step(self.plain)

        def use(clips: torch.Tensor) -> None:
            step(clips.to(self.compute.device, non_blocking=True).transpose(0, 1))

        return self._jpegs_with(use)

    def together(self, *, cut: bool) -> Rate:
        loader, step = self.readers[cut], self._step(self.ours)
        return self._readers_with(
            lambda parts: step(loader.on_device(parts, self.compute.device)), cut=cut
        )

    def embedding(self) -> Rate:
        """Measure embedding of centre clips, as before clustering."""
        s, device = self.settings, self.compute.device
        at_once = EMBED_AT_ONCE[device.type]
        self.ours.prepare()

        def rate(clips: int) -> Rate:
            watch = Watch(device)
            embed(
                self.ours.encoder,
                self.pool,
                list(islice(cycle(self.entries), clips)),
                protocol=Protocol(1, s.frames, s.stride, s.size),
                device=device,
                precision=s.precision,
            )
            return watch.rate(clips)

        rate(at_once)
        batches = self.seconds * rate(at_once).clips_per_s / at_once
        return rate(at_once * max(1, round(batches)))

    def _jpegs_with(self, use: Callable[[torch.Tensor], object]) -> Rate:
        queued = self.jpegs.prefetch_factor or 0
        return self._reading(endless(self.jpegs), use, queued=queued * self.compute.workers)

    def _readers_with(self, use: Callable[[list], object], *, cut: bool) -> Rate:
        batches = chain.from_iterable(self.readers[cut].batches(self.plan) for _ in repeat(0))
        jobs = 2 * self.compute.workers  # DataLoader's own number
        queued = -(-jobs * SAMPLES_PER_JOB // self.settings.batch_size)
        return self._reading(batches, use, queued=queued)

    def _reading(
        self, batches: Iterator[Any], use: Callable[[Any], object], *, queued: int
    ) -> Rate:
        found = self.rate(batches, use, queued=queued)
        # Readers go on until their queues are full: what is measured next shall not share cores.
        time.sleep(queued * SLIC.clips_per_sample * self.settings.batch_size / found.clips_per_s)
        return found

    def _step(self, side: Side) -> Callable[[torch.Tensor], object]:
        """Return the steps of a side, each with the labels of a batch."""
        side.prepare()
        labels = cycle(batch_labels(batch, self.clusters, {}) for batch in self.plan)
        return lambda clips: side.step(clips, next(labels), seed=0)

    def differences(self) -> dict[str, float]:
        """Return how far the peer's and the device's pixels are from the readers', in levels."""
        batch, device = self.plan[0], self.compute.device
        ours, cut = (
            loader.on_device(next(loader.batches([batch])), device).cpu().short()
            for loader in self.readers.values()
        )
        peer = next(iter(self.jpegs)).transpose(0, 1).short()
        apart = {"PIL": peer - ours, "device": cut - ours}
        return {name: float(values.abs().float().mean()) for name, values in apart.items()}


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """Repeat passes without end."""
    while True:
        yield from batches


def usable(store: ClipStore, settings: Settings) -> list[Entry]:
    """List a store's videos that are long enough for a clip without wrapping."""
    span = clip_span(settings.frames, settings.stride)
    entries = [entry for entry in store.entries() if (entry.frames or 0) >= span]
    if len(entries) <= MATES:
        refuse(f"{store.path}: more than {MATES} videos of {span} frames are needed; give others")
    return entries


def planned(
    entries: Sequence[Entry], settings: Settings
) -> tuple[list[VideoTriplet], dict[str, int]]:
    """Plan an epoch of UCF101's size in full batches; return samples and clusters."""
    lengths = {entry.id: entry.frames or 0 for entry in entries}
    clusters = {video: number // MATES for number, video in enumerate(lengths)}
    samples: list[VideoTriplet] = []
    epoch = 0
    while len(samples) < VIDEOS:
        plan = plan_epoch(lengths, clusters, settings=settings, epoch=epoch)
        samples += chain.from_iterable(plan)
        epoch += 1
    return samples[: VIDEOS - VIDEOS % settings.batch_size], clusters
