"""Warping of a frame and its gradients by a flow, compiled by Numba.

Zeros around the frame replace tests at its borders. Frame and gradients are interleaved, so that
one vector instruction serves all of them.
"""

# mypy: disable-error-code="no-untyped-def"
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from slic.prep.tvl1.cpu_jit import compiled, helper

PAD = 4  # zeros around a stack: a cubic kernel anywhere outside the frame reads zeros only
_SHARPNESS = np.float32(-0.75)  # of the cubic kernel, as in OpenCV's remap
_FOUR = ir.VectorType(ir.FloatType(), 4)


@compiled
def stack_gradients(image, stack):
    """Interleave a frame and its central differences (replicated edges) for warping.

    Args:
        image: float32 `(H, W)`.
        stack: float32 `(H+8, W+8, 4)`, filled with image, d/dx, d/dy; the rest stays zero.
    """
    height, width = image.shape
    half = np.float32(0.5)
    for y in range(height):
        above, here, below = image[max(y - 1, 0)], image[y], image[min(y + 1, height - 1)]
        row = stack[y + PAD]
        for x in range(width):
            row[x + PAD, 0] = here[x]
            row[x + PAD, 1] = half * (here[min(x + 1, width - 1)] - here[max(x - 1, 0)])
            row[x + PAD, 2] = half * (below[x] - above[x])


@helper
def _aim(shift, origin, step, size, cells, weights):
    """Compute from where the pixels of a row are sampled, along one axis of the stack.

    Pixel i is sampled at origin + i * step + shift[i] in a frame of `size` pixels: cells receives
    the first of its four samples, weights those of the cubic kernel.
    """
    one, a, pad = np.float32(1), _SHARPNESS, np.float32(PAD)
    lowest, highest = np.float32(1 - PAD), np.float32(size + 1)
    w0, w1, w2, w3 = weights
    last_cell = np.int32(size + 2 * PAD - 4)
    for i in range(cells.size):
        at = min(max(np.float32(origin + i * step) + shift[i], lowest), highest) + pad
        cell = np.int32(at)
        t = at - np.float32(cell)
        s, r = t + one, one - t
        first = ((a * s - np.float32(5) * a) * s + np.float32(8) * a) * s - np.float32(4) * a
        second = ((a + np.float32(2)) * t - (a + np.float32(3))) * t * t + one
        third = ((a + np.float32(2)) * r - (a + np.float32(3))) * r * r + one
        # Clamped again, so that a flow that is NaN does not read outside.
        cells[i] = min(max(cell - np.int32(1), np.int32(0)), last_cell)
        w0[i], w1[i], w2[i] = first, second, third
        w3[i] = one - first - second - third


def _weighted_sum(builder, vectors, weights):
    """Return LLVM instructions for the sum of vectors, each times a scalar."""
    total = ir.Constant(_FOUR, [0.0] * 4)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
    for vector, weight in zip(vectors, weights, strict=True):
        empty = ir.Constant(_FOUR, ir.Undefined)
        single = builder.insert_element(empty, weight, ir.Constant(ir.IntType(32), 0))
        product = builder.fmul(builder.shuffle_vector(single, empty, lanes), vector, flags=["fast"])
        total = builder.fadd(total, product, flags=["fast"])
    return total


@intrinsic
def _weigh_4x4(context, stack, at, stride, across, down, out, to):
    """out[to + c] = weighted sum of the 4x4 samples around stack[at + c], for c from 0 to 3.

    Numba leaves such a sum scalar, so this spells the vectors out. Nothing is checked. stack
    and out are float32 vectors; rows of the stack are `stride` apart, samples of a row 4;
    across and down are tuples of four float32.
    """

    def generate(context, builder, signature, arguments):
        def vector_at(array, index):
            data = context.make_array(types.Array(types.float32, 1, "C"))(context, builder, array)
            return builder.bitcast(builder.gep(data.data, [index]), _FOUR.as_pointer())

        stack, at, stride, across, down, out, to = arguments
        weights_x, weights_y = (cgutils.unpack_tuple(builder, w, 4) for w in (across, down))
        rows = []
        for _ in range(4):
            offsets = [builder.add(at, ir.Constant(at.type, 4 * k)) for k in range(4)]
            samples = [builder.load(vector_at(stack, o), align=4) for o in offsets]
            rows.append(_weighted_sum(builder, samples, weights_x))
            at = builder.add(at, stride)
        builder.store(_weighted_sum(builder, rows, weights_y), vector_at(out, to), align=4)
        return context.get_dummy_value()

    return types.void(stack, types.intp, types.intp, across, down, out, types.intp), generate


@helper
def _gather(stack, stride, columns, rows, across, down, warped):
    """Bicubic samples of a stack, a float32 vector, into warped (W * 4,)."""
    for i in range(columns.size):
        x = across[0][i], across[1][i], across[2][i], across[3][i]
        y = down[0][i], down[1][i], down[2][i], down[3][i]
        _weigh_4x4(stack, rows[i] * stride + columns[i] * 4, stride, x, y, warped, 4 * i)


@helper
def _linearise_row(image, warped, shift, data, y):
    """Data term of one row around the current flow: rho(u) = residual + gradient . u."""
    shift_x, shift_y = shift
    gradient_x, gradient_y, residual = data[0][y], data[1][y], data[2][y]
    for x in range(image.size):
        dx, dy = warped[4 * x + 1], warped[4 * x + 2]
        gradient_x[x], gradient_y[x] = dx, dy
        residual[x] = warped[4 * x] - dx * shift_x[x] - dy * shift_y[x] - image[x]


@compiled
def warp(image, stack, flow, data, scratch):
    """Warp the second frame of a pair by the flow and linearise the data term around it.

    Args:
        image: float32 `(H, W)`, the first frame.
        stack: float32 `(H+8, W+8, 4)`, the second, from `stack_gradients`.
        flow: u and v, float32 `(H+1, W+1)`.
        data: three float32 `(H, W+1)`, filled with the warped d/dx, d/dy and the constant part
            of the residual.
        scratch: tuple of int32 `(W,)` columns and rows, four float32 `(W,)` weights across
            and four down, and float32 `(W*4,)`.
    """
    columns, rows, across, down, warped = scratch
    height, width = image.shape
    for y in range(height):
        shift_x, shift_y = flow[0][y, :width], flow[1][y, :width]
        _aim(shift_x, 0, 1, width, columns, across)
        _aim(shift_y, y, 0, height, rows, down)
        _gather(stack.ravel(), 4 * (width + 2 * PAD), columns, rows, across, down, warped)
        _linearise_row(image[y], warped, (shift_x, shift_y), data, y)
