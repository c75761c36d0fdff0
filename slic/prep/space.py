"""Disk that a run of `prep` will need, estimated from a few of its videos before it starts."""

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from slic.errors import StoreError
from slic.runtime.console import say

Job = TypeVar("Job")
VIDEOS = 16  # looked at
LONGEST_S = 15.0  # after which fewer have to do
SIZES = 2000  # videos whose weight is asked for
OVERHEAD = 12_000  # bytes of a video's folder, metadata, index row and half-filled blocks
LOW = 2.0  # standard errors below the estimate


@dataclass(frozen=True)
class Estimate:
    """Bytes needed: as expected, and at least (but for one case in forty)."""

    bytes: int
    least: int


def estimate(
    jobs: Sequence[Job], *, weight: Callable[[Job], float], measure: Callable[[Job], float]
) -> Estimate:
    """Bytes of all jobs by the ratio of bytes to weight of a random few.

    Args:
        jobs: videos.
        weight: what a video's bytes go with, such as the size of its file; quick.
        measure: bytes of a video's array.
    """
    random, count = Random(0), len(jobs)
    few: list[int] = []
    found: list[float] = []
    begin = time.monotonic()
    for i in random.sample(range(count), min(VIDEOS, count)):
        if len(few) > 2 and time.monotonic() - begin > LONGEST_S:
            break
        few.append(i)
        found.append(measure(jobs[i]))
    more = random.sample(range(count), min(SIZES, count))
    weights = [weight(jobs[i]) for i in few]
    ratio = sum(found) / max(sum(weights), 1.0)
    total = ratio * sum(weight(jobs[i]) for i in more) * count / max(len(more), 1)
    return _with_overhead(total, _error(found, weights, ratio, count=count), count=count)


def _error(found: list[float], weights: list[float], ratio: float, *, count: int) -> float:
    """Standard error of a ratio estimate of a total (Cochran, Sampling Techniques, 6.3)."""
    few = len(found)
    if few == count:
        return 0.0
    squares = sum((y - ratio * x) ** 2 for y, x in zip(found, weights, strict=True))
    return count * math.sqrt((1 - few / count) * squares / (few * (few - 1)))


def _with_overhead(total: float, error: float, *, count: int) -> Estimate:
    more = count * OVERHEAD
    return Estimate(round(total) + more, round(max(total / 4, total - LOW * error)) + more)


def say_needed(store: Path, needed: Estimate, *, refuse: bool) -> None:
    """Say what is needed and what is free.

    Args:
        store: the store to be written.
        needed: by it.
        refuse: where it clearly does not fit.

    Raises:
        StoreError: it clearly does not fit.
    """
    there = store.absolute().parent
    free = shutil.disk_usage(there).free
    told = f"about {size(needed.bytes)} needed, {size(free)} free at {there}"
    if refuse and needed.least > free:
        raise StoreError(
            f"{store}: {told}: free some space there, choose another --store, or do a part by"
            " --limit"
        )
    say(told)


def size(count: int) -> str:
    """Bytes for people: 640 kB, 12 MB, 1.2 GB."""
    value, unit = count / 1000, "kB"
    for bigger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, bigger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def weight_of(path: Path) -> float:
    """Bytes of a file; of a folder, entries in it; 0 of what cannot be asked."""
    try:
        return float(len(os.listdir(path)) if path.is_dir() else path.stat().st_size)
    except OSError:
        return 0.0
