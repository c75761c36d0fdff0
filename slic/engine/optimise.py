"""Optimiser, learning rate, and how long a run will take."""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.config import Settings
from slic.encoders.encoder import Encoder
from slic.engine.forward import Means, make_forward
from slic.engine.loader import VIEWS, SampleLoader
from slic.train.sampling import Sample

PROBE_SAMPLES = 8
LONGEST_PROBE_S = 10.0


def make_optimiser(encoder: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """SGD as in the paper (section 4.1), or Adam with decoupled weight decay."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            encoder.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        encoder.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )


def learning_rate(step: int, steps: int, *, settings: Settings) -> float:
    """The rate of a step, of so many in all.

    Constant, half a cosine from `lr` to 0, or a tenth every so many epochs; at first it rises
    from 0 in a straight line, if the settings say so.
    """
    s, rate = settings, settings.lr
    warmup = steps * s.lr_warmup_epochs / s.epochs
    if step + 1 < warmup:
        rate *= (step + 1) / warmup
    if s.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    if s.schedule == "step":
        rate *= 0.1 ** (step * s.epochs // (steps * s.drop_every))
    return rate


def estimate_seconds(
    encoder: Encoder,
    store: ClipStore,
    samples: Sequence[Sample],
    *,
    settings: Settings,
    means: Means,
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
        means: device and workers, which read while the device computes.
        steps: how many.
        embeddings: clips to embed for clustering.
        processes: that share the samples of a step, and the clips to embed.
    """
    count = -(-min(settings.batch_size, len(samples)) // processes)
    loader = SampleLoader(
        ReaderPool(store, workers=0), settings, augment_on_device=means.augment_on_device
    )
    reading = _reading_seconds(loader, samples[: PROBE_SAMPLES + 1])
    probe = min(count, PROBE_SAMPLES)
    means = replace(means, compile=False)
    computing = step_seconds(encoder, probe, settings=settings, means=means) / probe
    if computing * count < LONGEST_PROBE_S:
        # Small batches are slow for their size.
        computing = step_seconds(encoder, count, settings=settings, means=means) / count
    # A sample is three clips; going forward takes a third of going forward and back.
    work = [
        (steps * count, computing, reading),
        (embeddings / processes / VIEWS, computing / 3, reading),
    ]
    return sum(many * _together(*each, workers=means.workers) for many, *each in work)


def _together(computing: float, reading: float, *, workers: int) -> float:
    return max(computing, reading / workers) if workers else computing + reading


def _reading_seconds(loader: SampleLoader, samples: Sequence[Sample]) -> float:
    """Time that one sample takes to read, the first one's start-up left out."""
    timed = samples[1:] or samples
    list(loader.batches([samples[:1]]))
    begin = time.perf_counter()
    list(loader.batches([timed]))
    return (time.perf_counter() - begin) / len(timed)


def step_seconds(encoder: Encoder, samples: int, *, settings: Settings, means: Means) -> float:
    """Time of one step of so many samples on a copy of the encoder, the first one left out."""
    encoder = copy.deepcopy(encoder).train()
    forward = make_forward(encoder, means, settings.precision)
    shape = (VIEWS * samples, settings.frames, settings.size, settings.size, 3)
    clips = torch.zeros(shape, dtype=torch.uint8, device=means.device)
    for _ in range(2):
        begin = time.perf_counter()
        forward(clips).square().mean().backward()
        if means.device.type == "cuda":
            torch.cuda.synchronize(means.device)
    return time.perf_counter() - begin
