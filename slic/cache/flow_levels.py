"""Flow as a store keeps it: uint8 levels, 128 for no motion, 255 for a bound in pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.errors import InputError, WorkError

ZERO_LEVEL = 128
FULL_SCALE = 127  # levels from no motion to the bound
_SHORT_SIDE_SHARE = 12  # of consecutive frames, little moves further than this share of a side
DEFAULT_BOUND = f"short side / {_SHORT_SIDE_SHARE}"


def default_bound(height: int, width: int) -> float:
    """Return the default bound of a video's flow in pixels per frame, given its size."""
    return min(height, width) / _SHORT_SIDE_SHARE


def quantise(flow: NDArray[Any], bound: float) -> NDArray[np.uint8]:
    """Quantise flow in pixels: 128 + rint(127 * clip(flow / bound, -1, 1)), as uint8.

    No motion is exactly 128, level 0 is unused, and the opposite of q is 256 - q.

    Args:
        flow: flow in pixels per frame, of any shape.
        bound: flow in pixels per frame at which levels saturate.

    Returns:
        Levels of the same shape.

    Raises:
        InputError: the bound is not a positive number.
        WorkError: the flow holds NaN or infinite values.
    """
    scaled = np.asarray(flow, np.float32) / np.float32(_check_bound(bound))
    if not (finite := np.isfinite(scaled)).all():
        wrong = scaled.size - np.count_nonzero(finite)
        raise WorkError(f"flow is NaN or infinite at {wrong} of {scaled.size} values")
    return (ZERO_LEVEL + np.rint(FULL_SCALE * np.clip(scaled, -1, 1))).astype(np.uint8)


def dequantise(quantised: NDArray[np.uint8], bound: float) -> NDArray[np.float32]:
    """Convert levels of `quantise` to flow in pixels, float32 of the same shape.

    Raises:
        InputError: the bound is not a positive number.
    """
    levels = np.asarray(quantised).astype(np.float32) - ZERO_LEVEL
    return levels * np.float32(_check_bound(bound) / FULL_SCALE)


def _check_bound(bound: float) -> float:
    if not 0 < bound < float("inf"):
        raise InputError(f"bound of the flow is {bound!r}: use a positive number of pixels")
    return bound
