"""Median filter of a float32 plane as a network of minima and maxima, compiled by Numba.

The loop over a row compiles to vector instructions. The columns under a 5x5 window are sorted
once, for all windows of the row.
"""

# mypy: disable-error-code="no-untyped-def"
from slic.prep.tvl1.cpu_jit import compiled, helper
from slic.prep.tvl1.median_network import middle_of_13, over, sort3, sort5


@helper
def _low(a, b):
    return a if a < b else b


@helper
def _high(a, b):
    return b if a < b else a


_sort3, _sort5, _middle_of_13 = (
    helper(over(network, low=_low, high=_high)) for network in (sort3, sort5, middle_of_13)
)


@helper
def _sort_columns5(source, y, ranks):
    """Sort each column of rows y-2 to y+2 of (H, W) into ranks (5, W+4), edges repeated."""
    height, width = source.shape
    above2, above, here = source[max(y - 2, 0)], source[max(y - 1, 0)], source[y]
    below, below2 = source[min(y + 1, height - 1)], source[min(y + 2, height - 1)]
    r0, r1, r2, r3, r4 = ranks[0, 2:], ranks[1, 2:], ranks[2, 2:], ranks[3, 2:], ranks[4, 2:]
    for x in range(width):
        r0[x], r1[x], r2[x], r3[x], r4[x] = _sort5(
            above2[x], above[x], here[x], below[x], below2[x]
        )
    for rank in ranks:
        rank[:2] = rank[2]
        rank[width + 2 : width + 4] = rank[width + 1]


@helper
def _merge_columns5(ranks, out):
    """Compute the median of each 5x5 window from its sorted columns: ranks (5, W+4), out (W,)."""
    r0, r1, r2, r3, r4 = ranks[0], ranks[1], ranks[2], ranks[3], ranks[4]
    for x in range(out.size):
        _, _, _, a3, a4 = _sort5(r0[x], r0[x + 1], r0[x + 2], r0[x + 3], r0[x + 4])
        _, _, b2, b3, b4 = _sort5(r1[x], r1[x + 1], r1[x + 2], r1[x + 3], r1[x + 4])
        _, c1, c2, c3, _ = _sort5(r2[x], r2[x + 1], r2[x + 2], r2[x + 3], r2[x + 4])
        d0, d1, d2, _, _ = _sort5(r3[x], r3[x + 1], r3[x + 2], r3[x + 3], r3[x + 4])
        e0, e1, _, _, _ = _sort5(r4[x], r4[x + 1], r4[x + 2], r4[x + 3], r4[x + 4])
        out[x] = _middle_of_13(a3, a4, b2, b3, b4, c1, c2, c3, d0, d1, d2, e0, e1)


@helper
def _row3(source, y, ranks, out):
    """Compute the median of each 3x3 window of a row; ranks is scratch, (at least 3, W+2)."""
    height, width = source.shape
    above, here, below = source[max(y - 1, 0)], source[y], source[min(y + 1, height - 1)]
    lows, mids, highs = ranks[0, 1:], ranks[1, 1:], ranks[2, 1:]
    for x in range(width):
        lows[x], mids[x], highs[x] = _sort3(above[x], here[x], below[x])
    for rank in ranks[:3]:
        rank[0] = rank[1]
        rank[width + 1] = rank[width]
    lows, mids, highs = ranks[0], ranks[1], ranks[2]
    for x in range(width):
        low = _high(lows[x], _high(lows[x + 1], lows[x + 2]))
        _, mid, _ = _sort3(mids[x], mids[x + 1], mids[x + 2])
        high = _low(highs[x], _low(highs[x + 1], highs[x + 2]))
        _, out[x], _ = _sort3(low, mid, high)


@compiled
def median_filter(plane, size, source, ranks):
    """Filter the first W columns of `plane` in place, with replicated borders.

    Args:
        plane: float32 `(H, at least W)`, finite.
        size: 3 or 5.
        source: float32 `(H, W)`, overwritten.
        ranks: float32 `(5, W+4)`, overwritten.
    """
    height, width = source.shape
    for y in range(height):
        source[y] = plane[y, :width]
    for y in range(height):
        if size == 5:
            _sort_columns5(source, y, ranks)
            _merge_columns5(ranks, plane[y, :width])
        else:
            _row3(source, y, ranks, plane[y, :width])
