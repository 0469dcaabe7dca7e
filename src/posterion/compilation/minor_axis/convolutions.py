"""Convolutions as matrix products, and pooling as maxima and sums of shifted copies, rows last.

On a processor XLA computes a convolution quickly by itself and many times slower inside a loop, where every step of a
fit is: 128 images of 28 by 28 through two layers of five by five take 1.7 s a gradient in a loop, 0.1 s outside of it,
and 0.08 s as products. The shifted copies of the input, one for each place of the kernel, lie above each other, and the
kernel is a matrix that combines them; with rows last, copies are of long contiguous pieces.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from posterion.compilation.minor_axis.jaxprs import Equation, Operand
from posterion.compilation.minor_axis.values import Value, held

LARGEST = 1 << 26
"""Numbers in the shifted copies up to which they are made: 256 MB in single precision."""
MOST_SHIFTED = 64
"""Places in a window of pooling up to which copies are made of it."""


def convolution(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """The product of the kernel with shifted copies, on a processor, for convolutions of the usual kind."""
    params, (image, kernel) = equation.params, operands
    numbers, padding = params["dimension_numbers"], params["padding"]
    strides, dilation = params["window_strides"], params["rhs_dilation"]
    grouped = params["feature_group_count"] != 1 or params["batch_group_count"] != 1
    if grouped or any(step != 1 for step in params["lhs_dilation"]) or any(min(pair) < 0 for pair in padding):
        return None
    if jax.default_backend() != "cpu":
        return None
    rows, channels, *space = numbers.lhs_spec
    made, taken, *window = numbers.rhs_spec
    result = equation.outvars[0].aval
    out_rows, out_channels, *out_space = numbers.out_spec
    shape, sizes = [result.shape[axis] for axis in out_space], [kernel.shape[axis] for axis in window]
    if prod(sizes) * image.shape[channels] * prod(shape) * image.shape[rows] > LARGEST or 0 in result.shape:
        return None
    stored = image.in_order((channels, *space, rows))
    none = (0, 0, 0)
    stored = lax.pad(stored, jnp.zeros((), stored.dtype), [none, *((low, high, 0) for low, high in padding), none])
    copies = list(_shifted(stored, (1, *sizes, 1), (1, *dilation, 1), (1, *strides, 1), (-1, *shape, -1)))
    stacked = jnp.stack(copies).reshape(prod(sizes) * stored.shape[0], -1)
    matrix = kernel.in_order((made, *window, taken)).reshape(kernel.shape[made], -1)
    found = lax.dot_general(
        matrix,
        stacked,
        (((1,), (0,)), ((), ())),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    found = found.reshape(kernel.shape[made], *shape, image.shape[rows]).astype(result.dtype)
    return [held(found, (out_channels, *out_space, out_rows))]


def pooling(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """The largest, or the sum, of shifted copies, in whatever order they are held, on a processor.

    Where several numbers in a window are the largest, each has its share of the slope; XLA gives the first all of it.
    """
    params, (image,) = equation.params, operands
    window, padding = params["window_dimensions"], params["padding"]
    plain = all(step == 1 for step in params["base_dilation"]) and all(min(pair) >= 0 for pair in padding)
    if not plain or prod(window) > MOST_SHIFTED or jax.default_backend() != "cpu":
        return None
    result, order = equation.outvars[0].aval, image.held_order
    largest = equation.primitive.name == "reduce_window_max"
    if 0 in result.shape or not jnp.issubdtype(result.dtype, jnp.floating):
        return None
    stored = image.in_order(order)
    neutral = jnp.array(-jnp.inf if largest else 0.0, stored.dtype)
    stored = lax.pad(stored, neutral, [(*padding[axis], 0) for axis in order])
    turned = lambda name: [params[name][axis] for axis in order]
    shape = [result.shape[axis] for axis in order]
    copies = _shifted(stored, turned("window_dimensions"), turned("window_dilation"), turned("window_strides"), shape)
    return [held(reduce(lax.max if largest else lax.add, copies), order)]


def _shifted(
    stored: Operand, window: Sequence[int], dilation: Sequence[int], strides: Sequence[int], shape: Sequence[int]
) -> Iterator[Operand]:
    """What each place of a window sees, as it moves; an axis of ``shape`` -1 is taken whole."""
    for place in product(*map(range, window)):
        start = [at * apart for at, apart in zip(place, dilation, strict=True)]
        stop = [
            length if size == -1 else at + (size - 1) * step + 1
            for at, size, step, length in zip(start, shape, strides, stored.shape, strict=True)
        ]
        yield lax.slice(stored, start, stop, strides)
