"""TV-L1 optical flow (Zach, Pock and Bischof, DAGM 2007) by interchangeable engines.

The variant, its parameters and their defaults are those of OpenCV's `DualTVL1OpticalFlow`,
which is one of the engines; the others reproduce its results faster.
"""

import difflib
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from slic.errors import InputError, SettingsError

Engine = Literal["auto", "cpu", "opencv"]

ENGINES: tuple[str, ...] = get_args(Engine)
ZERO_LEVEL = 128  # quantised value of no motion
_SMALLEST, _LARGEST = 1e-9, 1e6  # of parameters: products of three stay finite in float32
_CPU_REVISION = 1  # to be raised when the CPU engine's results change


@dataclass(frozen=True)
class Tvl1Parameters:
    """Parameters of TV-L1, named and defaulted as in OpenCV's DualTVL1OpticalFlow.

    Attributes:
        tau: step of the dual update.
        lambda_: weight of the data term; smaller is smoother.
        theta: tightness of the coupling of data term and smoothness.
        nscales: scales at most; fewer where a side would fall under 16 pixels.
        warps: linearisations a scale.
        epsilon: stop where the root mean square change of the flow is not above it, in pixels.
        inner_iterations: iterations between median filters, at most.
        outer_iterations: median filters a warp, at most.
        scale_step: size of a scale relative to the next finer one.
        median_filtering: side of the median filter in pixels, 3 or 5; 1 for none.

    Raises:
        SettingsError: a value is of the wrong type or out of range.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    nscales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    scale_step: float = 0.8
    median_filtering: int = 5

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_number(field.name, getattr(self, field.name), whole=field.type is int)
        if not self.scale_step < 1:
            raise SettingsError(f"TV-L1 parameter scale_step is {self.scale_step}: use 0 < x < 1")
        if self.median_filtering not in (1, 3, 5):
            size = self.median_filtering
            raise SettingsError(f"TV-L1 parameter median_filtering is {size}: use 1, 3 or 5")

    @classmethod
    def named(cls, **parameters: Any) -> "Tvl1Parameters":
        """Parameters from keywords; a `SettingsError` names what an unknown one may mean."""
        names = [field.name for field in fields(cls)]
        for name in parameters:
            if name not in names:
                nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
                raise SettingsError(f"unknown TV-L1 parameter {name!r}: did you mean {nearest!r}?")
        return cls(**parameters)


def _check_number(name: str, value: object, *, whole: bool) -> None:
    lowest = 1 if whole else _SMALLEST
    kind = f"{'an integer' if whole else 'a number'} from {lowest:g} to {_LARGEST:g}"
    types = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    right_type = isinstance(value, types) and not isinstance(value, bool)
    if not right_type or not lowest <= value <= _LARGEST:  # type: ignore[operator]
        raise SettingsError(f"TV-L1 parameter {name} is {value!r}: use {kind}")


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
