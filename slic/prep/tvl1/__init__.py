"""TV-L1 optical flow (Zach, Pock and Bischof, DAGM 2007), computed by interchangeable engines.

The variant, its parameters and their defaults are those of OpenCV's `DualTVL1OpticalFlow`,
which is one of the engines; the others reproduce its results faster.
"""

from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np

from slic.errors import InputError
from slic.prep.tvl1.parameters import Tvl1Parameters

__all__ = [
    "ENGINES",
    "Engine",
    "Tvl1Parameters",
    "engine_version",
    "resolve_engine",
    "tvl1_flow",
]

Engine = Literal["auto", "cuda", "cpu", "torch", "opencv"]

ENGINES: tuple[str, ...] = get_args(Engine)
ON_DEVICES = ("cuda", "torch")
# Increased when an engine's results change; stored with the flow.
_REVISIONS = {"cpu": 1, "cuda": 1, "torch": 1}


def resolve_engine(engine: str, device: str | None = None) -> tuple[str, str]:
    """Resolve "auto" to an engine and a device of this machine.

    Args:
        engine: "cuda" (Triton on a GPU), "cpu" (Numba), "torch" (plain PyTorch on any device),
            "opencv", or "auto": "cuda" if there are a GPU and Triton, else "cpu".
        device: "cpu", "cuda", "cuda:1" or another PyTorch device. None or "auto": the engine's
            best.

    Returns:
        The engine, one of ENGINES but not "auto", and the device.

    Raises:
        InputError: the engine or the device does not exist, or cannot be used here.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown TV-L1 engine {engine!r}: use one of {', '.join(ENGINES)}")
    chosen = None if device == "auto" else device
    if engine == "auto":
        engine = _best_engine(chosen)
    if engine in ON_DEVICES:
        from slic.prep.tvl1.device import check_device

        return engine, check_device(engine, chosen)
    if chosen not in (None, "cpu"):
        raise InputError(f"TV-L1 engine {engine!r} does not run on device {device!r}: use 'cpu'")
    return engine, "cpu"


def _best_engine(device: str | None) -> str:
    if device == "cpu":
        return "cpu"
    if device is not None and not device.startswith("cuda"):
        return "torch"
    import torch

    if device is None and not torch.cuda.is_available():
        return "cpu"
    return "cuda" if find_spec("triton") else "torch"


def engine_version(engine: str) -> str:
    """Return the name and revision of a resolved engine, such as `cpu-1`."""
    if engine in _REVISIONS:
        return f"{engine}-{_REVISIONS[engine]}"
    import cv2

    return f"opencv-{cv2.__version__}"


def tvl1_flow(
    frames: np.ndarray,
    *,
    engine: Engine = "auto",
    device: str | None = None,
    **parameters: Any,
) -> np.ndarray:
    """Compute the TV-L1 flow from each frame to the next.

    Args:
        frames: gray frames, uint8 `(T, H, W)`.
        engine, device: as for `resolve_engine`. Compiled engines compile on first use, and cache
            the result on disk.
        **parameters: fields of `Tvl1Parameters`.

    Returns:
        Flow, float32 `(T-1, H, W, 2)`: u to the right and v down, in pixels per frame;
        `(0, H, W, 2)` if T is 0 or 1.

    Raises:
        InputError: wrong shape or dtype of frames, or an unknown engine, device or parameter.
        WorkError: the device has too little memory for one pair.
    """
    name, where = resolve_engine(engine, device)
    settings = Tvl1Parameters.named(**parameters)
    _check_frames(frames)
    if len(frames) < 2:
        return np.empty((0, *frames.shape[1:], 2), np.float32)
    if name == "opencv":
        from slic.prep.tvl1 import opencv_engine

        return opencv_engine.flow(frames, settings)
    if name == "cpu":
        from slic.prep.tvl1 import cpu_engine

        return cpu_engine.flow(frames, settings)
    from slic.prep.tvl1.device import DeviceSolver

    return DeviceSolver(name, where, settings).flow(frames)


def _check_frames(frames: object) -> None:
    if not isinstance(frames, np.ndarray):
        raise InputError(f"frames for TV-L1 are {type(frames).__name__}: give a uint8 array")
    if frames.dtype != np.uint8:
        raise InputError(f"frames for TV-L1 are {frames.dtype}: give uint8, 0 to 255")
    if frames.ndim != 3 or 0 in frames.shape[1:]:
        raise InputError(f"frames for TV-L1 have shape {frames.shape}: give gray (T, H, W)")
