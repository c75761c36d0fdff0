"""Warp and median filter of the GPU engine of TV-L1, in Triton; see `triton_kernels`."""

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl

from slic.prep.tvl1.median_network import middle_of_13, over, sort3, sort5


@triton.jit
def _low(a, b):
    return tl.minimum(a, b)


@triton.jit
def _high(a, b):
    return tl.maximum(a, b)


# Triton's interpreter needs its language among a function's globals.
_sort3, _sort5, _middle_of_13 = (
    triton.jit(over(network, low=_low, high=_high, tl=tl))
    for network in (sort3, sort5, middle_of_13)
)


@triton.jit
def _cubic(t, tap: tl.constexpr):
    """Weight of one of four samples, at a distance t after the second (A = -0.75)."""
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
def warp(u, data, plane, first, second, height, width, stride, BLOCK: tl.constexpr):
    """Warp the second frame by the flow and linearise the data term around it.

    Fills data's planes with gradient and residual: rho(u) = residual + gradient . u.
    """
    size = height * stride
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x, y = at % stride, at // stride
        inside = (at < size) & (x < width)
        shift_x = tl.load(u + at, mask=inside, other=0.0)
        shift_y = tl.load(u + plane + at, mask=inside, other=0.0)
        # Beyond this, all samples are zero anyway.
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
    """Pixels of a plane, clamped to its edges."""
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
    """Median of each 5x5 window, with replicated edges."""
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
    """Median of each 3x3 window, with replicated edges."""
    low_l, mid_l, high_l = _column3(source, x - 1, y, height, width, stride, inside)
    low_m, mid_m, high_m = _column3(source, x, y, height, width, stride, inside)
    low_r, mid_r, high_r = _column3(source, x + 1, y, height, width, stride, inside)
    low = _high(low_l, _high(low_m, low_r))
    _, mid, _ = _sort3(mid_l, mid_m, mid_r)
    high = _low(high_l, _low(high_m, high_r))
    _, middle, _ = _sort3(low, mid, high)
    return middle


@triton.jit
def copy_flow(source, target, plane, size, BLOCK: tl.constexpr):
    """Copy both planes of the flow, `size` float32 each."""
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < size
        tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)
        at += plane
        tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)


@triton.jit
def median(u, scratch, plane, height, width, stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Filter both planes of the flow, using two planes of scratch."""
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
    copy_flow(scratch, u, plane, size, BLOCK)
    tl.debug_barrier()
