"""OpenCV's TV-L1, the reference for the other engines."""

import cv2
import numpy as np

from slic.errors import InputError
from slic.prep.tvl1.parameters import Tvl1Parameters


def flow(frames: np.ndarray, parameters: Tvl1Parameters) -> np.ndarray:
    """Compute the flow from each frame to the next: `(T, H, W)` uint8 to `(T-1, H, W, 2)` float32.

    Raises:
        InputError: frames of a single row or column.
    """
    if 1 in frames.shape[1:]:  # OpenCV would read uninitialised memory
        raise InputError(
            f"OpenCV cannot compute TV-L1 of frames of {frames.shape[1:]}: use engine 'cpu'"
        )
    p = parameters
    arguments = {
        "tau": p.tau,
        "lambda_": p.lambda_,
        "theta": p.theta,
        "nscales": p.nscales,
        "warps": p.warps,
        "epsilon": p.epsilon,
        "innnerIterations": p.inner_iterations,  # OpenCV's spelling
        "outerIterations": p.outer_iterations,
        "scaleStep": p.scale_step,
        "medianFiltering": p.median_filtering,
    }
    result = np.empty((len(frames) - 1, *frames.shape[1:], 2), np.float32)
    for index, field in enumerate(result):
        # A new object for each pair: one that has seen a small image keeps fewer scales.
        solver = cv2.optflow.DualTVL1OpticalFlow_create(**arguments)  # type: ignore[attr-defined]
        first, second = np.ascontiguousarray(frames[index : index + 2])
        field[:] = solver.calc(first, second, None)
    return result
