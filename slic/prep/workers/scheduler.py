"""The executor of `--scheduler`: jobs on the workers of a Dask cluster.

Workers move arrays into the store; only this process writes its index.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from slic.cache import video_key
from slic.errors import InputError, WorkError
from slic.prep.tvl1 import ON_DEVICES, resolve_engine
from slic.prep.workers.jobs import J, Result, Stage, new_claim, read_claim, renew_claim
from slic.prep.workers.on_worker import (
    Requirements,
    find_problem,
    find_version_problem,
    run_job,
    versions,
)
from slic.runtime.console import say
from slic.runtime.processes import IN_FLIGHT_PER_WORKER, in_flight
from slic.runtime.text import first_line

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 5.0
FIRST_WORKER_S = 10.0
LOOK_EVERY_S = 10.0
WITHOUT_WORKERS_S = 120.0
RETRIES = 2  # of a job that raises an error
GPU = "GPU"  # Dask resource: a worker with a GPU offers one of it
VIDEOS_PER_GPU = 8


@contextlib.contextmanager
def connect(address: str) -> Iterator["DaskCluster"]:
    """Connect to the Dask scheduler at an address.

    Raises:
        InputError: Dask is missing, no scheduler answers, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--scheduler needs Dask: pip install 'slic[dask]'") from None
    with _quiet():
        _check_address(address)
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
        try:
            yield DaskCluster(client, address)
        finally:
            client.close(timeout=CONNECT_S)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Dask's log messages of lost connections, which would break the progress display."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _check_address(address: str) -> None:
    """Raise an InputError if no scheduler answers: `Client` would try for ever."""
    try:
        # In a thread of its own, because this one may run an event loop: a notebook's does.
        with ThreadPoolExecutor(1) as thread:
            kind = thread.submit(lambda: asyncio.run(_kind_of_server(address))).result()
        problem = "" if kind == "Scheduler" else f"this is a {kind.lower()}"
    except TimeoutError:
        problem = f"not within {CONNECT_S:g} s"
    except Exception as error:  # of any class, depending on the address and on what answers
        problem = first_line(error)
    if problem:
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers ({problem}); start one with"
            " `dask scheduler`, and give the address that it prints"
        )


async def _kind_of_server(address: str) -> str:
    from distributed.core import rpc
    from distributed.security import Security

    security = Security().get_connection_args("client")  # Dask's configuration, as for `Client`
    async with (
        asyncio.timeout(CONNECT_S),
        rpc(address, timeout=CONNECT_S, connection_args=security) as server,
    ):
        return str((await server.identity())["type"])


class DaskCluster:
    """Run jobs on the workers of a Dask cluster.

    Args:
        client: connected to its scheduler.
        address: of the scheduler, as the user gave it.

    Raises:
        InputError: it has no workers.
    """

    def __init__(self, client: "Client", address: str) -> None:
        self.client = client
        self.address = address
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        except TimeoutError:
            raise InputError(
                f"--scheduler {address}: it has no workers; start some with `dask worker {address}`"
            ) from None

    def run(self, stage: Stage[J, Result]) -> Generator[Result]:
        """Yield the results of jobs as `LocalProcesses.run` does, also if workers die.

        Raises:
            InputError: a worker has another version, or does not see the store or the data set.
            WorkError: the scheduler or all workers are gone, or the store cannot be written.
        """
        from distributed.client import ClosedClientError

        with new_claim(stage.jobs[0].store) as claim:
            try:
                required = self._check_workers(claim, stage.jobs)
                yield from _StageRun(self, stage, required).results()
            except (CancelledError, ClosedClientError):
                raise self.gone() from None

    def _check_workers(self, claim: Path, jobs: Iterable[J]) -> Requirements:
        """Return what the workers must meet, having asked those that there are.

        Raises:
            InputError: the scheduler or a worker does not meet it.
            WorkError: the scheduler is gone.
        """
        roots = {root for job in jobs if (root := getattr(job, "root", None))}
        required = Requirements(claim, read_claim(claim) or "", tuple(sorted(roots)), versions())
        if self.client.status == "closed":  # the client gave up
            raise self.gone()
        try:
            # Dask's scheduler unpickles jobs as well.
            problem = self.client.run_on_scheduler(find_version_problem, required.versions)
            answers = self.client.run(find_problem, required, on_error="return")
        except OSError:
            raise self.gone() from None
        except (ImportError, RuntimeError) as error:
            raise InputError(f"the scheduler {_without_slic(error)}") from None
        named = [(f"worker {address}", answer) for address, answer in sorted(answers.items())]
        for name, answer in [("the scheduler", problem), *named]:
            if isinstance(answer, OSError):
                continue  # the worker has just died; if it comes back, it is checked before a job
            if isinstance(answer, Exception):
                answer = _without_slic(answer)
            if answer is not None:
                raise InputError(f"{name} {answer}")
        return required

    def engine(self, engine: str, device: str | None) -> tuple[str, str]:
        """Resolve `auto` by what the workers offer: `cuda` if one of them has a GPU.

        Raises:
            InputError: there is no such engine, or no worker for it.
        """
        gpus = self.threads(GPU) > 0
        if device in (None, "auto"):
            wants_gpu = engine == "cuda" or (gpus and engine in ("auto", "torch"))
            device = "cuda" if wants_gpu else "cpu"
        if engine == "auto":
            engine = "cuda" if gpus and device == "cuda" else "cpu"
        if engine not in ON_DEVICES:
            return resolve_engine(engine, device)
        if engine == "cuda" and device == "cpu":
            raise InputError("TV-L1 engine 'cuda' does not run on device 'cpu': use engine 'cpu'")
        if device not in ("cuda", "cpu"):
            raise InputError(f"--device {device}: with --scheduler, choose cpu or cuda")
        if device == "cuda" and not gpus:
            raise InputError(
                f"--scheduler {self.address}: no worker offers a GPU; start some with `dask worker"
                f" {self.address} --nworkers 1 --nthreads {VIDEOS_PER_GPU} --resources GPU=1`, or"
                " use --engine cpu"
            )
        return engine, device

    def describe(self, jobs: int) -> str:
        """Return where jobs run, for people: `on 2 workers of tcp://host:8786`."""
        count = len(self._workers())
        return f"on {count} worker{'s' * (count != 1)} of {self.address}"

    def threads(self, resource: str | None = None) -> int:
        """Count the threads of all workers, or of those that offer a resource."""
        return sum(
            worker["nthreads"]
            for worker in self._workers()
            if resource is None or worker["resources"].get(resource, 0) > 0
        )

    def gone(self) -> WorkError:
        """Return the error of a scheduler that no longer answers."""
        return WorkError(
            f"{self.address}: the scheduler is gone: start it and its workers again, and run the"
            " same command again"
        )

    def _workers(self) -> list[dict[str, Any]]:
        try:
            return list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        except (OSError, RuntimeError, TimeoutError):
            raise self.gone() from None


class _StageRun(Generic[J, Result]):
    """The jobs of a stage, of which a few are submitted at a time."""

    def __init__(
        self, cluster: DaskCluster, stage: Stage[J, Result], required: Requirements
    ) -> None:
        self.cluster, self.stage, self.required = cluster, stage, required
        self.resource = GPU if stage.device == "cuda" else None
        share = {GPU: 1 / VIDEOS_PER_GPU} if self.resource else None
        self.executor = cluster.client.get_executor(pure=False, retries=RETRIES, resources=share)
        self.killed: list[J] = []
        self.threads = cluster.threads(self.resource)
        self.looked = self.last_seen = time.monotonic()

    def results(self) -> Iterator[Result]:
        """Yield the results of jobs; try those whose workers died again at the end, one by one.

        When a worker dies, Dask counts it against all jobs that were queued there.
        """
        try:
            yield from self._attempt(self.stage.jobs, self.limit)
            suspects, self.killed = self.killed, []
            yield from self._attempt(suspects, lambda: 1)
            for job in self.killed:
                yield self.stage.on_lost(job, "every worker that tried it died (out of memory?)")
        finally:
            if self.cluster.client.status != "closed":
                self.executor.shutdown(wait=False)  # cancels what is under way

    def limit(self) -> int:
        """Return how many jobs may be submitted at once."""
        return IN_FLIGHT_PER_WORKER * max(1, self.threads)

    def _attempt(self, jobs: Iterable[J], limit: Callable[[], int]) -> Iterator[Result]:
        """Yield results; collect in `killed` the jobs that lost too many workers."""
        from distributed import KilledWorker

        for job, task in in_flight(self._submit, jobs, limit=limit, poll=self._look):
            try:
                result, units = task.result()
            except KilledWorker:
                self.killed.append(job)
            except ImportError as error:
                raise WorkError(f"a worker that joined later {_without_slic(error)}") from None
            else:
                self.stage.on_units(units)
                yield result

    def _submit(self, job: J) -> "Future[tuple[J, Future[tuple[Result, int]]]]":
        """Submit a job; the future returned is of the job and its completed Dask task.

        It counts as running from the start, so that a stop leaves the task its time to complete.
        """
        work = self.stage.work
        key = (getattr(work, "func", work).__name__, video_key(job.id), uuid.uuid4().hex[:8])
        there = replace(job, store=job.store.absolute(), claim=self.required.claim)
        task = self.executor.submit(run_job, work, there, self.required, key=key)
        completed: Future[tuple[J, Future[tuple[Result, int]]]] = Future()
        completed.set_running_or_notify_cancel()
        task.add_done_callback(lambda done: completed.set_result((job, done)))
        return completed

    def _look(self) -> None:
        """Every few seconds: renew the claim, and see how many workers there are."""
        now, address = time.monotonic(), self.cluster.address
        if now - self.looked < LOOK_EVERY_S:
            return
        self.looked = now
        if self.cluster.client.status == "closed":  # tasks whose results it awaits never complete
            raise self.cluster.gone()
        renew_claim(self.required.claim)
        self.threads = self.cluster.threads(self.resource)
        if self.threads:
            self.last_seen = now
        elif now - self.last_seen > WITHOUT_WORKERS_S:
            raise WorkError(
                f"{address}: no worker is left; start some, and run the same command again"
            )
        else:
            say(f"no worker is left at {address}: waiting for others")


def _without_slic(error: Exception) -> str:
    return f"cannot import slic ({first_line(error)}): install slic {versions()[0]} there"
