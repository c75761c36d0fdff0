"""CPU engine of TV-L1: image pyramids and buffers for the compiled loops."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from slic.prep.tvl1.cpu_kernels import refine
from slic.prep.tvl1.cpu_warp import PAD, stack_gradients
from slic.prep.tvl1.parameters import SMALLEST_SIDE, Tvl1Parameters


@dataclass(frozen=True)
class Level:
    """One frame at one scale: `image`, float32 (H, W), and `stack`, filled by `stack_gradients`."""

    image: np.ndarray
    stack: np.ndarray


def _planes(count: int, *shape: int) -> tuple[np.ndarray, ...]:
    """Allocate zeros, float32: separate arrays, so that compiled loops over them vectorise."""
    return tuple(np.zeros(shape, np.float32) for _ in range(count))


class Scale:
    """Buffers of one scale, reused for every pair of a video."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (width, height)
        self.flow = _planes(2, height + 1, width + 1)
        self.dual = _planes(4, height + 1, width + 1)
        self.data = _planes(3, height, width + 1)
        columns, rows = np.zeros(width, np.int32), np.zeros(width, np.int32)
        for_warp = (columns, rows, _planes(4, width), _planes(4, width), *_planes(1, 4 * width))
        self.scratch = (for_warp, *_planes(1, height, width), *_planes(1, 5, width + 4))

    def start_from(self, coarser: "Scale | None", factor: float) -> None:
        """Set the flow to that of the coarser scale, times `factor`, or to zero without one."""
        width, height = self.size
        for index, own in enumerate(self.flow):
            if coarser is None:
                own[:] = 0
                continue
            columns, rows = coarser.size
            larger = cv2.resize(coarser.flow[index][:rows, :columns], self.size)
            own[:height, :width] = larger.reshape(height, width) * np.float32(factor)


def _smaller(image: np.ndarray, step: float) -> np.ndarray | None:
    """Return the next coarser scale of an image, or None if a side would be too small."""
    if min(round(side * step) for side in image.shape) < SMALLEST_SIDE:
        return None
    return cv2.resize(image, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)


def _pyramid(frame: np.ndarray, parameters: Tvl1Parameters) -> list[Level]:
    """Return a uint8 (H, W) frame as float32 levels, finest first."""
    levels: list[Level] = []
    image: np.ndarray | None = frame.astype(np.float32)
    while image is not None and len(levels) < parameters.nscales:
        height, width = image.shape
        stack = np.zeros((height + 2 * PAD, width + 2 * PAD, 4), np.float32)
        stack_gradients(image, stack)
        levels.append(Level(image, stack))
        image = _smaller(image, parameters.scale_step)
    return levels


def _solve(first: list[Level], second: list[Level], scales: list[Scale], p: Tvl1Parameters) -> None:
    """Compute the flow of a pair from coarse to fine, into `scales[0].flow`."""
    counts = (p.warps, p.outer_iterations, p.inner_iterations, p.median_filtering)
    terms = tuple(np.float32(term) for term in (p.lambda_ * p.theta, p.theta, p.tau / p.theta))
    coarser = None
    for one, two, scale in zip(first[::-1], second[::-1], scales[::-1], strict=True):
        scale.start_from(coarser, 1 / p.scale_step)
        fields = (scale.flow, scale.dual, scale.data)
        tolerance = p.epsilon**2 * one.image.size
        refine(one.image, two.stack, *fields, scale.scratch, terms, tolerance, counts)
        coarser = scale


def flow(frames: np.ndarray, parameters: Tvl1Parameters) -> np.ndarray:
    """Compute the flow from each frame to the next, on one thread.

    The compiled loops release the interpreter lock.

    Args:
        frames: gray, uint8 `(T, H, W)`, T >= 2.
        parameters: of TV-L1.

    Returns:
        float32 `(T-1, H, W, 2)`.
    """
    result = np.empty((len(frames) - 1, *frames.shape[1:], 2), np.float32)
    pyramids = (_pyramid(frame, parameters) for frame in frames)
    scales: list[Scale] = []
    for pair, (first, second) in zip(result, pairwise(pyramids), strict=True):
        scales = scales or [Scale(*level.image.shape) for level in first]
        _solve(first, second, scales, parameters)
        pair[:] = np.stack(scales[0].flow, axis=-1)[:-1, :-1]
    return result
