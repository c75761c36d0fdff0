"""A Dask cluster of real processes on this machine, whose workers can be killed one by one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

from distributed import Client

from slic.cache import Entry
from slic.prep.frames_video import FrameJob, store_frames

HERE = Path(__file__).parent
STARTS_S, ENDS_S = 60.0, 10.0
QUIET = ("--no-dashboard",)
DEADLY = "deadly"


def store_frames_or_die(job: FrameJob) -> Entry:
    """What `prep frames` has its workers do; some videos kill them."""
    if DEADLY in job.id:
        os.kill(os.getpid(), signal.SIGKILL)
    return store_frames(job)


def _forgive(workers: int, dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = workers


class LocalCluster:
    """A scheduler and workers of one thread each.

    Args:
        folder: for the scheduler's address and all logs.
        workers: how many.
        nannies: how many of them have a parent that starts them again, as is Dask's default.
    """

    def __init__(self, folder: Path, workers: int, *, nannies: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._found = folder / "scheduler.json"
        self._numbers = iter(range(10**6))
        where = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self._found))
        self.scheduler = self._start("scheduler", *where)
        self.workers: list[subprocess.Popen[bytes]] = []
        _wait_until(self._found.exists)
        for number in range(workers):
            self.add_worker(nanny=number < nannies)

    @property
    def address(self) -> str:
        """What `--scheduler` takes."""
        return str(json.loads(self._found.read_text())["address"])

    def add_worker(self, *, nanny: bool = False) -> None:
        """Start one more."""
        words = ("--nthreads", "1", "--memory-limit", "0", *(() if nanny else ("--no-nanny",)))
        self.workers.append(self._start("worker", self.address, *words))

    def forgive(self, workers: int) -> None:
        """Let a task fail once it has lost more workers than that; Dask's default is 3."""
        with Client(self.address, set_as_default=False) as client:
            client.run_on_scheduler(_forgive, workers=workers)

    def kill(self, number: int) -> None:
        """Kill a worker with SIGKILL."""
        worker = self.workers.pop(number)
        worker.kill()
        worker.wait()

    def close(self) -> None:
        """End all processes."""
        processes = (*self.workers, self.scheduler)
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=ENDS_S)
            process.kill()
            process.wait()

    def said(self) -> str:
        """All logs."""
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("*.log")))

    def _start(self, kind: str, *words: str) -> "subprocess.Popen[bytes]":
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (self.folder / f"{kind}-{next(self._numbers)}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, *QUIET],
                cwd=self.folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + STARTS_S
    while not condition():
        assert time.monotonic() < until, "the cluster does not start"
        time.sleep(0.05)


@contextlib.contextmanager
def cluster_of(folder: Path, workers: int, **how: Any) -> Iterator[LocalCluster]:
    """A cluster that ends with the block."""
    cluster = LocalCluster(folder, workers, **how)
    try:
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def killing(cluster: LocalCluster, store: Path, rng: Random, *, most: int) -> Iterator[list[str]]:
    """Meanwhile, kill workers at random while videos are under way, and start others for them.

    Args:
        cluster: whose.
        store: where arrays under way are seen.
        rng: draws whom and when.
        most: kills in all.

    Yields:
        A line for each kill.
    """
    done, kills = Event(), list[str]()

    def under_way() -> list[str]:
        with contextlib.suppress(OSError):
            names = os.listdir(store / "index" / "writing")
            return [name for name in names if not name.startswith("claim.")]
        return []

    def kill() -> None:
        while len(kills) < most and not done.is_set():
            if not (found := under_way()):
                time.sleep(0.002)
                continue
            done.wait(rng.random() * rng.choice((0.01, 0.3)))
            cluster.kill(rng.randrange(len(cluster.workers)))
            cluster.add_worker()
            kills.append(f"while {found} under way")
            done.wait(rng.random() * 2)

    thread = Thread(target=kill)
    thread.start()
    try:
        yield kills
    finally:
        done.set()
        thread.join()
