"""Worker processes on this machine."""

from collections.abc import Callable, Generator, Sequence

from slic.prep.tvl1 import resolve_engine
from slic.prep.workers.executor import J, Result
from slic.runtime.processes import available_cores, run_jobs


class LocalProcesses:
    """Worker processes on this machine.

    Args:
        workers: how many; all cores if None.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def run(
        self,
        work: Callable[[J], Result],
        jobs: Sequence[J],
        *,
        lost: Callable[[J, str], Result],
        counted: Callable[[int], None] | None = None,
        device: str = "cpu",
    ) -> Generator[Result]:
        """As `Executor.run`; a worker that dies ends it all."""
        yield from run_jobs(work, jobs, workers=self._count(len(jobs)), counted=counted)

    def engine(self, engine: str, device: str | None) -> tuple[str, str]:
        """As `Executor.engine`, of this machine."""
        return resolve_engine(engine, device)

    def told(self, jobs: int) -> str:
        """As `Executor.told`."""
        count = self._count(jobs)
        return f"in {count} process{'es' * (count > 1)}"

    def _count(self, jobs: int) -> int:
        return max(1, min(self.workers or available_cores(), jobs))
