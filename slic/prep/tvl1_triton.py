"""TV-L1 on a GPU, in Triton: one program solves one pair of frames at one scale.

A program stays with its pair through all warps, median filters and iterations and leaves when
the pair's own change is small enough. So nothing runs in lockstep, no batch needs compacting,
the host looks at nothing in between, and a scale is one launch however long it takes. Programs
that are done make room for further pairs of the batch.

The work is bound by memory, so two iterations go through it in one sweep, the second a few rows
behind the first, where the cache still holds what it needs. A sweep reads one copy of flow and
dual field and writes the other: should the first iteration turn out to be the last one, it is
done again from what was read, alone.

Memory of a pair is PLANES planes of (H + 2) x S float32, S the width and at least one more,
rounded up to a multiple of 4 so that loads are aligned: a row of zeros before the pixels and one
after them, and columns of zeros as padding, replace tests at borders. The padding takes part
like any pixel and stays zero. A frame is three planes of H x S: the image and its gradients.
"""

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl

from slic.prep.median_network import middle_of_13, over, sort3, sort5

# Two copies of u, v, dual (x and y of u, x and y of v); then gradient (x, y) and residual.
PLANES = 15
FLOW_PLANES = slice(0, 2)
FRAME_PLANES = 3


@triton.jit
def _low(a, b):
    return tl.minimum(a, b)


@triton.jit
def _high(a, b):
    return tl.maximum(a, b)


# Triton's interpreter wants its language among a function's globals.
_sort3, _sort5, _middle_of_13 = (
    triton.jit(over(network, low=_low, high=_high, tl=tl))
    for network in (sort3, sort5, middle_of_13)
)


@triton.jit
def _cubic(t, tap: tl.constexpr):
    """Weight of one of four samples, t past the second of them (A = -0.75)."""
    a = -0.75
    if tap == 0:
        s = t + 1.0
    elif tap == 1:
        s = t
    elif tap == 2:
        s = 1.0 - t
    else:
        s = 2.0 - t
    if tap == 0 or tap == 3:
        weight = ((a * s - 5.0 * a) * s + 8.0 * a) * s - 4.0 * a
    else:
        weight = ((a + 2.0) * s - (a + 3.0)) * s * s + 1.0
    return weight


@triton.jit
def _sample(frame, size, stride, height, width, across, down, inside):
    """Bicubic samples of a frame's three planes, zero outside the frame."""
    column, row = tl.floor(across), tl.floor(down)
    right, below = across - column, down - row
    column, row = column.to(tl.int32), row.to(tl.int32)
    value = across * 0.0
    slope_x = across * 0.0
    slope_y = across * 0.0
    for j in tl.static_range(4):
        y = row + (j - 1)
        in_row = inside & (y >= 0) & (y < height)
        weight_y = _cubic(below, j)
        for i in tl.static_range(4):
            x = column + (i - 1)
            ok = in_row & (x >= 0) & (x < width)
            weight = weight_y * _cubic(right, i)
            at = frame + y * stride + x
            value += weight * tl.load(at, mask=ok, other=0.0)
            slope_x += weight * tl.load(at + size, mask=ok, other=0.0)
            slope_y += weight * tl.load(at + 2 * size, mask=ok, other=0.0)
    return value, slope_x, slope_y


@triton.jit
def _warp(u, data, plane, first, second, height, width, stride, BLOCK: tl.constexpr):
    """Warp the second frame by the flow and linearise the data term around it.

    Fills the planes of data, gradient and residual: rho(u) = residual + gradient . u.
    """
    size = height * stride
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x, y = at % stride, at // stride
        inside = (at < size) & (x < width)
        shift_x = tl.load(u + at, mask=inside, other=0.0)
        shift_y = tl.load(u + plane + at, mask=inside, other=0.0)
        # Farther outside all samples are zero as well.
        across = tl.minimum(tl.maximum(x + shift_x, -3.0), width + 1.0)
        down = tl.minimum(tl.maximum(y + shift_y, -3.0), height + 1.0)
        value, slope_x, slope_y = _sample(second, size, stride, height, width, across, down, inside)
        residual = value - slope_x * shift_x - slope_y * shift_y
        residual -= tl.load(first + at, mask=inside, other=0.0)
        tl.store(data + at, slope_x, mask=inside)
        tl.store(data + plane + at, slope_y, mask=inside)
        tl.store(data + 2 * plane + at, residual, mask=inside)


@triton.jit
def _pick(source, x, y, height, width, stride, inside):
    """Pixels of a plane, the nearest ones for places outside."""
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    return tl.load(source + y * stride + x, mask=inside, other=0.0)


@triton.jit
def _column5(source, x, y, height, width, stride, inside):
    return _sort5(
        _pick(source, x, y - 2, height, width, stride, inside),
        _pick(source, x, y - 1, height, width, stride, inside),
        _pick(source, x, y, height, width, stride, inside),
        _pick(source, x, y + 1, height, width, stride, inside),
        _pick(source, x, y + 2, height, width, stride, inside),
    )


@triton.jit
def _median5(source, x, y, height, width, stride, inside):
    """Median of each 5x5 window; the plane is continued by its edges."""
    p0, p1, p2, p3, p4 = _column5(source, x - 2, y, height, width, stride, inside)
    q0, q1, q2, q3, q4 = _column5(source, x - 1, y, height, width, stride, inside)
    r0, r1, r2, r3, r4 = _column5(source, x, y, height, width, stride, inside)
    s0, s1, s2, s3, s4 = _column5(source, x + 1, y, height, width, stride, inside)
    t0, t1, t2, t3, t4 = _column5(source, x + 2, y, height, width, stride, inside)
    _, _, _, a3, a4 = _sort5(p0, q0, r0, s0, t0)
    _, _, b2, b3, b4 = _sort5(p1, q1, r1, s1, t1)
    _, c1, c2, c3, _ = _sort5(p2, q2, r2, s2, t2)
    d0, d1, d2, _, _ = _sort5(p3, q3, r3, s3, t3)
    e0, e1, _, _, _ = _sort5(p4, q4, r4, s4, t4)
    return _middle_of_13(a3, a4, b2, b3, b4, c1, c2, c3, d0, d1, d2, e0, e1)


@triton.jit
def _column3(source, x, y, height, width, stride, inside):
    return _sort3(
        _pick(source, x, y - 1, height, width, stride, inside),
        _pick(source, x, y, height, width, stride, inside),
        _pick(source, x, y + 1, height, width, stride, inside),
    )


@triton.jit
def _median3(source, x, y, height, width, stride, inside):
    """Median of each 3x3 window; the plane is continued by its edges."""
    low_l, mid_l, high_l = _column3(source, x - 1, y, height, width, stride, inside)
    low_m, mid_m, high_m = _column3(source, x, y, height, width, stride, inside)
    low_r, mid_r, high_r = _column3(source, x + 1, y, height, width, stride, inside)
    low = _high(low_l, _high(low_m, low_r))
    _, mid, _ = _sort3(mid_l, mid_m, mid_r)
    high = _low(high_l, _low(high_m, high_r))
    _, middle, _ = _sort3(low, mid, high)
    return middle


@triton.jit
def _copy_flow(source, target, plane, size, BLOCK: tl.constexpr):
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < size
        tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)
        at += plane
        tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)


@triton.jit
def _median(u, scratch, plane, height, width, stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Filter both planes of the flow, by way of two planes of scratch."""
    size = height * stride
    for start in range(0, 2 * size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        part, pixel = at // size, at % size
        x, y = pixel % stride, pixel // stride
        inside = (at < 2 * size) & (x < width)
        source = u + part * plane
        if SIZE == 5:
            middle = _median5(source, x, y, height, width, stride, inside)
        else:
            middle = _median3(source, x, y, height, width, stride, inside)
        tl.store(scratch + part * plane + pixel, middle, mask=inside)
    tl.debug_barrier()
    _copy_flow(scratch, u, plane, size, BLOCK)
    tl.debug_barrier()


@triton.jit
def _update_flow(u, new, data, plane, at, behind, inside, reach, limit, theta):
    """Thresholding and flow update from u to new: the new flow, its squared change, and the
    dual's y parts a row `behind`, still old.
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
    """Dual update of one component of the flow: p = (p + ratio * d) / (1 + ratio * |d|)."""
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
    """One iteration on a block of pixels, the dual field a row behind; its squared change.

    What a block needs of its neighbours is then still old (the dual field) or already new (the
    flow). What is written before the barrier others read after it; what is written after it
    nobody reads or writes in the next block's first part: `old` may be `new`.
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
    """One or two iterations in one pass through memory, the second a row behind the first.

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
    """Refine the flow of one scale in place: all warps of every pair, one program a pair.

    Args:
        state: float32 `(B, PLANES, H + 2, S)`; zero but for the flow of the coarser scale in the
            first copy, where the refined flow is left.
        frames: float32 `(F, FRAME_PLANES, H, S)`, image and gradients.
        firsts: int32 `(B,)`, where the first frame of each pair stands; the second is next.
        iterations: int32 `(B,)`, to which those done are added.
        height, width: H and W.
        quads: S / 4.
        limit, theta, ratio: lambda * theta, theta, tau / theta.
        tolerance: a pair stops after an iteration whose summed squared change is not above it.
        warps, outer, inner: as many as that at most.
        MEDIAN: side of the median filter; 1 for none.
        BLOCK, SMALL_BLOCK: pixels at a time, powers of 2, in iterations and in the rest.
    """
    pair = tl.program_id(0).to(tl.int64)
    stride = quads * 4  # a multiple of 4 that the compiler sees
    plane = (height + 2) * stride
    base = state + pair * (15 * plane) + stride
    data = base + 12 * plane
    first = frames + tl.load(firsts + pair).to(tl.int64) * (3 * height * stride)
    second = first + 3 * height * stride
    done = 0
    turn = 0  # which copy is the present one
    for _ in range(warps):
        u = base + turn * (6 * plane)
        _warp(u, data, plane, first, second, height, width, stride, SMALL_BLOCK)
        tl.debug_barrier()
        change = float("inf")
        filters = 0
        while (filters < outer) & (change > tolerance):
            u = base + turn * (6 * plane)
            if MEDIAN > 1:
                other = base + (1 - turn) * (6 * plane)
                _median(u, other, plane, height, width, stride, MEDIAN, SMALL_BLOCK)
            filters += 1
            begun = 0
            most = 2
            while (begun < inner) & (change > tolerance):
                old, new = base + turn * (6 * plane), base + (1 - turn) * (6 * plane)
                count = tl.minimum(inner - begun, most)
                one, two = _sweep(
                    old, new, data, plane, count, height, width, stride, limit, theta, ratio, BLOCK
                )
                again = (count == 2) & (one <= tolerance)  # from `old`, the first one alone
                most = tl.where(again, 1, 2)
                change = tl.where(again, float("inf"), tl.where(count == 2, two, one))
                count = tl.where(again, 0, count)
                turn = tl.where(again, turn, 1 - turn)
                begun += count
                done += count
    if turn == 1:
        _copy_flow(base + 6 * plane, base, plane, height * stride, SMALL_BLOCK)
    total = iterations + pair
    tl.store(total, tl.load(total) + done)
