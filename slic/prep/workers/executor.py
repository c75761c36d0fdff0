"""What does the jobs of `prep`, one a video: the interface of both kinds of workers."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar


class Job(Protocol):
    """What every job of `prep` tells: video, store, and, on a cluster, its command's claim."""

    @property
    def id(self) -> str: ...
    @property
    def store(self) -> Path: ...
    @property
    def claim(self) -> Path | None: ...


J = TypeVar("J", bound=Job)
Result = TypeVar("Result")


class Executor(Protocol):
    """Does jobs, one a video."""

    def run(
        self,
        work: Callable[[J], Result],
        jobs: Sequence[J],
        *,
        lost: Callable[[J, str], Result],
        counted: Callable[[int], None] | None = None,
        device: str = "cpu",
    ) -> Generator[Result]:
        """Outcomes in order of completion; to be closed where they are not all taken.

        Args:
            work: a function of a module, picklable.
            jobs: its arguments, picklable.
            lost: makes the outcome of a job that no worker survives, and why.
            counted: takes the units that jobs have told `slic.runtime.processes.add_units` of.
            device: on which `work` works.

        Raises:
            WorkError: all cannot go on; what is done so far is kept.
            KeyboardInterrupt: told to stop.
        """
        ...

    def engine(self, engine: str, device: str | None) -> tuple[str, str]:
        """The engine of TV-L1 and the device that are meant; see `resolve_engine`."""
        ...

    def told(self, jobs: int) -> str:
        """Who does so many jobs, for people."""
        ...
