"""Matrix products: the one place where a new axis order comes in, because there it costs nothing.

``A @ B`` with A of shape (rows, k) and B of shape (k, h) runs over h numbers at a time. If h is small the operands are
exchanged, ``B.T @ A.T``, and the result is held as (h, rows), over whose last axis a processor runs in full width.
Contracted and batched axes are only named by where they are stored, so no transpose is ever made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import jax.numpy as jnp
from jax import lax

from posterion.compilation.minor_axis.jaxprs import Equation, evaluate
from posterion.compilation.minor_axis.values import Order, Value, held

LARGEST_SMALL = 10_000
"""Multiplications up to which a sum of outer products is the faster (measured): 2-5-5-1 with 284 rows takes 9.4 us a
step instead of 13.5, with 50 rows 4.7 instead of 9.5; 16-16-16-1 with 50 rows 19 instead of 24. Not so with 512 rows,
or 32 units. A single column is no product of XLA's library but a loop, whose result is kept instead of being computed
in every loop that needs it: a Student-t regression takes 3.6 us a step instead of 3.8."""
WIDEST_SMALL = 16


@dataclass(frozen=True)
class FlipLimits:
    """When the operands of a matrix product are exchanged.

    Parameters
    ----------
    ratio
        The rows must be at least this many times the width.
    width
        The width (free size of the second operand) must be below this.
    """

    ratio: int | float
    width: int


def dot_general(equation: Equation, operands: Sequence[Value], limits: FlipLimits) -> tuple[Value, bool] | None:
    """The product in whichever operand order suits, and whether they were exchanged."""
    left, right = operands
    (left_contracted, right_contracted), (left_batch, right_batch) = equation.params["dimension_numbers"]
    precision = equation.params.get("precision")
    if not (precision is None or isinstance(precision, lax.Precision | tuple)):
        return None  # an algorithm that may treat its two operands differently
    left_free = _free_axes(left, left_contracted, left_batch)
    right_free = _free_axes(right, right_contracted, right_batch)
    # Axes of the result as declared: batch, then the free axes of each operand in their natural order.
    num_batch = len(left_batch)
    left_places = [num_batch + sorted(left_free).index(axis) for axis in left_free]
    right_places = [num_batch + len(left_free) + sorted(right_free).index(axis) for axis in right_free]
    rows = prod(left.shape[axis] for axis in left_free)
    width = prod(right.shape[axis] for axis in right_free)
    flip = bool(left_free) and 0 < width < limits.width and rows >= limits.ratio * width

    left_numbers = (_stored(left, left_contracted), _stored(left, left_batch))
    right_numbers = (_stored(right, right_contracted), _stored(right, right_batch))
    left_array, right_array = left.in_order(left.held_order), right.in_order(right.held_order)
    if flip and _is_small(equation, left, right, left_contracted, right_contracted):
        ((left_axis,), (right_axis,)) = left_contracted, right_contracted
        from posterion.compilation.minor_axis.small_products import small_product  # noqa: PLC0415  (its imports are slow)

        small = right.in_order((right_axis, 1 - right_axis))
        return held(small_product(small, left.in_order((left_axis, 1 - left_axis))), (1, 0)), True
    if flip:
        numbers = tuple(zip(right_numbers, left_numbers, strict=True))
        exchanged = precision[::-1] if isinstance(precision, tuple) else precision
        (result,) = evaluate(equation, [right_array, left_array], dimension_numbers=numbers, precision=exchanged)
        return held(result, (*range(num_batch), *right_places, *left_places)), True
    numbers = tuple(zip(left_numbers, right_numbers, strict=True))
    (result,) = evaluate(equation, [left_array, right_array], dimension_numbers=numbers)
    return held(result, (*range(num_batch), *left_places, *right_places)), False


def _is_small(
    equation: Equation, left: Value, right: Value, left_contracted: Sequence[int], right_contracted: Sequence[int]
) -> bool:
    """Whether this is rows (n, k), stored (k, n), times (k, h), and better as a sum of outer products."""
    if len(left.shape) != 2 or len(right.shape) != 2 or len(left_contracted) != 1:
        return False
    (left_axis,), (right_axis,) = left_contracted, right_contracted
    if left.shape[left_axis] > 1 and left.held_order != (left_axis, 1 - left_axis):
        return False
    types = {atom.aval.dtype for atom in (*equation.invars, *equation.outvars)}
    if len(types) != 1 or not jnp.issubdtype(types.pop(), jnp.floating) or equation.params.get("precision") is not None:
        return False
    return is_small(left.shape[left_axis], right.shape[1 - right_axis], left.shape[1 - left_axis])


def is_small(contracted: int, width: int, rows: int) -> bool:
    """Whether the product of (contracted, width) and (contracted, rows) is faster as a sum of outer products."""
    return 0 < contracted <= WIDEST_SMALL and 1 < width <= WIDEST_SMALL and contracted * width * rows <= LARGEST_SMALL


def _free_axes(value: Value, contracted: Sequence[int], batch: Sequence[int]) -> Order:
    """The axes that stay in the result, in the order they are stored."""
    return tuple(axis for axis in value.held_order if axis not in contracted and axis not in batch)


def _stored(value: Value, axes: Sequence[int]) -> Order:
    """Where axes are stored."""
    return tuple(value.held_order.index(axis) for axis in axes)
