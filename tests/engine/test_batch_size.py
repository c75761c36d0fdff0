"""`--batch-size auto`, with memory simulated: a fixed part, and one for each sample."""

import pytest
import torch

from slic.config import make_settings
from slic.engine.batch_size import fitting_batch, largest_batch
from slic.engine.forward import ComputeOptions
from slic.errors import InputError, WorkError


def gpu(*, fixed: int, each: int, memory: int):
    """What a step takes, and which steps have been tried."""
    tried = []

    def peak(samples: int) -> int:
        tried.append(samples)
        if fixed + each * samples > memory:
            raise torch.OutOfMemoryError
        return fixed + each * samples

    return peak, tried


@pytest.mark.parametrize("free", [2_000, 3_100, 10_000, 12_345])
def test_the_batch_fills_most_of_the_memory_and_not_all(free: int) -> None:
    peak, _ = gpu(fixed=500, each=30, memory=free)
    batch = largest_batch(peak, free=free, most=10_000)
    assert batch % 8 == 0
    assert peak(batch) <= 0.85 * free < peak(batch + 8)


def test_a_small_data_set_bounds_it() -> None:
    peak, _ = gpu(fixed=500, each=30, memory=100_000)
    assert largest_batch(peak, free=100_000, most=37) == 32
    assert largest_batch(peak, free=100_000, most=7) == 7
    assert largest_batch(peak, free=100_000, most=2) == 2


def test_an_estimate_that_proves_too_large_is_lowered() -> None:
    """Memory for a hundred samples where the line promises a thousand."""
    peak, tried = gpu(fixed=0, each=10, memory=1_000)
    batch = largest_batch(peak, free=12_000, most=10_000)
    assert 72 <= batch <= 100
    assert max(tried) > 1_000


@pytest.mark.parametrize(("memory", "batch"), [(75, 7), (45, 3), (39, 3), (25, 2)])
def test_memory_for_a_few_samples(memory: int, batch: int) -> None:
    peak, _ = gpu(fixed=0, each=10, memory=memory)
    found = largest_batch(peak, free=memory, most=100)
    assert 2 <= found <= batch


def test_no_memory_for_two_is_one_line() -> None:
    peak, _ = gpu(fixed=0, each=10, memory=19)
    with pytest.raises(WorkError, match="--recompute"):
        largest_batch(peak, free=19, most=100)


def test_a_cpu_is_refused() -> None:
    with pytest.raises(InputError, match="give a number"):
        fitting_batch(
            make_settings("cpu-small"),
            clips=3,
            compute=ComputeOptions(torch.device("cpu")),
            videos=100,
        )
