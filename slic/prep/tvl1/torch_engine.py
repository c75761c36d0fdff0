"""PyTorch engine of TV-L1, for devices without a compiled engine: many pairs at once.

A plane of B pairs is float32 `(B, H, W)`; related planes are stacked along a new first axis. A
factor of zero freezes a pair that has converged, until the host looks and drops it from the
batch.
"""

import torch
from torch import Tensor
from torch.nn import functional

from slic.prep.tvl1.parameters import Tvl1Parameters
from slic.prep.tvl1.pyramid import Solution, enlarge, gradients, pyramid
from slic.prep.tvl1.torch_filters import PAD, median_filter, warp

_PIXELS_ON_CPU = 2**17  # per batch: caches are small
_PIXELS_ELSEWHERE = 2**22  # per batch: about 2 GB
_SMALLEST_SQUARED_GRADIENT = 1.1920929e-07


def pairs_at_once(device: torch.device, height: int, width: int) -> int:
    """Return the number of pairs per batch that suits a device."""
    pixels = _PIXELS_ON_CPU if device.type == "cpu" else _PIXELS_ELSEWHERE
    return max(pixels // (height * width), 1)


@torch.no_grad()
def solve(frames: Tensor, firsts: Tensor, parameters: Tvl1Parameters) -> Solution:
    """Compute the flow of pairs of frames of one size; each stops at its own iteration.

    Args:
        frames: gray, uint8 `(F, H, W)`, on the device.
        firsts: integers `(B,)`, on the device: pair i is `frames[firsts[i]]` and the next frame.
        parameters: of TV-L1.

    Raises:
        torch.OutOfMemoryError: the batch is too large for the device.
    """
    try:
        return _solve(pyramid(frames, parameters), firsts, parameters)
    except RuntimeError as error:
        if "out of memory" in str(error):  # MPS has no exception class for it
            raise torch.OutOfMemoryError(str(error)) from None
        raise


def _solve(images: list[Tensor], firsts: Tensor, p: Tvl1Parameters) -> Solution:
    """Compute the flow of pairs from the pyramid of the frames, from coarse to fine."""
    pixel_iterations = torch.zeros(len(firsts), dtype=torch.int64, device=firsts.device)
    flow: Tensor | None = None
    for image in reversed(images):
        height, width = image.shape[1:]
        if flow is None:
            flow = image.new_zeros(2, len(firsts), height, width)
        else:
            flow = enlarge(flow, height, width, 1 / p.scale_step)
        flow, iterations = _refine(flow, image, firsts, p)
        pixel_iterations += iterations.long() * (height * width)
    assert flow is not None
    return Solution(flow.permute(1, 2, 3, 0).contiguous(), pixel_iterations)


def _refine(
    flow: Tensor, image: Tensor, firsts: Tensor, p: Tvl1Parameters
) -> tuple[Tensor, Tensor]:
    """Refine the flow `(2, B, H, W)` of one scale; return it and the iterations needed, `(B,)`."""
    first, second = image.index_select(0, firsts), image.index_select(0, firsts + 1)
    state = torch.cat((flow, flow.new_zeros(4, *flow.shape[1:])))
    iterations = flow.new_zeros(flow.shape[1])
    stack = functional.pad(torch.stack((second, *gradients(second))), (PAD,) * 4)
    for _ in range(p.warps):
        _converge(state, _linearise(first, stack, state[:2]), iterations, p)
    return state[:2], iterations


def _linearise(first: Tensor, stack: Tensor, flow: Tensor) -> Tensor:
    """Linearise the data term around a flow, `(4, B, H, W)`.

    It holds the warped d/dx and d/dy, the constant part of the residual (rho(u) = residual +
    gradient . u), and the negative reciprocal of the squared gradient.
    """
    warped, across, down = warp(stack, flow)
    residual = warped - across * flow[0] - down * flow[1] - first
    squared = (across * across + down * down).clamp_(min=_SMALLEST_SQUARED_GRADIENT)
    return torch.stack((across, down, residual, squared.reciprocal_().neg_()))


def _converge(state: Tensor, data: Tensor, iterations: Tensor, p: Tvl1Parameters) -> None:
    """Iterate the pairs of a warp in place, each until its change is small enough."""
    pairs = _Pairs(state, data, iterations)
    look_every = _look_every(state.device)
    for _ in range(p.outer_iterations):
        pairs.flow.copy_(median_filter(pairs.flow, p.median_filtering))
        for iteration in range(1, p.inner_iterations + 1):
            pairs.iterate(p)
            if iteration % look_every == 0 or iteration == p.inner_iterations:
                pairs.drop_converged()
            if pairs.count == 0:
                return
    pairs.write_back()


def _look_every(device: torch.device) -> int:
    """Return after how many iterations to look what has converged, which synchronises."""
    return 1 if device.type == "cpu" else 4


class _Pairs:
    """The pairs of a warp that still change.

    `state` is `(6, B, H, W)`: u, v, the x parts of their dual fields, then the y parts; `data` is
    from `_linearise`. Both are copied once a pair has been dropped. `iterations`, `(B,)`, is
    increased by the number of iterations.
    """

    def __init__(self, state: Tensor, data: Tensor, iterations: Tensor) -> None:
        self.all_pairs, self.iterations = state, iterations
        self.numbers = torch.arange(state.shape[1], device=state.device)
        self._hold(state, data)

    def _hold(self, state: Tensor, data: Tensor) -> None:
        self.state, self.data = state, data
        self.count = state.shape[1]
        self.flow, self.across, self.down = state[:2], state[2:4], state[4:]
        self.active = state.new_ones(self.count, 1, 1)
        self.done = torch.zeros_like(self.active)
        # The last column and row of the differences stay zero.
        self.right, self.below = torch.zeros_like(self.flow), torch.zeros_like(self.flow)
        self.change, self.scratch = torch.empty_like(self.flow), torch.empty_like(self.flow)

    def write_back(self) -> None:
        self.iterations[self.numbers] += self.done.flatten()
        if self.state is not self.all_pairs:
            self.all_pairs[:, self.numbers] = self.state

    def drop_converged(self) -> None:
        """Synchronise; write back and drop the pairs that have converged."""
        going = self.active.flatten().nonzero().flatten()
        if len(going) < self.count:
            self.write_back()
            self.numbers = self.numbers[going]
            self._hold(self.state[:, going], self.data[:, going])

    def iterate(self, p: Tvl1Parameters) -> None:
        """Iterate once; pairs whose change is within the tolerance become inactive."""
        self.done.add_(self.active)
        self._update_flow(p.lambda_ * p.theta, p.theta)
        self._update_dual(p.tau / p.theta)
        changes = torch.linalg.vector_norm(self.change.flatten(2), dim=2).square_().sum(0)
        tolerance = p.epsilon**2 * self.flow[0, 0].numel()
        self.active.mul_((changes > tolerance).view(-1, 1, 1))

    def _update_flow(self, limit: float, theta: float) -> None:
        across, down, divergence = self.across, self.down, self.scratch
        dx, dy, residual, reciprocal = self.data
        rho = torch.addcmul(residual, dx, self.flow[0]).addcmul_(dy, self.flow[1])
        step = rho.mul_(reciprocal).clamp_(-limit, limit)
        torch.mul(self.data[:2], step, out=self.change)
        torch.add(across, down, out=divergence)
        divergence[..., 1:].sub_(across[..., :-1])
        divergence[..., 1:, :].sub_(down[..., :-1, :])
        self.change.add_(divergence, alpha=theta)
        self.flow.addcmul_(self.change, self.active)

    def _update_dual(self, ratio: float) -> None:
        """Set p = (p + ratio * d) / (1 + ratio * |d|); for inactive pairs the ratio is 0."""
        flow, right, below = self.flow, self.right, self.below
        torch.sub(flow[..., 1:], flow[..., :-1], out=right[..., :-1])
        torch.sub(flow[..., 1:, :], flow[..., :-1, :], out=below[..., :-1, :])
        norm = torch.mul(right, right, out=self.scratch).addcmul_(below, below).sqrt_()
        norm.mul_(self.active * ratio).add_(1)
        self.across.addcmul_(right, self.active, value=ratio).div_(norm)
        self.down.addcmul_(below, self.active, value=ratio).div_(norm)
