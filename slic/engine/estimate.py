"""How long a training will take, from a few samples read and passed through a copy."""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.clips.samples import Sample
from slic.config import Settings
from slic.encoders.encoder import Encoder
from slic.engine.forward import ComputeOptions, make_forward
from slic.engine.loader import SampleLoader

PROBE_SAMPLES = 8
LONGEST_PROBE_S = 10.0


def estimate_seconds(
    encoder: Encoder,
    store: ClipStore,
    samples: Sequence[Sample],
    *,
    settings: Settings,
    compute: ComputeOptions,
    steps: int,
    embeddings: int,
    processes: int = 1,
) -> float:
    """Time that training will take, from a few samples read and passed through a copy.

    FINCH and compiling are left out, and a compiled step counts as any other.

    Args:
        encoder: not changed.
        store: for the time that clips take.
        samples: of the first epoch, a batch at least or all there are.
        settings: of the run.
        compute: device and workers, which read while the device computes.
        steps: how many.
        embeddings: clips to embed for clustering.
        processes: that share the samples of a step, and the clips to embed.
    """
    clips = len(samples[0].clips)
    count = -(-min(settings.batch_size, len(samples)) // processes)
    loader = SampleLoader(
        ReaderPool(store, workers=0),
        settings,
        clips=clips,
        augment_on_device=compute.augment_on_device,
    )
    reading = _reading_seconds(loader, samples[: PROBE_SAMPLES + 1])
    probe = min(count, PROBE_SAMPLES)
    compute = replace(compute, compile=False)
    computing = step_seconds(encoder, probe * clips, settings=settings, compute=compute) / probe
    if computing * count < LONGEST_PROBE_S:
        # Small batches are slow for their size.
        computing = step_seconds(encoder, count * clips, settings=settings, compute=compute) / count
    # Going forward takes a third of going forward and back.
    work = [
        (steps * count, computing, reading),
        (embeddings / processes / clips, computing / 3, reading),
    ]
    return sum(many * overlapped(*each, workers=compute.workers) for many, *each in work)


def overlapped(computing: float, reading: float, *, workers: int) -> float:
    """Time of computing and reading, which workers do beside it."""
    return max(computing, reading / workers) if workers else computing + reading


def _reading_seconds(loader: SampleLoader, samples: Sequence[Sample]) -> float:
    """Time that one sample takes to read, the first one's start-up left out."""
    timed = samples[1:] or samples
    list(loader.batches([samples[:1]]))
    begin = time.perf_counter()
    list(loader.batches([timed]))
    return (time.perf_counter() - begin) / len(timed)


def step_seconds(
    encoder: Encoder, clips: int, *, settings: Settings, compute: ComputeOptions
) -> float:
    """Time of one step of so many clips on a copy of the encoder, the first one left out."""
    encoder = copy.deepcopy(encoder).train()
    forward = make_forward(encoder, compute, settings.precision)
    shape = (clips, settings.frames, settings.size, settings.size, 3)
    pixels = torch.zeros(shape, dtype=torch.uint8, device=compute.device)
    for _ in range(2):
        begin = time.perf_counter()
        forward(pixels).square().mean().backward()
        if compute.device.type == "cuda":
            torch.cuda.synchronize(compute.device)
    return time.perf_counter() - begin
