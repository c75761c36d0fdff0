"""Primal-dual iterations of TV-L1, compiled by Numba.

A padding column after the pixels, a row before the dual field and a row after the flow
replace tests at borders. An iteration is one pass through memory.
"""

# mypy: disable-error-code="no-untyped-def"
import numpy as np

from slic.prep.tvl1.cpu_jit import compiled, helper
from slic.prep.tvl1.cpu_median import median_filter
from slic.prep.tvl1.cpu_warp import warp

_BLOCK = 2000  # pixels that an iteration updates at a time: they fit into a fast cache
_SMALLEST_SQUARED_GRADIENT = np.float32(1.1920929e-07)
_TINY = np.float32(1e-20)  # keeps the reciprocal root finite where there is no gradient


@helper
def _update_flow(flow, dual, data, span, limit, theta):
    """Threshold and update the flow of a span of pixels; return their summed squared change."""
    start, stop, stride = span
    u, v = flow[0][start:stop], flow[1][start:stop]
    dx, dy, residual = data[0][start:stop], data[1][start:stop], data[2][start:stop]
    here = start + stride  # the dual field has one more row, before the first
    ux, uy, vx, vy = dual[0][here:], dual[1][here:], dual[2][here:], dual[3][here:]
    ux_left, vx_left = dual[0][here - 1 :], dual[2][here - 1 :]
    uy_above, vy_above = dual[1][start:], dual[3][start:]
    change = np.float32(0)
    for i in range(u.size):
        rho = residual[i] + dx[i] * u[i] + dy[i] * v[i]
        squared = max(dx[i] * dx[i] + dy[i] * dy[i], _SMALLEST_SQUARED_GRADIENT)
        step = min(max(-rho / squared, -limit), limit)
        du = step * dx[i] + theta * (ux[i] - ux_left[i] + uy[i] - uy_above[i])
        dv = step * dy[i] + theta * (vx[i] - vx_left[i] + vy[i] - vy_above[i])
        u[i] += du
        v[i] += dv
        change += du * du + dv * dv
    return change


@helper
def _update_dual(flow, dual, span, ratio):
    """Update the dual field of a span of pixels: p = (p + ratio * d) / (1 + ratio * |d|).

    Written with reciprocal roots and one division for both components, which is faster on vector
    units.
    """
    start, stop, stride = span
    u, u_right, u_below = flow[0][start:stop], flow[0][start + 1 :], flow[0][start + stride :]
    v, v_right, v_below = flow[1][start:stop], flow[1][start + 1 :], flow[1][start + stride :]
    here = start + stride
    ux, uy, vx, vy = dual[0][here:], dual[1][here:], dual[2][here:], dual[3][here:]
    one = np.float32(1)
    for i in range(u.size):
        du_x, du_y = u_right[i] - u[i], u_below[i] - u[i]
        dv_x, dv_y = v_right[i] - v[i], v_below[i] - v[i]
        root_u = one / np.sqrt(_TINY + du_x * du_x + du_y * du_y)
        root_v = one / np.sqrt(_TINY + dv_x * dv_x + dv_y * dv_y)
        norm_u, norm_v = root_u + ratio, root_v + ratio
        inverse = one / (norm_u * norm_v)
        scale_u, scale_v = root_u * norm_v * inverse, root_v * norm_u * inverse
        ux[i] = (ux[i] + ratio * du_x) * scale_u
        uy[i] = (uy[i] + ratio * du_y) * scale_u
        vx[i] = (vx[i] + ratio * dv_x) * scale_v
        vy[i] = (vy[i] + ratio * dv_y) * scale_v


@helper
def _repeat_flow_edges(flow, first, last, height, stride):
    """Fill the padding column of rows first to last - 1, and the row after the last one."""
    for plane in flow:
        for y in range(first, last):
            plane[y * stride + stride - 1] = plane[y * stride + stride - 2]
        if last == height:
            for i in range((height - 1) * stride, height * stride):
                plane[i + stride] = plane[i]


@helper
def _clear_dual_edges(dual, first, last, stride):
    for part in dual:
        for y in range(first, last):
            part[(y + 1) * stride + stride - 1] = np.float32(0)


@helper
def _sweep(flow, dual, data, shape, first, last, terms):
    """Iterate once on rows first to last - 1; the dual field follows one row behind."""
    height, stride = shape
    limit, theta, ratio = terms
    span = first * stride, last * stride, stride
    change = _update_flow(flow, dual, data, span, limit, theta)
    _repeat_flow_edges(flow, first, last, height, stride)
    behind, ready = max(first - 1, 0), last if last == height else last - 1
    _update_dual(flow, dual, (behind * stride, ready * stride, stride), ratio)
    _clear_dual_edges(dual, behind, ready, stride)
    return change


@compiled
def iterate(flow, dual, data, terms, tolerance, count):
    """Run up to `count` primal-dual iterations in place.

    An iteration goes block by block, the dual field one row behind the flow, so that it is
    one pass through memory. The padding column is updated like any pixel and corrected
    afterwards; it adds nothing to the change, as the x part of the dual field is zero in the
    last column.

    Args:
        flow: u and v, float32 `(H+1, W+1)`.
        dual: four float32 `(H+1, W+1)`: x and y parts for u, then for v.
        data: three float32 `(H, W+1)` from `warp`.
        terms: float32 tuple `(lambda * theta, theta, tau / theta)`.
        tolerance: stop after an iteration whose summed squared change is at most this.
        count: maximum number of iterations.

    Returns:
        The summed squared change of the last iteration.
    """
    height, stride = data[0].shape
    flow = flow[0].ravel(), flow[1].ravel()
    dual = dual[0].ravel(), dual[1].ravel(), dual[2].ravel(), dual[3].ravel()
    data = data[0].ravel(), data[1].ravel(), data[2].ravel()
    rows, shape = max(_BLOCK // stride, 1), (height, stride)
    change = np.inf
    for _ in range(count):
        change = 0.0
        for first in range(0, height, rows):
            last = min(first + rows, height)
            change += _sweep(flow, dual, data, shape, first, last, terms)
        if change <= tolerance:
            break
    return change


@compiled
def refine(image, stack, flow, dual, data, scratch, terms, tolerance, counts):
    """Refine the flow of one scale in place: all its warps.

    Args:
        image, stack, flow, dual, data: as in `warp` and `iterate`.
        scratch: tuple of `warp`'s scratch, float32 `(H, W)` and float32 `(5, W+4)`.
        terms, tolerance: as in `iterate`.
        counts: tuple `(warps, outer iterations, inner iterations, median size)`.
    """
    for_warp, plane, ranks = scratch
    warps, outer, inner, median = counts
    for part in dual:
        part[:] = np.float32(0)
    for _ in range(warps):
        warp(image, stack, flow, data, for_warp)
        for _ in range(outer):
            if median > 1:
                median_filter(flow[0], median, plane, ranks)
                median_filter(flow[1], median, plane, ranks)
            change = iterate(flow, dual, data, terms, tolerance, inner)
            if change <= tolerance:
                break
