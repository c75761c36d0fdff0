"""`--scheduler`: the jobs of `prep` on the workers of a Dask cluster, in this process's charge.

Workers move arrays into the store; its index is written by this process alone.
"""

import asyncio
import contextlib
import logging
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from slic.cache import video_key
from slic.errors import InputError, WorkError
from slic.prep.tvl1 import ON_DEVICES, resolve_engine
from slic.prep.workers.claims import claim_of, content, renew
from slic.prep.workers.executor import J, Result
from slic.prep.workers.on_worker import Place, look_around, other_version, run_job, versions
from slic.runtime.console import say
from slic.runtime.processes import IN_FLIGHT_PER_WORKER, in_flight

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 5.0
FIRST_WORKER_S = 10.0
LOOK_EVERY_S = 10.0
WITHOUT_WORKERS_S = 120.0
TRIES_AGAIN = 2  # of a job that ends with an error
GPU = "GPU"  # the resource that a worker of a GPU has one of
VIDEOS_PER_GPU = 8
GONE = "the scheduler is gone: start it and its workers again, and run the same command again"
T = TypeVar("T")


@dataclass(frozen=True)
class _Lost(Generic[T]):
    """A job that ended with its workers, again and again."""

    job: T


@contextlib.contextmanager
def connected(address: str) -> Iterator["Cluster"]:
    """The cluster of a scheduler.

    Raises:
        InputError: Dask is missing, no scheduler answers, or it has no workers.
    """
    try:
        from distributed import Client
        from distributed.versions import VersionMismatchWarning
    except ImportError:
        raise InputError("--scheduler needs Dask: pip install 'slic[dask]'") from None
    with _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # told in a line of our own
        _check_address(address)
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
        try:
            yield Cluster(client, address)
        finally:
            client.close(timeout=CONNECT_S)


def _check_address(address: str) -> None:
    """Refuse an address where no scheduler answers; a client would ask on, and not end.

    Raises:
        InputError: with the reason.
    """
    from distributed.core import rpc
    from distributed.security import Security

    async def identity() -> Any:
        security = Security().get_connection_args("client")  # as `Client` takes it, of Dask's files
        async with rpc(address, timeout=CONNECT_S, connection_args=security) as scheduler:
            return await scheduler.identity()

    async def soon() -> Any:
        return await asyncio.wait_for(identity(), CONNECT_S)

    try:
        with ThreadPoolExecutor(1) as thread:  # in this one, a notebook's loop may be running
            kind = thread.submit(lambda: asyncio.run(soon())).result()["type"]
        said = "" if kind == "Scheduler" else f"that is a {str(kind).lower()}"
    except TimeoutError:
        said = f"not within {CONNECT_S:g} s"
    except Exception as error:  # whatever an address or what answers there may bring about
        said = _first_line(error)
    if said:
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers ({said}); start one by"
            " `dask scheduler`, and give the address that it prints"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within, what Dask logs of lost connections does not mix with the progress."""
    logs = "distributed", "tornado.application"
    names = (*logs, *(n for n in logging.root.manager.loggerDict if "distributed." in n))
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class Cluster:
    """An executor of Dask workers.

    Args:
        client: connected.
        address: of its scheduler, as it was given.
    """

    def __init__(self, client: "Client", address: str) -> None:
        self.client = client
        self.address = address
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        except TimeoutError:
            raise InputError(
                f"--scheduler {address}: it has no workers; start some by `dask worker {address}`"
            ) from None

    def run(
        self,
        work: Callable[[J], Result],
        jobs: Sequence[J],
        *,
        lost: Callable[[J, str], Result],
        counted: Callable[[int], None] | None = None,
        device: str = "cpu",
    ) -> Generator[Result]:
        """As `Crew.run`; jobs whose worker dies are done by another.

        Raises:
            InputError: a worker is of another version, or does not see store or data set.
            WorkError: the scheduler or all workers are gone, or the store cannot be written.
        """
        from distributed.client import ClosedClientError

        gone = WorkError(f"{self.address}: {GONE}")
        if self.client.status == "closed":  # as it does when it has waited for a scheduler in vain
            raise gone
        with claim_of(jobs[0].store) as claim:
            roots = {root.absolute() for job in jobs if (root := getattr(job, "root", None))}
            place = Place(claim, content(claim) or "", tuple(sorted(roots)), versions())
            try:
                self._look_around(place)
            except OSError:
                raise gone from None
            stage = _Stage(self, work, place, counted=counted, device=device)
            try:
                yield from stage.results(jobs, lost)
            except (CancelledError, ClosedClientError):
                raise gone from None
            finally:
                stage.close()

    def _look_around(self, place: Place) -> None:
        """Ask every worker what it is and sees.

        Raises:
            InputError: one does not fit.
            OSError: the scheduler is gone.
        """
        try:
            theirs = self.client.run_on_scheduler(versions)
        except (ImportError, RuntimeError) as error:
            raise InputError(_without_slic("the scheduler", error)) from None
        if said := other_version("the scheduler", theirs, place.versions):
            raise InputError(said)
        found = self.client.run(look_around, place, on_error="return")
        for worker, facts in sorted(found.items()):
            if isinstance(facts, OSError):
                continue  # it has just left; should it come back, it looks around by itself
            if isinstance(facts, Exception):
                raise InputError(_without_slic(f"worker {worker}", facts))
            if said := facts.misfit(f"worker {worker} ({facts.host})", place):
                raise InputError(said)

    def engine(self, engine: str, device: str | None) -> tuple[str, str]:
        """As `Crew.engine`, of the workers: `auto` is `cuda` where one of them has a GPU.

        Raises:
            InputError: there is no such engine, or no worker for it.
        """
        wanted = None if device == "auto" else device
        gpus = self.threads(GPU) > 0
        if engine == "auto":
            engine = "cuda" if gpus and wanted in (None, "cuda") else "cpu"
        if engine not in ON_DEVICES:
            return resolve_engine(engine, wanted)
        wanted = wanted or ("cuda" if gpus or engine == "cuda" else "cpu")
        if engine == "cuda" and wanted == "cpu":
            raise InputError("TV-L1 engine 'cuda' does not run on device 'cpu': use engine 'cpu'")
        if wanted not in ("cuda", "cpu"):
            raise InputError(f"--device {wanted}: with --scheduler each worker has its own: cuda")
        if wanted == "cuda" and not gpus:
            raise InputError(
                f"--scheduler {self.address}: no worker offers a GPU; start some by `dask worker"
                f" {self.address} --nworkers 1 --nthreads {VIDEOS_PER_GPU} --resources GPU=1`, or"
                " give --engine cpu"
            )
        return engine, wanted

    def told(self, jobs: int) -> str:
        """As `Crew.told`."""
        workers = self._workers()
        return f"by {len(workers)} worker{'s' * (len(workers) != 1)} of {self.address}"

    def threads(self, resource: str | None = None) -> int:
        """Threads of all workers, or of those that have a resource."""
        return sum(
            worker["nthreads"]
            for worker in self._workers()
            if resource is None or worker["resources"].get(resource, 0) > 0
        )

    def _workers(self) -> list[dict[str, Any]]:
        try:
            return list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        except (OSError, RuntimeError, TimeoutError):
            raise WorkError(f"{self.address}: {GONE}") from None


class _Stage(Generic[J, Result]):
    """Jobs of one kind, submitted a few at a time."""

    def __init__(
        self,
        cluster: Cluster,
        work: Callable[[J], Result],
        place: Place,
        *,
        counted: Callable[[int], None] | None,
        device: str,
    ) -> None:
        self.cluster, self.work, self.place = cluster, work, place
        self.counted = counted or (lambda units: None)
        self.resource = GPU if device == "cuda" else None
        each = {GPU: 1 / VIDEOS_PER_GPU} if self.resource else None
        self._executor = cluster.client.get_executor(
            pure=False, retries=TRIES_AGAIN, resources=each
        )
        self._threads = cluster.threads(self.resource)
        self._looked = self._last_seen = time.monotonic()

    def results(self, jobs: Sequence[J], lost: Callable[[J, str], Result]) -> Iterator[Result]:
        """Outcomes as they come; those last that no worker survived, each tried once more alone.

        A worker that dies takes with it what it had waiting beside the job that killed it.
        """
        suspects: list[J] = []
        for outcome in in_flight(self._submit, jobs, most=self._most, look=self._look):
            if isinstance(outcome, _Lost):
                suspects.append(outcome.job)
            else:
                yield self._taken(outcome)
        for outcome in in_flight(self._submit, suspects, most=1, look=self._look):
            if isinstance(outcome, _Lost):
                yield lost(outcome.job, "its workers died of it, again and again (out of memory?)")
            else:
                yield self._taken(outcome)

    def close(self) -> None:
        """Cancel what is under way."""
        if self.cluster.client.status != "closed":
            self._executor.shutdown(wait=False)

    def _taken(self, outcome: tuple[Result, int]) -> Result:
        result, units = outcome
        self.counted(units)
        return result

    def _submit(self, job: J) -> "Future[tuple[Result, int] | _Lost[J]]":
        everywhere = _absolute(job, self.place.claim)
        name = getattr(self.work, "func", self.work).__name__
        key = (name, video_key(job.id), uuid.uuid4().hex[:8])
        future = self._executor.submit(run_job, self.work, everywhere, self.place, key=key)
        return _surviving(future, job)

    def _most(self) -> int:
        return IN_FLIGHT_PER_WORKER * max(1, self._threads)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        if self.cluster.client.status == "closed":  # what it was just fetching never ends
            raise WorkError(f"{self.cluster.address}: {GONE}")
        renew(self.place.claim)
        self._threads = self.cluster.threads(self.resource)
        if self._threads:
            self._last_seen = now
        elif now - self._last_seen > WITHOUT_WORKERS_S:
            raise WorkError(
                f"{self.cluster.address}: no worker is left; start some, and run the same command"
                " again"
            )
        else:
            say(f"no worker is left at {self.cluster.address}: waiting for others")


def _without_slic(who: str, error: Exception) -> str:
    return f"{who} cannot use slic ({_first_line(error)}): install slic {versions()[0]} there"


def _absolute(job: J, claim: Path) -> J:
    """A job as other machines understand it, and may publish it."""
    values = {field.name: getattr(job, field.name) for field in fields(job)}  # type: ignore[arg-type]
    paths = {name: value.absolute() for name, value in values.items() if isinstance(value, Path)}
    done: J = replace(job, **{**paths, "claim": claim})  # type: ignore[type-var]
    return done


def _surviving(
    future: "Future[tuple[Result, int]]", job: J
) -> "Future[tuple[Result, int] | _Lost[J]]":
    """What comes of a Dask task, where it counts as an outcome that no worker survived it."""
    from distributed import KilledWorker

    told: Future[tuple[Result, int] | _Lost[J]] = Future()
    told.set_running_or_notify_cancel()  # no single one is cancelled: those soon done are taken

    def tell(done: "Future[tuple[Result, int]]") -> None:
        try:
            told.set_result(done.result())
        except KilledWorker:
            told.set_result(_Lost(job))
        except ImportError as error:
            told.set_exception(WorkError(_without_slic("a worker that has joined", error)))
        except (CancelledError, Exception) as error:
            told.set_exception(error)

    future.add_done_callback(tell)
    return told
