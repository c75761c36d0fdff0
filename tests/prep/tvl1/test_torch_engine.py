"""The PyTorch engine of TV-L1: against OpenCV, batches against single pairs, little memory."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from slic.prep.tvl1 import torch_engine, torch_filters
from slic.prep.tvl1.device import DeviceSolver
from slic.prep.tvl1.parameters import Tvl1Parameters
from slic.prep.tvl1.pyramid import pyramid
from slic.prep.tvl1.torch_filters import median_filter

CPU = torch.device("cpu")
SPELT_IN_OPENCV = {
    "inner_iterations": "innnerIterations",
    "outer_iterations": "outerIterations",
    "scale_step": "scaleStep",
    "median_filtering": "medianFiltering",
}


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


def opencv_flow(frames: np.ndarray, **parameters: object) -> np.ndarray:
    named = asdict(Tvl1Parameters.named(**parameters))
    arguments = {SPELT_IN_OPENCV.get(name, name): value for name, value in named.items()}
    flows = []
    for first, second in pairwise(frames):
        solver = cv2.optflow.DualTVL1OpticalFlow_create(**arguments)
        flows.append(solver.calc(first, second, None))
    return np.stack(flows)


def end_point_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs, axis=-1).mean())


def texture(height: int, width: int, *, seed: int) -> np.ndarray:
    """Smooth random gray values, float32 (H, W), 0 to 255."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


def moving(count: int, height: int, width: int, *, seed: int = 0, speed: float = 1) -> np.ndarray:
    """A drifting texture with a rectangle of another going the other way, uint8 (T, H, W)."""
    pair = [texture(height + 40, width + 40, seed=seed + i) for i in range(2)]
    frames = []
    for t in range(count):
        layers = []
        for image, (x, y) in zip(pair, ((1.3, -0.7), (-0.9, 0.4)), strict=True):
            shift = np.float32([[1, 0, speed * x * t - 20], [0, 1, speed * y * t - 20]])
            layers.append(cv2.warpAffine(image, shift, (width, height), flags=cv2.INTER_CUBIC))
        back, front = layers
        part = slice(height // 4, height // 2), slice(width // 3, 2 * width // 3)
        back[part] = front[part]
        frames.append(back)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def mixed(height: int, width: int) -> np.ndarray:
    """Easy and hard pairs in turn: static, slow, a scene cut, fast, constant frames."""
    slow, fast = moving(2, height, width), moving(3, height, width, seed=7, speed=3)
    constant = np.full((2, height, width), 90, np.uint8)
    return np.concatenate([slow[:1], slow, fast, constant])


@pytest.mark.parametrize(
    "size", [(96, 128), (61, 83), (45, 33), (19, 150), (16, 16), (15, 40), (2, 9), (3, 40)]
)
def test_agrees_with_opencv(size: tuple[int, int]) -> None:
    frames = moving(4, *size)  # rounding may stop a pair an iteration later: over several pairs
    ours, theirs = flow(frames), opencv_flow(frames)
    assert ours.shape == (3, *size, 2)
    assert ours.dtype == np.float32
    assert np.abs(theirs).mean() > 0.2  # there is motion to agree on
    assert end_point_error(ours, theirs) <= 0.02


@pytest.mark.parametrize(
    "parameters",
    [
        {"median_filtering": 1},
        {"median_filtering": 3},
        {"scale_step": 0.5, "nscales": 3},
        {"scale_step": 0.99, "nscales": 3},
        {"nscales": 1},
        {"warps": 3},
        {"inner_iterations": 7},
        {"outer_iterations": 4},
        {"tau": 0.15},
        {"lambda_": 0.05},
        {"theta": 0.5},
    ],
)
def test_every_parameter_means_what_it_means_in_opencv(parameters: dict) -> None:
    frames = moving(3, 42, 56)
    # So many iterations each, and few warps: warps enlarge the least difference in rounding.
    few = {"epsilon": 1e-9, "warps": 2, "inner_iterations": 12, "outer_iterations": 2}
    ours = flow(frames, **{**few, **parameters})
    assert end_point_error(ours, opencv_flow(frames, **{**few, **parameters})) <= 0.001
    assert end_point_error(ours, flow(frames, **few)) > 0.015


@pytest.mark.parametrize("epsilon", [0.1, 0.003])
def test_pairs_stop_where_they_do_in_opencv(epsilon: float) -> None:
    frames, one = moving(4, 42, 56, speed=0.3), {"nscales": 1, "warps": 1}
    ours = flow(frames, epsilon=epsilon, **one)
    assert end_point_error(ours, opencv_flow(frames, epsilon=epsilon, **one)) <= 0.001
    assert end_point_error(ours, flow(frames, **one)) > 0.01


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    frames = mixed(34, 45)
    return np.concatenate([flow(frames[t : t + 2]) for t in range(len(frames) - 1)])


@pytest.mark.parametrize("look_every", [1, 4])
@pytest.mark.parametrize("batch", [1, 2, None])
def test_pairs_do_not_depend_on_their_batch(
    batch: int | None, look_every: int, alone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "_look_every", lambda device: look_every)
    np.testing.assert_allclose(flow(mixed(34, 45), batch=batch), alone, atol=1e-4)


def test_pairs_that_never_converge_do_not_depend_on_those_that_do() -> None:
    frames = mixed(34, 45)
    few = {"epsilon": 1e-7, "inner_iterations": 5, "outer_iterations": 3}
    alone = np.concatenate([flow(frames[t : t + 2], **few) for t in range(len(frames) - 1)])
    np.testing.assert_allclose(flow(frames, **few), alone, atol=1e-4)


def test_a_line_of_pixels_flows_along_itself() -> None:
    line = moving(2, 32, 40)[:, :1]
    across, down = flow(line), flow(line.transpose(0, 2, 1))
    assert np.abs(across[..., 0]).mean() > 0.3
    assert not across[..., 1].any()
    np.testing.assert_allclose(down.transpose(0, 2, 1, 3)[..., ::-1], across, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 1), (2, 2), (40, 56)])
def test_what_does_not_move_has_exactly_no_flow(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)
    assert not flow(np.stack([frame, frame])).any()
    levels = np.uint8([0, 0, 255, 90])
    assert not flow(np.ones((4, *size), np.uint8) * levels[:, None, None]).any()


def test_scene_cuts_and_absurd_parameters_stay_finite() -> None:
    cut = np.random.default_rng(2).integers(0, 2, (3, 40, 50)).astype(np.uint8) * 255
    assert np.isfinite(flow(cut)).all()
    assert np.isfinite(flow(cut, tau=1e6, lambda_=1e6, theta=1e-9)).all()
    assert np.isfinite(flow(cut, tau=1e6, lambda_=1e6, theta=1e6)).all()


def test_frames_need_not_be_contiguous_nor_writable_and_stay_as_they_are() -> None:
    frames = moving(2, 30, 38)
    frames.flags.writeable = False
    mirrored = frames[:, :, ::-1]
    before = mirrored.copy()
    np.testing.assert_array_equal(flow(mirrored), flow(before))
    np.testing.assert_array_equal(mirrored, before)
    assert np.isfinite(flow(frames)).all()


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


@pytest.mark.parametrize("step", [0.8, 0.5, 0.7, 0.99, 0.999])
@pytest.mark.parametrize("size", [(128, 171), (61, 83), (33, 400)])
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
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 2, 2, 7), (2, 3, 9, 1), (2, 2, 31, 43)])
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
