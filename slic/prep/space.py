"""Estimate the disk space that a run of `slic prep` needs, from a few of its videos."""

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from rich.filesize import decimal

from slic.errors import StoreError
from slic.prep.frames_video import FrameJob
from slic.runtime.console import say

Job = TypeVar("Job")
VIDEOS = 16  # measured
LONGEST_S = 15.0  # of measuring; then fewer have to do
SIZES = 2000  # videos whose weight is looked up
OVERHEAD = 12_000  # bytes of a video's folder, metadata, index row and half-filled blocks
LOW = 2.0  # standard errors below the estimate: exceeded in all but one of 40 cases


@dataclass(frozen=True)
class Estimate:
    """Bytes needed: the expected number, and one that is almost certainly exceeded."""

    bytes: int
    least: int


def estimate(
    jobs: Sequence[Job], *, weight: Callable[[Job], float], measure: Callable[[Job], float]
) -> Estimate:
    """Estimate the bytes of all jobs from the bytes per weight of a random few.

    Args:
        jobs: videos.
        weight: a number to which a video's bytes are proportional, such as the size of its file;
            quick to get.
        measure: measures the bytes of a video's array.
    """
    random, count = Random(0), len(jobs)
    weights: list[float] = []
    measured: list[float] = []
    begin = time.monotonic()
    for i in random.sample(range(count), min(VIDEOS, count)):
        if len(weights) > 2 and time.monotonic() - begin > LONGEST_S:
            break
        weights.append(weight(jobs[i]))
        measured.append(measure(jobs[i]))
    some = random.sample(range(count), min(SIZES, count))
    ratio = sum(measured) / max(sum(weights), 1.0)
    total = ratio * sum(weight(jobs[i]) for i in some) * count / max(len(some), 1)
    error = _standard_error(measured, weights, ratio, count=count)
    overhead = count * OVERHEAD
    return Estimate(round(total) + overhead, round(max(total / 4, total - LOW * error)) + overhead)


def _standard_error(
    measured: list[float], weights: list[float], ratio: float, *, count: int
) -> float:
    """Return the standard error of a ratio estimate (Cochran, Sampling Techniques, 6.3)."""
    few = len(measured)
    if few == count:
        return 0.0
    squares = sum((y - ratio * x) ** 2 for y, x in zip(measured, weights, strict=True))
    return count * math.sqrt((1 - few / count) * squares / (few * (few - 1)))


def say_needed(store: Path, needed: Estimate, *, refuse: bool) -> None:
    """Print how much disk space is needed and free.

    Args:
        store: path of the store to be written.
        needed: by it.
        refuse: whether to raise an error if it clearly does not fit.

    Raises:
        StoreError: it clearly does not fit.
    """
    folder = store.absolute().parent
    free = shutil.disk_usage(folder).free
    line = f"about {decimal(needed.bytes)} of disk space needed, {decimal(free)} free in {folder}"
    if refuse and needed.least > free:
        raise StoreError(
            f"{store}: {line}: free some, choose another --store, or process a part with --limit"
        )
    say(line)


def source_size(job: FrameJob) -> float:
    """Return the bytes of a video's file, or the entries of its folder; 0 if it is not there."""
    try:
        return float(len(os.listdir(job.path)) if job.path.is_dir() else job.path.stat().st_size)
    except OSError:
        return 0.0
