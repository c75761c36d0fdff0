"""Call a function in a fresh process on one thread, and measure its time and memory."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from common import Column, Row

from slic.errors import WorkError
from slic.runtime.processes import run_jobs

Job = TypeVar("Job")
Result = TypeVar("Result")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
MB = 1e6
COST_COLUMNS = (
    Column("CPU s", "cpu_seconds", ".4f"),
    Column("seconds", "seconds", ".4f"),
    Column("peak MB", "peak_mb", ".0f"),
    Column("loaded MB", "before_mb", ".0f"),
)


class Spent(NamedTuple):
    """Time and memory of one call.

    Attributes:
        seconds: wall time.
        cpu_seconds: user and system time of the process.
        before_bytes: resident memory before the call.
        peak_bytes: the most that was ever resident in the process, up to the call's end.
    """

    seconds: float
    cpu_seconds: float
    before_bytes: int
    peak_bytes: int


def alone(work: Callable[[Job], Result], job: Job) -> Result:
    """Call a module's function in a fresh process on one thread; exit if that process dies."""
    os.environ.update(ONE_THREAD)  # the new process's libraries read it
    try:
        [result] = run_jobs(work, [job], workers=1)
    except WorkError:
        sys.exit(f"the process of {work.__name__} {job} died (out of memory?)")
    return result


def spent(work: Callable[[], Result]) -> tuple[Result, Spent]:
    """Return a call's result with its time and memory."""
    before, begin, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    return result, Spent(seconds, cpu_seconds, before, memory("VmHWM"))


def costs(took: Sequence[Spent]) -> Row:
    """Summarise calls of one kind for a row: median times and the largest memory."""
    return {
        "cpu_seconds": statistics.median(one.cpu_seconds for one in took),
        "seconds": statistics.median(one.seconds for one in took),
        "peak_mb": max(one.peak_bytes for one in took) / MB,
        "before_mb": max(one.before_bytes for one in took) / MB,
    }


def memory(field: str) -> int:
    """Read a line of `/proc/self/status` of this process, such as `VmRSS` or `VmHWM`, in bytes."""
    # getrusage's peak counts the parent's memory too, where a process was started by vfork.
    status = Path("/proc/self/status")
    if not status.exists():
        sys.exit("peak memory can be measured on Linux only")
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
