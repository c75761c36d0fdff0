"""A network without gradients where memory is short."""

import pytest
import torch

from slic.errors import WorkError
from slic.runtime.oom_split import OOMSplitter


class Short:
    """Doubles and squares a batch, if it is of `room` items at most."""

    def __init__(self, room: int) -> None:
        self.room, self.tried = room, []

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.tried.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("no room")
        return 2 * batch, batch.flatten(1).square().sum(1)


@pytest.mark.parametrize("count", [1, 2, 7, 13])
@pytest.mark.parametrize("room", [1, 2, 3, 100])
def test_outputs_are_those_of_the_whole_batch(count, room):
    batch = torch.randn(count, 3, 2, generator=torch.Generator().manual_seed(count))
    doubled, squares = OOMSplitter(Short(room))(batch)
    assert torch.equal(doubled, 2 * batch)
    assert torch.equal(squares, torch.stack([(row**2).sum() for row in batch]))


def test_what_fitted_is_remembered():
    short = Short(3)
    in_parts = OOMSplitter(short)
    for _ in range(2):
        in_parts(torch.zeros(8, 1))
    assert short.tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]


def test_an_item_that_does_not_fit_alone_is_one_line():
    with pytest.raises(WorkError, match="cpu: out of memory for a single clip of 4 x 16 x 16"):
        OOMSplitter(Short(0))(torch.zeros(5, 4, 16, 16, 3))


def test_other_errors_come_through():
    def broken(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("of another kind")

    with pytest.raises(RuntimeError, match="of another kind"):
        OOMSplitter(broken)(torch.zeros(2, 1))
