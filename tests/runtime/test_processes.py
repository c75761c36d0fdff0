"""Work spread over processes."""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from slic.errors import WorkError
from slic.runtime import processes
from slic.runtime.processes import (
    IN_FLIGHT_PER_WORKER,
    POLL_EVERY_S,
    add_units,
    in_flight,
    run_jobs,
)


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


def test_dead_worker_is_one_line() -> None:
    with pytest.raises(WorkError, match=r"a worker process died.*run the same command again"):
        list(run_jobs(os._exit, [1], workers=1))


def test_error_of_a_job_comes_through() -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(run_jobs(math.sqrt, [4.0, -1.0], workers=1))


def test_units_are_counted_while_a_job_runs() -> None:
    counts: list[int] = []
    jobs = ["slow", "quick"]
    done = list(run_jobs(counting, jobs, workers=1, on_units=counts.append))
    assert sorted(done) == ["quick", "slow"]
    assert sum(counts) == 3 + 4 + 5
    # The slow job waits, between its two counts, longer than the time between two looks.
    assert counts[0] == 3


def counting(job: str) -> str:
    if job == "slow":
        add_units(3)
        time.sleep(4 * POLL_EVERY_S)
        add_units(4)
    else:
        add_units(5)
    return job


def test_what_may_be_in_flight_can_grow_and_shrink() -> None:
    waiting: list[Future[int]] = []
    allowed, sizes = [2, 2, 5, 5, 5, 1], []

    def most() -> int:
        return allowed.pop(0) if len(allowed) > 1 else allowed[0]

    def submit(job: int) -> Future[int]:
        waiting.append(Future())
        return waiting[-1]

    def look() -> None:
        under_way = [future for future in waiting if not future.done()]
        sizes.append(len(under_way))
        for future in under_way[:1]:
            future.set_result(0)

    assert len(list(in_flight(submit, range(9), limit=most, poll=look))) == 9
    assert sizes[0] == 2
    assert 4 <= max(sizes) <= 5
    assert sizes[-1] <= 1


def test_units_are_added_up_without_processes() -> None:
    with processes.collect_units() as units:
        add_units(3)
        add_units(4)
        assert units() == 7
    add_units(5)
    with processes.collect_units() as units:
        assert units() == 0
