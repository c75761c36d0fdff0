"""Fixtures of prep's tests: jobs in this process, one decoder."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from slic.prep.frames_video import close_decoder
from slic.prep.workers import executor


@pytest.fixture(scope="module", autouse=True)
def _one_decoder() -> Iterator[None]:
    yield
    close_decoder()


@pytest.fixture(scope="module")
def serial() -> Iterator[None]:
    """Local jobs run in this process: starting others takes longer."""

    def run_jobs(
        work: Callable, jobs: Iterable, *, workers: int, on_units: Callable
    ) -> Iterator[Any]:
        for job in jobs:
            done = work(job)
            on_units(getattr(job, "pairs", 0))
            yield done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "run_jobs", run_jobs)
        yield
