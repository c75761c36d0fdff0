"""Work spread over processes."""

import math
import os
from collections.abc import Iterator

import pytest

from slic.errors import WorkError
from slic.processes import IN_FLIGHT_PER_WORKER, default_workers, run_jobs


def test_every_job_is_done_once_and_read_as_needed() -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield -number

    found, most = [], 0
    for result in run_jobs(abs, jobs(), workers=2):
        found.append(result)
        most = max(most, taken - len(found))
    assert sorted(found) == list(range(40))
    # Those in flight, and those done with them that have not been handed over yet.
    assert most <= 2 * IN_FLIGHT_PER_WORKER * 2


def test_no_jobs() -> None:
    assert list(run_jobs(abs, [], workers=1)) == []


def test_dead_worker_is_one_line() -> None:
    with pytest.raises(WorkError, match=r"a worker process died.*run the same command again"):
        list(run_jobs(os._exit, [1], workers=1))


def test_error_of_a_job_comes_through() -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(run_jobs(math.sqrt, [4.0, -1.0], workers=1))


def test_default_workers() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)
