"""TV-L1 optical flow (Zach, Pock and Bischof, DAGM 2007) by interchangeable engines.

The variant, its parameters and their defaults are those of OpenCV's `DualTVL1OpticalFlow`,
which is one of the engines; the others reproduce its results faster.
"""

from typing import Any, Literal, get_args

import numpy as np

from slic.errors import InputError
from slic.prep.tvl1_parameters import Tvl1Parameters

__all__ = [
    "ENGINES",
    "Engine",
    "Tvl1Parameters",
    "dequantise",
    "engine_version",
    "quantise",
    "resolve_engine",
    "tvl1_flow",
]

Engine = Literal["auto", "cpu", "opencv"]

ENGINES: tuple[str, ...] = get_args(Engine)
ZERO_LEVEL = 128  # quantised value of no motion
_CPU_REVISION = 1  # to be raised when the CPU engine's results change


def resolve_engine(engine: str) -> str:
    """The engine that `engine` stands for on this machine: "cpu" or "opencv".

    Raises:
        InputError: there is no such engine.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown TV-L1 engine {engine!r}: use one of {', '.join(ENGINES)}")
    return "cpu" if engine == "auto" else engine


def engine_version(engine: str) -> str:
    """Name and version of an engine's results, to be stored beside them."""
    if resolve_engine(engine) == "cpu":
        return f"cpu-{_CPU_REVISION}"
    import cv2

    return f"opencv-{cv2.__version__}"


def tvl1_flow(
    frames: np.ndarray,
    *,
    engine: Engine = "auto",
    device: str | None = None,
    **parameters: Any,
) -> np.ndarray:
    """TV-L1 flow of each frame to the next.

    Args:
        frames: gray, uint8 `(T, H, W)`.
        engine: "cpu" (compiled on first use, then cached), "opencv", or "auto" for the best
            one here.
        device: None or "cpu".
        **parameters: fields of `Tvl1Parameters`.

    Returns:
        float32 `(T-1, H, W, 2)`: u to the right and v down, in pixels a frame; `(0, H, W, 2)`
        where T is 0 or 1.

    Raises:
        InputError: frames of another shape or dtype, an unknown engine, device or parameter.
    """
    chosen = resolve_engine(engine)
    if device not in (None, "cpu"):
        raise InputError(f"TV-L1 engine {chosen!r} does not run on device {device!r}: use 'cpu'")
    settings = Tvl1Parameters.named(**parameters)
    _check_frames(frames)
    if len(frames) < 2:
        return np.empty((0, *frames.shape[1:], 2), np.float32)
    if chosen == "opencv":
        return _opencv_flow(frames, settings)
    from slic.prep import tvl1_cpu

    return tvl1_cpu.flow(frames, settings)


def _check_frames(frames: object) -> None:
    if not isinstance(frames, np.ndarray):
        raise InputError(f"frames for TV-L1 are {type(frames).__name__}: give a uint8 array")
    if frames.dtype != np.uint8:
        raise InputError(f"frames for TV-L1 are {frames.dtype}: give uint8, 0 to 255")
    if frames.ndim != 3 or 0 in frames.shape[1:]:
        raise InputError(f"frames for TV-L1 have shape {frames.shape}: give gray (T, H, W)")


def _opencv_flow(frames: np.ndarray, p: Tvl1Parameters) -> np.ndarray:
    import cv2

    if 1 in frames.shape[1:]:  # it takes gradients from memory that it never filled
        raise InputError(f"OpenCV cannot do TV-L1 on frames {frames.shape[1:]}: use engine 'cpu'")
    arguments = {
        "tau": p.tau,
        "lambda_": p.lambda_,
        "theta": p.theta,
        "nscales": p.nscales,
        "warps": p.warps,
        "epsilon": p.epsilon,
        "innnerIterations": p.inner_iterations,  # spelt so in OpenCV
        "outerIterations": p.outer_iterations,
        "scaleStep": p.scale_step,
        "medianFiltering": p.median_filtering,
    }
    result = np.empty((len(frames) - 1, *frames.shape[1:], 2), np.float32)
    for index, flow in enumerate(result):
        # A new object for each pair: after a small image it would keep fewer scales.
        solver = cv2.optflow.DualTVL1OpticalFlow_create(**arguments)  # type: ignore[attr-defined]
        first, second = np.ascontiguousarray(frames[index : index + 2])
        flow[:] = solver.calc(first, second, None)
    return result


def quantise(flow: np.ndarray, bound: float) -> np.ndarray:
    """Flow in pixels as uint8 of the same shape: 128 + rint(127 * clip(flow / bound, -1, 1)).

    No motion is exactly 128, level 0 is unused, and the opposite of q is 256 - q.

    Raises:
        InputError: the bound, in pixels, is not positive.
    """
    scaled = np.asarray(flow, np.float32) / np.float32(_check_bound(bound))
    return (ZERO_LEVEL + np.rint(127 * np.clip(scaled, -1, 1))).astype(np.uint8)


def dequantise(quantised: np.ndarray, bound: float) -> np.ndarray:
    """Flow in pixels, float32, from `quantise`d levels of the same shape.

    Raises:
        InputError: the bound, in pixels, is not positive.
    """
    levels = np.asarray(quantised).astype(np.float32) - ZERO_LEVEL
    return levels * np.float32(_check_bound(bound) / 127)


def _check_bound(bound: float) -> float:
    if not 0 < bound < float("inf"):
        raise InputError(f"bound of the flow is {bound!r}: use a positive number of pixels")
    return bound
