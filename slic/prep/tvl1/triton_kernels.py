"""TV-L1 on a GPU, in Triton: one program solves one pair of frames at one scale.

A program computes all warps, median filters and iterations of its pair, and ends when the pair's
own change is small enough. So nothing runs in lockstep, no batch needs compacting, the host never
has to look, and a scale is one launch however long it takes. Programs that end make room for
further pairs of the batch.

The work is bound by memory, so one sweep does two iterations, the second a few rows behind the
first, where its input is still in the cache. A sweep reads one copy of flow and dual field and
writes the other: if the first iteration turns out to be the last, it is repeated alone from the
copy that was read.

Memory of a pair is PLANES planes of (H + 2) x S float32, S the width and at least one more,
rounded up to a multiple of 4 so that loads are aligned: a row of zeros before the pixels and one
after them, and columns of zeros as padding, replace tests at borders. The padding is updated
like any pixel and stays zero. A frame is three planes of H x S: the image and its gradients.
"""

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl

from slic.prep.tvl1.triton_filters import copy_flow, median, warp

# Two copies of u, v, dual (x and y of u, x and y of v); then gradient (x, y) and residual.
PLANES = 15
FLOW_PLANES = slice(0, 2)
FRAME_PLANES = 3


@triton.jit
def _update_flow(u, new, data, plane, at, behind, inside, reach, limit, theta):
    """Threshold and update the flow from u to new.

    Returns the new flow, the old y parts of the dual field a row `behind`, and the squared change.
    """
    u_here = tl.load(u + at, mask=inside, other=0.0)
    v_here = tl.load(u + plane + at, mask=inside, other=0.0)
    slope_x = tl.load(data + at, mask=inside, other=0.0)
    slope_y = tl.load(data + plane + at, mask=inside, other=0.0)
    residual = tl.load(data + 2 * plane + at, mask=inside, other=0.0)
    uy_above = tl.load(u + 3 * plane + behind, mask=reach, other=0.0)
    vy_above = tl.load(u + 5 * plane + behind, mask=reach, other=0.0)
    div_u = tl.load(u + 2 * plane + at, mask=inside, other=0.0)
    div_u -= tl.load(u + 2 * plane + at - 1, mask=inside, other=0.0)
    div_u += tl.load(u + 3 * plane + at, mask=inside, other=0.0) - uy_above
    div_v = tl.load(u + 4 * plane + at, mask=inside, other=0.0)
    div_v -= tl.load(u + 4 * plane + at - 1, mask=inside, other=0.0)
    div_v += tl.load(u + 5 * plane + at, mask=inside, other=0.0) - vy_above
    rho = residual + slope_x * u_here + slope_y * v_here
    squared = tl.maximum(slope_x * slope_x + slope_y * slope_y, 1.1920929e-07)
    step = tl.minimum(tl.maximum(-rho / squared, -limit), limit)
    du = step * slope_x + theta * div_u
    dv = step * slope_y + theta * div_v
    u_here += du
    v_here += dv
    tl.store(new + at, u_here, mask=inside)
    tl.store(new + plane + at, v_here, mask=inside)
    change = tl.where(inside, du * du + dv * dv, 0.0)
    return u_here, v_here, uy_above, vy_above, change


@triton.jit
def _update_dual(flow, old, new, plane, behind, below, old_y, has_right, has_below, valid, ratio):
    """Update the dual field of one flow component: p = (p + ratio * d) / (1 + ratio * |d|)."""
    here = tl.load(flow + behind, mask=valid, other=0.0)
    right = tl.load(flow + behind + 1, mask=valid, other=0.0)
    old_x = tl.load(old + behind, mask=valid, other=0.0)
    dx = tl.where(has_right, right - here, 0.0)
    dy = tl.where(has_below, below - here, 0.0)
    scale = 1.0 / (1.0 + ratio * tl.sqrt(dx * dx + dy * dy))
    tl.store(new + behind, (old_x + ratio * dx) * scale, mask=valid)
    tl.store(new + plane + behind, (old_y + ratio * dy) * scale, mask=valid)


@triton.jit
def _iterate(old, new, data, plane, at, size, width, stride, limit, theta, ratio):
    """Iterate once on a block of pixels, the dual field one row behind; return the squared change.

    A block needs the old dual field and the new flow of its neighbours, and finds them so. Values
    written before the barrier are read by others after it; those written after it are neither
    read nor written by the first part of the next block, so `old` may be `new`.
    """
    behind = at - stride
    inside, reach = (at >= 0) & (at < size), (at >= 0) & (at < size + stride)
    u_below, v_below, uy, vy, change = _update_flow(
        old, new, data, plane, at, behind, inside, reach, limit, theta
    )
    tl.debug_barrier()
    valid = (at >= stride) & (at < size + stride)
    right = at % stride < width - 1
    _update_dual(
        new,
        old + 2 * plane,
        new + 2 * plane,
        plane,
        behind,
        u_below,
        uy,
        right,
        inside,
        valid,
        ratio,
    )
    _update_dual(
        new + plane,
        old + 4 * plane,
        new + 4 * plane,
        plane,
        behind,
        v_below,
        vy,
        right,
        inside,
        valid,
        ratio,
    )
    return change


@triton.jit
def _sweep(
    old, new, data, plane, count, height, width, stride, limit, theta, ratio, BLOCK: tl.constexpr
):
    """Do one or two iterations in one pass through memory, the second a row behind the first.

    Returns the summed squared change of each.
    """
    size = height * stride
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size + count * stride, BLOCK):
        at = start + tl.arange(0, BLOCK)
        first += _iterate(old, new, data, plane, at, size, width, stride, limit, theta, ratio)
        if count == 2:
            tl.debug_barrier()
            at -= stride
            second += _iterate(new, new, data, plane, at, size, width, stride, limit, theta, ratio)
    tl.debug_barrier()
    return tl.sum(first), tl.sum(second)


@triton.jit(do_not_specialize=["height", "width", "quads", "warps", "outer", "inner"])
def refine(
    state,
    frames,
    firsts,
    iterations,
    height,
    width,
    quads,
    limit,
    theta,
    ratio,
    tolerance,
    warps,
    outer,
    inner,
    MEDIAN: tl.constexpr,
    BLOCK: tl.constexpr,
    SMALL_BLOCK: tl.constexpr,
):
    """Refine the flow of one scale in place: all warps of every pair, one program per pair.

    Args:
        state: float32 `(B, PLANES, H + 2, S)`; zero but for the flow of the coarser scale in the
            first copy, where the refined flow is left.
        frames: float32 `(F, FRAME_PLANES, H, S)`, image and gradients.
        firsts: int32 `(B,)`, indices of the first frame of each pair; the second is the next.
        iterations: int32 `(B,)`, increased by the number of iterations.
        height, width: H and W.
        quads: S / 4.
        limit, theta, ratio: lambda * theta, theta, tau / theta.
        tolerance: a pair stops after an iteration whose summed squared change is at most this.
        warps, outer, inner: maximum numbers of warps, median filters and iterations.
        MEDIAN: side of the median filter; 1 for no filter.
        BLOCK, SMALL_BLOCK: pixels at a time, powers of 2, in iterations and elsewhere.
    """
    pair = tl.program_id(0).to(tl.int64)
    stride = quads * 4  # a multiple of 4 that the compiler sees
    plane = (height + 2) * stride
    base = state + pair * (15 * plane) + stride
    data = base + 12 * plane
    first = frames + tl.load(firsts + pair).to(tl.int64) * (3 * height * stride)
    second = first + 3 * height * stride
    done = 0
    turn = 0  # which copy is current
    for _ in range(warps):
        u = base + turn * (6 * plane)
        warp(u, data, plane, first, second, height, width, stride, SMALL_BLOCK)
        tl.debug_barrier()
        change = float("inf")
        filters = 0
        while (filters < outer) & (change > tolerance):
            u = base + turn * (6 * plane)
            if MEDIAN > 1:
                other = base + (1 - turn) * (6 * plane)
                median(u, other, plane, height, width, stride, MEDIAN, SMALL_BLOCK)
            filters += 1
            begun = 0
            most = 2
            while (begun < inner) & (change > tolerance):
                old, new = base + turn * (6 * plane), base + (1 - turn) * (6 * plane)
                count = tl.minimum(inner - begun, most)
                one, two = _sweep(
                    old, new, data, plane, count, height, width, stride, limit, theta, ratio, BLOCK
                )
                again = (count == 2) & (one <= tolerance)  # the first one alone, from `old`
                most = tl.where(again, 1, 2)
                change = tl.where(again, float("inf"), tl.where(count == 2, two, one))
                count = tl.where(again, 0, count)
                turn = tl.where(again, turn, 1 - turn)
                begun += count
                done += count
    if turn == 1:
        copy_flow(base + 6 * plane, base, plane, height * stride, SMALL_BLOCK)
    total = iterations + pair
    tl.store(total, tl.load(total) + done)
