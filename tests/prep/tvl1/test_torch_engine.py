"""The PyTorch engine of TV-L1: batches against single pairs, little memory, filters."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from slic.prep.tvl1 import torch_engine, torch_filters
from slic.prep.tvl1.device import DeviceSolver
from slic.prep.tvl1.parameters import Tvl1Parameters
from slic.prep.tvl1.pyramid import pyramid
from slic.prep.tvl1.torch_filters import median_filter
from tests.prep.tvl1.scenes import moving

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take minutes here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def flow(frames: np.ndarray, *, batch: int | None = None, **parameters: object) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        if batch is not None:
            patch.setattr(torch_engine, "pairs_at_once", lambda device, height, width: batch)
        return DeviceSolver("torch", "cpu", Tvl1Parameters.named(**parameters)).flow(frames)


def mixed(height: int, width: int) -> np.ndarray:
    """Easy and hard pairs in turn: static, slow, a scene cut, fast, constant frames."""
    slow, fast = moving(2, height, width), moving(3, height, width, seed=7, speed=3)
    constant = np.full((2, height, width), 90, np.uint8)
    return np.concatenate([slow[:1], slow, fast, constant])


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    frames = mixed(34, 45)
    return np.concatenate([flow(frames[t : t + 2]) for t in range(len(frames) - 1)])


@pytest.mark.parametrize(("batch", "look_every"), [(1, 4), (2, 1), (None, 4)])
def test_pairs_do_not_depend_on_their_batch(
    batch: int | None, look_every: int, alone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "_look_every", lambda device: look_every)
    np.testing.assert_allclose(flow(mixed(34, 45), batch=batch), alone, atol=1e-4)


def failing(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """The first batch that is begun fails, as devices without an error of their own do."""
    solve, begun = torch_engine._solve, list[bool]()

    def fail(*arguments: object) -> object:
        begun.append(True)
        if len(begun) == 1:
            raise RuntimeError(message)
        return solve(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(torch_engine, "_solve", fail)


def test_too_little_memory_has_other_names_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving(4, 20, 24)
    expected = flow(frames, warps=1)
    failing(monkeypatch, "MPS backend out of memory (MPS allocated: 1 GB)")
    np.testing.assert_allclose(flow(frames, warps=1), expected, atol=1e-4)


def test_other_failures_are_not_taken_for_too_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, "unsupported memory format")
    with pytest.raises(RuntimeError, match="memory format"):
        flow(moving(2, 20, 24))


def test_pixels_bound_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "_PIXELS_ON_CPU", 2 * 20 * 24 + 100)
    assert torch_engine.pairs_at_once(CPU, 20, 24) == 2
    assert torch_engine.pairs_at_once(CPU, 2000, 2400) == 1
    assert torch_engine.pairs_at_once(torch.device("meta"), 20, 24) > 1000


def test_pixel_updates_are_counted() -> None:
    frames = torch.from_numpy(moving(3, 20, 24))
    firsts = torch.arange(2, dtype=torch.int32)
    # Two scales would need a side of 16 at the coarser one: 20 * 0.8 has it.
    few = Tvl1Parameters(nscales=2, warps=3, epsilon=1e-9, inner_iterations=2, outer_iterations=4)
    done = torch_engine.solve(frames, firsts, few).pixel_iterations
    assert done.tolist() == [3 * 2 * 4 * (20 * 24 + 16 * 19)] * 2
    still = torch_engine.solve(frames[:1].expand(3, -1, -1), firsts, few).pixel_iterations
    assert still.tolist() == [3 * (20 * 24 + 16 * 19)] * 2  # one iteration a warp


@pytest.mark.parametrize(
    ("size", "step"), [((128, 171), 0.8), ((61, 83), 0.5), ((61, 83), 0.999), ((33, 400), 0.7)]
)
def test_pyramid_is_opencvs(size: tuple[int, int], step: float) -> None:
    frames = np.random.default_rng(4).integers(0, 256, (2, *size)).astype(np.uint8)
    ours = pyramid(torch.from_numpy(frames), Tvl1Parameters(scale_step=step))
    for index, frame in enumerate(frames):
        image = frame.astype(np.float32)
        for scale in ours:
            np.testing.assert_allclose(scale[index], image, atol=1e-3)
            image = cv2.resize(image, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    assert len(ours) == 5 or min(image.shape) < 16


@pytest.mark.parametrize("at_a_time", [1, 200, 10**6])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 2, 2, 7), (2, 2, 31, 43)])
def test_median_filter_is_a_median(
    shape: tuple[int, ...], size: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_filters, "_MEDIANS_ON_CPU", at_a_time)
    rng = np.random.default_rng(7)
    for image in (rng.standard_normal(shape), rng.integers(0, 3, shape)):
        planes = image.astype(np.float32)
        padded = np.pad(planes, ((0, 0), (0, 0), *((size // 2, size // 2),) * 2), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
        filtered = median_filter(torch.from_numpy(planes), size)
        np.testing.assert_array_equal(filtered, np.median(windows, axis=(4, 5)))
