"""The engines that run on a CPU: against OpenCV, and what all of them must do."""

import numpy as np
import pytest

from slic.cache import quantise
from slic.errors import InputError
from slic.prep.tvl1 import Engine, tvl1_flow
from tests.prep.tvl1.scenes import end_point_error, moving

pytestmark = pytest.mark.parametrize("engine", ["cpu", "torch"])


@pytest.mark.parametrize("size", [(96, 128), (61, 83), (19, 150), (16, 16), (15, 40), (2, 9)])
def test_flow_is_that_of_opencv(engine: Engine, size: tuple[int, int]) -> None:
    frames = moving(4, *size)  # rounding may stop a pair an iteration later: over several pairs
    ours, theirs = tvl1_flow(frames, engine=engine), tvl1_flow(frames, engine="opencv")
    assert ours.shape == (3, *size, 2)
    assert ours.dtype == np.float32
    assert np.abs(theirs).mean() > 0.2  # there is motion to agree on
    assert end_point_error(ours, theirs) <= 0.02
    levels = quantise(ours, 20).astype(int) - quantise(theirs, 20)
    assert (np.abs(levels) <= 1).mean() >= 0.99


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
    ids=str,
)
def test_every_parameter_means_what_it_means_in_opencv(engine: Engine, parameters: dict) -> None:
    frames = moving(3, 42, 56)
    # So many iterations each, and few warps: warps enlarge the least difference in rounding.
    few = {"epsilon": 1e-9, "warps": 2, "inner_iterations": 12, "outer_iterations": 2}
    ours = tvl1_flow(frames, engine=engine, **{**few, **parameters})
    theirs = tvl1_flow(frames, engine="opencv", **{**few, **parameters})
    assert end_point_error(ours, theirs) <= 0.001
    assert end_point_error(ours, tvl1_flow(frames, engine=engine, **few)) > 0.015


@pytest.mark.parametrize("epsilon", [0.1, 0.003])
def test_pairs_stop_where_they_do_in_opencv(engine: Engine, epsilon: float) -> None:
    frames, one = moving(4, 42, 56, speed=0.3), {"nscales": 1, "warps": 1}
    ours = tvl1_flow(frames, engine=engine, epsilon=epsilon, **one)
    theirs = tvl1_flow(frames, engine="opencv", epsilon=epsilon, **one)
    assert end_point_error(ours, theirs) <= 0.001
    assert end_point_error(ours, tvl1_flow(frames, engine=engine, **one)) > 0.01


def test_a_line_of_pixels_flows_along_itself(engine: Engine) -> None:
    line = moving(2, 32, 40)[:, :1]
    across = tvl1_flow(line, engine=engine)
    down = tvl1_flow(line.transpose(0, 2, 1), engine=engine)
    assert np.abs(across[..., 0]).mean() > 0.3
    assert not across[..., 1].any()
    np.testing.assert_allclose(down.transpose(0, 2, 1, 3)[..., ::-1], across, atol=1e-4)
    with pytest.raises(InputError, match=r"of \(1, 40\): use engine 'cpu'"):
        tvl1_flow(line, engine="opencv")


@pytest.mark.parametrize("size", [(1, 1), (7, 1), (2, 2), (40, 56)])
def test_what_does_not_move_has_exactly_no_flow(engine: Engine, size: tuple[int, int]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)
    still = tvl1_flow(np.stack([frame, frame]), engine=engine)
    assert not still.any()
    assert (quantise(still, 20) == 128).all()
    brightness = np.uint8([0, 0, 255, 90])
    uniform = np.ones((4, *size), np.uint8) * brightness[:, None, None]
    assert not tvl1_flow(uniform, engine=engine).any()


def test_scene_cuts_and_absurd_parameters_stay_finite(engine: Engine) -> None:
    cut = np.random.default_rng(2).integers(0, 2, (3, 40, 50)).astype(np.uint8) * 255
    assert np.isfinite(tvl1_flow(cut, engine=engine)).all()
    for theta in (1e-9, 1e6):
        flow = tvl1_flow(cut, engine=engine, tau=1e6, lambda_=1e6, theta=theta)
        assert np.isfinite(flow).all()


def test_frames_need_not_be_contiguous_nor_writable(engine: Engine) -> None:
    frames = moving(2, 30, 38)
    frames.flags.writeable = False
    mirrored = frames[:, :, ::-1]
    before = mirrored.copy()
    np.testing.assert_array_equal(
        tvl1_flow(mirrored, engine=engine), tvl1_flow(before, engine=engine)
    )
    np.testing.assert_array_equal(mirrored, before)


def test_a_video_equals_its_pairs_one_at_a_time(engine: Engine) -> None:
    frames = moving(4, 50, 67)
    pairs = [tvl1_flow(frames[t : t + 2], engine=engine)[0] for t in range(3)]
    np.testing.assert_allclose(tvl1_flow(frames, engine=engine), pairs, atol=1e-4)
