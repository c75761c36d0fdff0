"""Run a command and measure its whole tree of processes, from Linux's /proc."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Measured:
    """Time, memory and output of a command.

    Attributes:
        seconds: wall time.
        cpu_seconds: user and system time of all its processes, each as last seen.
        peak_bytes: largest sum of the resident sets of its processes, every 50 ms; what
            processes share counts in each of them.
        stdout: what it printed.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    stdout: str = ""


def run_measured(command: Sequence[str]) -> Measured:
    """Run a command in a session of its own, by which its processes are recognised.

    Exits, with the command's last lines, if it fails.
    """
    if not sys.platform.startswith("linux"):
        sys.exit("memory and CPU time of a tree of processes can be measured on Linux only")
    result, ticks = Measured(), {}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            while child.poll() is None:
                resident = 0
                for pid, used, pages in _session(child.pid):
                    ticks[pid] = used
                    resident += pages * PAGE
                result.peak_bytes = max(result.peak_bytes, resident)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(SAMPLE_EVERY_S)
            result.seconds = time.perf_counter() - begin
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        result.cpu_seconds = sum(ticks.values()) / TICKS_PER_S
        for file in (out, err):
            file.seek(0)
        result.stdout = out.read()
        if child.returncode:
            sys.exit(f"{' '.join(command[:6])} ... failed:\n{err.read()[-2000:]}")
    return result


def _session(session: int) -> Iterator[tuple[int, int, int]]:
    """Return process, clock ticks used and resident pages of every process in a session."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold blanks; state, parent, group, session follow.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                yield int(folder.name), int(fields[11]) + int(fields[12]), int(fields[21])
