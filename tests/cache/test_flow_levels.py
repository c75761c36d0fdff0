"""Levels of stored flow, worked by hand."""

import numpy as np
import pytest

from slic.cache import dequantise, quantise
from slic.errors import InputError, WorkError


def test_quantise_worked_by_hand() -> None:
    # bound 10: one level is 10 / 127 = 0.0787 px. 1 px -> 12.7 -> 13 levels; 0.03 -> 0.38 -> 0.
    flow = np.float32([0, 1, -1, 0.03, -0.03, 10, -10, 11, -1e9, 5])
    expected = [128, 141, 115, 128, 128, 255, 1, 255, 1, 192]  # 63.5 rounds to the even 64
    quantised = quantise(flow, 10)
    assert quantised.dtype == np.uint8
    assert quantised.tolist() == expected


def test_opposite_flow_is_256_minus_the_level() -> None:
    flow = np.random.default_rng(5).uniform(-25, 25, 5000).astype(np.float32)
    np.testing.assert_array_equal(quantise(-flow, 20), 256 - quantise(flow, 20).astype(int))


def test_dequantise_inverts_every_level() -> None:
    levels = np.arange(1, 256, dtype=np.uint8)
    flow = dequantise(levels, 10.7)
    assert flow.dtype == np.float32
    assert flow[127] == 0
    assert flow[-1] == pytest.approx(10.7)
    assert flow[0] == pytest.approx(-10.7)
    np.testing.assert_array_equal(quantise(flow, 10.7), levels)


@pytest.mark.parametrize("bound", [0, -1, float("nan"), float("inf")])
def test_a_bound_must_be_positive(bound: float) -> None:
    with pytest.raises(InputError, match="bound"):
        quantise(np.zeros(2, np.float32), bound)
    with pytest.raises(InputError, match="bound"):
        dequantise(np.zeros(2, np.uint8), bound)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_of_pixels_is_refused(value: float) -> None:
    flow = np.ones((2, 3, 4, 2), np.float32)
    flow[1, 2, 3, :] = value
    with pytest.raises(WorkError, match="NaN or infinite at 2 of 48 values"):
        quantise(flow, 10)
