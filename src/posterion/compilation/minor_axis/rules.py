"""Rules that carry an axis order along: element by element, over axes, and changes of shape.

A rule takes an equation and its operands and answers with the results, or with None where it does not apply: the
primitive then gets its operands in natural order, which is always right.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

from jax import lax

from posterion.compilation.minor_axis.convolutions import convolution, pooling
from posterion.compilation.minor_axis.jaxprs import Equation, Operand, evaluate
from posterion.compilation.minor_axis.values import (
    Order,
    Value,
    common_order,
    held,
    natural_order,
    on_demand,
    reshaped,
    rows_last,
)

Rule = Callable[[Equation, Sequence[Value]], list[Value] | None]

OUTER_RATIO = 4
"""An outer combination (rows, 1) + (1, k) puts rows last from this ratio on; the same as for matrix products."""

ELEMENTWISE = frozenset(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
    convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi
    ne neg nextafter not one_minus_square or polygamma polynomial population_count pow real reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin
    sinh sqrt square stop_gradient sub tan tanh xor zeta
    """.split()
)
"""Primitives whose result at an index depends on the operands at that index only. Operands are scalars, or have the
rank of the result with axes of length 1 stretched."""

REDUCTIONS = frozenset(
    "argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor".split()
)
"""Primitives that remove the axes named in ``axes``."""

CUMULATIVE = frozenset("cumlogsumexp cummax cummin cumprod cumsum".split())
"""Primitives that run along the axis named in ``axis`` and keep the shape."""


def elementwise(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """All operands in one order; the rest of the arithmetic does not care which."""
    shape = equation.outvars[0].aval.shape
    rank = len(shape)
    if any(len(operand.shape) not in (0, rank) for operand in operands):
        return None

    arrays = lambda order: [x.in_order(order) if len(x.shape) == rank else x.natural for x in operands]
    make = lambda order: evaluate(equation, arrays(order))[0]
    order = common_order(operands, rank)
    if order is None:
        if rank and all(operand.order is None for operand in operands if len(operand.shape) == rank):
            return [on_demand(make, shape, operands)]
        order = rows_last(shape, OUTER_RATIO)
    return [held(make(order), order)]


def reduction(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """The axes are named by where they are stored."""
    (x,) = operands
    if x.order is None:
        return None
    axes = equation.params["axes"]
    stored_axes = tuple(sorted(x.order.index(axis) for axis in axes))
    (result,) = evaluate(equation, [x.in_order(x.order)], axes=stored_axes)
    return [held(result, _without(x.order, axes))]


def cumulative(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """The axis is named by where it is stored."""
    (x,) = operands
    order = x.held_order
    (result,) = evaluate(equation, [x.in_order(order)], axis=order.index(equation.params["axis"]))
    return [held(result, order)]


def sort(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """Keys and what is sorted along with them, in one order."""
    order = common_order(operands, len(operands[0].shape)) or natural_order(operands[0].shape)
    dimension = order.index(equation.params["dimension"])
    results = evaluate(equation, [operand.in_order(order) for operand in operands], dimension=dimension)
    return [held(result, order) for result in results]


def broadcast_in_dim(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """Made on demand, so that a bias is broadcast straight into the order of what it is added to."""
    if len(operands) != 1:
        return None  # dynamic shapes
    (x,) = operands
    shape, axes = equation.outvars[0].aval.shape, _axes(equation, "broadcast_dimensions")

    make = partial(_broadcast, x, shape, axes)
    if x.votes:
        if prod(x.shape) == prod(shape) and (result := reshaped(x, shape)) is not None:
            return [result]
        if 2 * prod(x.shape) > prod(shape):  # nearly as large as its result: worth keeping where it is
            order = (*(axis for axis in range(len(shape)) if axis not in axes), *(axes[axis] for axis in x.held_order))
            return [held(make(order), order)]
    return [on_demand(make, shape, operands)]


def _broadcast(x: Value, shape: Sequence[int], axes: Order, order: Order) -> Operand:
    """``x`` with its axes at ``axes`` of ``shape``, all of it in an order."""
    source = tuple(sorted(range(len(axes)), key=lambda axis: order.index(axes[axis])))
    places = [order.index(axes[axis]) for axis in source]
    return lax.broadcast_in_dim(x.in_order(source), [shape[axis] for axis in order], places)


def iota(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """Made on demand."""
    if operands:
        return None  # dynamic shapes
    shape, params = equation.outvars[0].aval.shape, equation.params
    place = lambda order: order.index(params["dimension"])
    make = lambda order: lax.broadcasted_iota(params["dtype"], [shape[axis] for axis in order], place(order))
    return [on_demand(make, shape)]


def transpose(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """Costs nothing: only the order changes."""
    (x,) = operands
    permutation = _axes(equation, "permutation")
    if x.order is None:
        shape = equation.outvars[0].aval.shape
        return [on_demand(lambda order: x.in_order(tuple(permutation[axis] for axis in order)), shape, operands)]
    return [held(x.in_order(x.order), [permutation.index(axis) for axis in x.order])]


def reshape(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """Kept in its order where no group of axes is torn apart."""
    if len(operands) != 1 or equation.params.get("dimensions") is not None:
        return None
    result = reshaped(operands[0], equation.outvars[0].aval.shape)
    return None if result is None else [result]


def squeeze(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """Axes of length 1 leave."""
    result = reshaped(operands[0], equation.outvars[0].aval.shape)
    return None if result is None else [result]


def static_slice(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """Limits in the order of the axes."""
    (x,) = operands
    order, params = x.held_order, equation.params
    changed = {name: _reordered(params[name], order) for name in ("start_indices", "limit_indices", "strides")}
    (result,) = evaluate(equation, [x.in_order(order)], **changed)
    return [held(result, order)]


def dynamic_slice(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """Start indices, one scalar operand per axis, in the order of the axes."""
    x, *starts = operands
    order = x.held_order
    if len(starts) != len(order):
        return None  # dynamic shapes
    sizes = _reordered(equation.params["slice_sizes"], order)
    arrays = [x.in_order(order), *(starts[axis].natural for axis in order)]
    (result,) = evaluate(equation, arrays, slice_sizes=sizes)
    return [held(result, order)]


def concatenate(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """All operands in one order."""
    order = common_order(operands, len(operands[0].shape)) or natural_order(operands[0].shape)
    dimension = order.index(equation.params["dimension"])
    (result,) = evaluate(equation, [operand.in_order(order) for operand in operands], dimension=dimension)
    return [held(result, order)]


def stack(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """The new axis is stored first, wherever it belongs."""
    order = common_order(operands, len(operands[0].shape)) or natural_order(operands[0].shape)
    new = equation.params["axis"]
    (result,) = evaluate(equation, [operand.in_order(order) for operand in operands], axis=0)
    return [held(result, (new, *(axis + (axis >= new) for axis in order)))]


def split(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """The axis is named by where it is stored."""
    (x,) = operands
    order = x.held_order
    results = evaluate(equation, [x.in_order(order)], axis=order.index(equation.params["axis"]))
    return [held(result, order) for result in results]


def reverse(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """The axes are named by where they are stored."""
    (x,) = operands
    order = x.held_order
    dimensions = tuple(order.index(axis) for axis in equation.params["dimensions"])
    (result,) = evaluate(equation, [x.in_order(order)], dimensions=dimensions)
    return [held(result, order)]


def pad(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """Widths in the order of the axes."""
    x, fill = operands
    order = x.held_order
    widths = _reordered(equation.params["padding_config"], order)
    (result,) = evaluate(equation, [x.in_order(order), fill.natural], padding_config=widths)
    return [held(result, order)]


def gather(equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
    """Single numbers picked by index, as in ``log_probability[row, label[row]]``; other gathers take natural order."""
    x, indices = operands
    numbers, params = equation.params["dimension_numbers"], equation.params
    if numbers.offset_dims or not x.is_moved:
        return None
    order = x.held_order
    batching = sorted(
        (order.index(axis), of_indices)
        for axis, of_indices in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    )
    dimension_numbers = lax.GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=tuple(sorted(order.index(axis) for axis in numbers.collapsed_slice_dims)),
        start_index_map=tuple(order.index(axis) for axis in numbers.start_index_map),
        operand_batching_dims=tuple(axis for axis, _ in batching),
        start_indices_batching_dims=tuple(axis for _, axis in batching),
    )
    sizes = _reordered(params["slice_sizes"], order)
    arrays = [x.in_order(order), indices.natural]
    (result,) = evaluate(equation, arrays, dimension_numbers=dimension_numbers, slice_sizes=sizes)
    return [held(result)]


def _axes(equation: Equation, parameter: str) -> Order:
    """A parameter that names axes; batching rules leave NumPy's integers in some."""
    return tuple(int(axis) for axis in equation.params[parameter])


def _reordered(entries: Sequence | None, order: Order) -> tuple | None:
    """One entry per axis, in another order of the axes."""
    return None if entries is None else tuple(entries[axis] for axis in order)


def _without(order: Order, removed: Sequence[int]) -> Order:
    """The order of the axes that stay when some are removed."""
    remaining = [axis for axis in range(len(order)) if axis not in removed]
    return tuple(remaining.index(axis) for axis in order if axis not in removed)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(CUMULATIVE, cumulative),
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "dynamic_slice": dynamic_slice,
    "gather": gather,
    "iota": iota,
    "pad": pad,
    "reduce_window_max": pooling,
    "reduce_window_sum": pooling,
    "reshape": reshape,
    "rev": reverse,
    "slice": static_slice,
    "sort": sort,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "transpose": transpose,
}
"""Rule by name of the primitive. Matrix products are in `products`, calls of other functions in `interpreter`."""
