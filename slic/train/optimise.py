"""Optimiser, learning rate, and how long a run will take."""

import copy
import math
import time

import torch
from torch import nn

from slic.config import Settings
from slic.encoders import Encoder
from slic.train.samples import SampleReader
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
        )
    return torch.optim.AdamW(
        encoder.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )


def learning_rate(step: int, steps: int, *, settings: Settings) -> float:
    """The rate of a step: constant, or half a cosine from `lr` to 0."""
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def estimate_seconds(
    encoder: Encoder,
    reader: SampleReader,
    samples: list[Sample],
    *,
    settings: Settings,
    steps: int,
    device: torch.device,
    workers: int,
) -> float:
    """Time that `steps` steps will take, from a few samples read and passed through a copy.

    Args:
        encoder: not changed.
        reader: for the time that clips take.
        samples: of the first epoch, a batch at least or all there are.
        settings: of the run.
        steps: how many.
        device: of the encoder.
        workers: reading processes, which read while the device computes.
    """
    count = min(settings.batch_size, len(samples))
    reading = _reading_seconds(reader, samples[: PROBE_SAMPLES + 1]) * count
    probe = min(count, PROBE_SAMPLES)
    computing = _step_seconds(encoder, probe, settings, device) * count / probe
    if computing < LONGEST_PROBE_S:
        # Small batches are slow for their size.
        computing = _step_seconds(encoder, count, settings, device)
    each = max(computing, reading / workers) if workers else computing + reading
    return each * steps


def _reading_seconds(reader: SampleReader, samples: list[Sample]) -> float:
    """Time that one sample takes to read, the first one's start-up left out."""
    timed = samples[1:] or samples
    reader.read(samples[0])
    begin = time.perf_counter()
    for sample in timed:
        reader.read(sample)
    return (time.perf_counter() - begin) / len(timed)


def _step_seconds(
    encoder: Encoder, samples: int, settings: Settings, device: torch.device
) -> float:
    """Time of one step of so many samples on a copy of the encoder, the first one left out."""
    encoder = copy.deepcopy(encoder)
    shape = (3 * samples, 3, settings.frames, settings.size, settings.size)
    clips = torch.zeros(shape, device=device).to(memory_format=torch.channels_last_3d)
    encoder.train()
    for _ in range(2):
        begin = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            projection = encoder(clips)[1]
        projection.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - begin
