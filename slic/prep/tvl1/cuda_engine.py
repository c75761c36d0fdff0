"""GPU engine of TV-L1: pyramids and memory for the Triton kernels."""

import os
import threading

import torch
from torch import Tensor
from torch.nn import functional

from slic.prep.tvl1.parameters import Tvl1Parameters
from slic.prep.tvl1.pyramid import Solution, enlarge, gradients, pyramid
from slic.prep.tvl1.triton_kernels import FLOW_PLANES, FRAME_PLANES, PLANES, refine

# Chosen by the compiler's report (Triton 3.9): no spills, two programs per processor.
BLOCK, SMALL_BLOCK, WARPS = 1024, 256, 8

PAIRS_PER_PROCESSOR = 8
# Planes of a pair at its own scale and the next coarser one, and frames at all scales.
BYTES_PER_PIXEL = 4 * (1.64 * PLANES + 2.78 * (FRAME_PLANES + 3))

# Compiling, at the first launch, and interpreting are not thread-safe.
_LAUNCHING = threading.Lock()


def interpreted() -> bool:
    """Return whether Triton interprets its kernels on the CPU (`TRITON_INTERPRET=1`)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def pairs_at_once(device: torch.device, height: int, width: int) -> int:
    """Return the number of pairs per batch: enough to keep the device busy until the last ends.

    It is limited to 0.4 of the free memory, as two batches may be under way.
    """
    if device.type != "cuda":
        return 4
    enough = PAIRS_PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return max(1, min(enough, int(0.4 * free / (BYTES_PER_PIXEL * height * width))))


def _with_gradients(images: Tensor) -> Tensor:
    """Convert `(F, h, w)` to `(F, FRAME_PLANES, h, S)`: image and central differences."""
    width = images.shape[2]
    planes = torch.stack((images, *gradients(images)), dim=1)
    return functional.pad(planes, (0, _stride(width) - width)).contiguous()


def _stride(width: int) -> int:
    return (width // 4 + 1) * 4


def _flow_of(state: Tensor, width: int) -> Tensor:
    return state[:, FLOW_PLANES, 1:-1, :width]


@torch.no_grad()
def solve(frames: Tensor, firsts: Tensor, parameters: Tvl1Parameters) -> Solution:
    """Compute the flow of pairs of frames of one size; each stops at its own iteration.

    It does not synchronise: the result is ready once the device's queue reaches it.

    Args:
        frames: gray, uint8 `(F, H, W)`, on the device.
        firsts: int32 `(B,)`, on the device: pair i is `frames[firsts[i]], frames[firsts[i] + 1]`.
        parameters: of TV-L1.

    Raises:
        torch.OutOfMemoryError: the batch is too large for the device.
    """
    p, pairs = parameters, len(firsts)
    pixel_iterations = torch.zeros(pairs, dtype=torch.int64, device=frames.device)
    coarser: Tensor | None = None
    for image in reversed(pyramid(frames, p)):
        height, width = image.shape[1:]
        shape = (pairs, PLANES, height + 2, _stride(width))
        state = torch.zeros(shape, dtype=torch.float32, device=frames.device)
        if coarser is not None:
            larger = enlarge(coarser, height, width, 1 / p.scale_step)
            _flow_of(state, width).copy_(larger)
        iterations = torch.zeros(pairs, dtype=torch.int32, device=frames.device)
        _refine(state, _with_gradients(image), firsts, iterations, width, p)
        pixel_iterations += iterations.long() * (height * width)
        coarser = _flow_of(state, width)
    assert coarser is not None
    return Solution(coarser.permute(0, 2, 3, 1).contiguous(), pixel_iterations)


def _refine(
    state: Tensor,
    frames: Tensor,
    firsts: Tensor,
    iterations: Tensor,
    width: int,
    p: Tvl1Parameters,
) -> None:
    height, stride = frames.shape[2:]
    launch = refine[(len(state),)]
    with _LAUNCHING:
        launch(
            state,
            frames,
            firsts,
            iterations,
            height,
            width,
            stride // 4,
            float(p.lambda_ * p.theta),
            float(p.theta),
            float(p.tau / p.theta),
            float(p.epsilon**2 * height * width),
            p.warps,
            p.outer_iterations,
            p.inner_iterations,
            MEDIAN=p.median_filtering,
            BLOCK=BLOCK,
            SMALL_BLOCK=SMALL_BLOCK,
            num_warps=WARPS,
            num_stages=1,
            enable_fp_fusion=True,
        )
