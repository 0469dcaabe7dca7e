"""Convolutions as matrix products, rows last.

On a processor XLA computes a convolution quickly by itself and many times slower inside a loop, where every step of a
fit is: 128 images of 28 by 28 through two layers of five by five take 1.7 s a gradient in a loop, 0.1 s outside of it,
and 0.08 s as products. The shifted copies of the input, one for each place of the kernel, lie above each other, and the
kernel is a matrix that combines them; with rows last, copies are of long contiguous pieces.
"""

from collections.abc import Sequence
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from posterion.compilation.minor_axis.jaxprs import Equation
from posterion.compilation.minor_axis.values import Value, held

LARGEST = 1 << 26
"""Numbers in the shifted copies up to which they are made: 256 MB in single precision."""


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
    copies = []
    for place in product(*map(range, sizes)):
        start = [at * apart for at, apart in zip(place, dilation, strict=True)]
        stop = [at + (size - 1) * step + 1 for at, size, step in zip(start, shape, strides, strict=True)]
        copies.append(lax.slice(stored, (0, *start, 0), (stored.shape[0], *stop, stored.shape[-1]), (1, *strides, 1)))
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
