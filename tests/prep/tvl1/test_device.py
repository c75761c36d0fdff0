"""Batches of pairs on a device: what is solved together, and what happens without memory."""

import numpy as np
import pytest
import torch
from torch import Tensor

from slic.cache import quantise
from slic.errors import WorkError
from slic.prep.tvl1 import device, torch_engine, tvl1_flow
from slic.prep.tvl1.device import DeviceSolver
from slic.prep.tvl1.parameters import Tvl1Parameters
from tests.prep.tvl1.test_triton_kernels import moving

SHORT = Tvl1Parameters(nscales=2, warps=2, outer_iterations=2, inner_iterations=10)
CLIP = moving(20, 27, 6, seed=0)


def solver() -> DeviceSolver:
    return DeviceSolver("torch", "cpu", SHORT)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches solved; one of more than 1 pair finds no memory."""
    seen, solve = [], torch_engine.solve

    def scarce(frames: Tensor, firsts: Tensor, parameters: Tvl1Parameters) -> object:
        seen.append(len(firsts))
        if len(firsts) > 1:
            raise torch.OutOfMemoryError("no memory")
        return solve(frames, firsts, parameters)

    monkeypatch.setattr(torch_engine, "solve", scarce)
    monkeypatch.setattr(torch_engine, "pairs_at_once", lambda device, height, width: 7)
    return seen


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_blocks_are_solved_together_and_no_pair_spans_two(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(torch_engine, "pairs_at_once", lambda device, height, width: most)
    blocks = [CLIP[:4], moving(20, 27, 2, seed=1), moving(20, 27, 3, seed=2)]
    found = solver().levels(blocks, 2.0)
    assert [len(levels) for levels in found] == [3, 1, 2]
    for block, levels in zip(blocks, found, strict=True):
        alone = quantise(solver().flow(block), 2.0)
        assert levels.dtype == np.uint8
        # Batches differ by rounding, which may fall on either side of a half level.
        assert np.abs(levels.astype(int) - alone).max() <= 1
        assert (levels == alone).mean() > 0.999


def test_without_memory_batches_halve_and_nothing_is_lost(
    sizes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    few = solver()
    found = few.flow(CLIP)
    assert sizes == [5, 2, 1, 1, 1, 1, 1]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" pairs of ")[0].split()[-1] for line in said] == ["5", "2"]
    assert all("too little memory for the flow of" in line for line in said)
    np.testing.assert_allclose(found, tvl1_flow(CLIP, engine="cpu", **SHORT.__dict__), atol=2e-3)
    few.flow(CLIP[:3])
    assert sizes[7:] == [1, 1]  # it remembers
    # What was too much is so many pixels: of smaller frames there may be more.
    assert few.pairs_at_once(20, 27) == 1
    assert few.pairs_at_once(10, 9) == 6


def test_memory_too_small_for_one_pair_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch_engine, "solve", none)
    with pytest.raises(WorkError, match=r"cpu: too little memory .* one pair of 27x20; use"):
        solver().flow(CLIP)


def test_memory_that_is_short_for_the_result_halves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    quantised = device._quantised

    def scarce(flow: Tensor, bound: float) -> Tensor:
        if len(flow) > 3:
            raise torch.OutOfMemoryError("no memory")
        return quantised(flow, bound)

    expected = solver().levels([CLIP], 2.0)[0]
    monkeypatch.setattr(device, "_quantised", scarce)
    found = solver().levels([CLIP], 2.0)[0]
    assert (np.abs(found.astype(int) - expected) <= 1).all()


def test_flow_that_is_not_finite_never_becomes_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = torch_engine.solve

    def spoilt(*arguments: object) -> object:
        solution = solve(*arguments)  # type: ignore[arg-type]
        solution.flow[0, 3, 4, 1] = float("nan")
        return solution

    monkeypatch.setattr(torch_engine, "solve", spoilt)
    with pytest.raises(WorkError, match="not finite"):
        solver().levels([CLIP], 2.0)
