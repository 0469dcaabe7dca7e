"""Values held in another axis order than their own.

An *order* is a permutation of a value's axes: ``order = (1, 0)`` means that axis 1 is stored first and axis 0 last. A
`Value` answers in any order; if it is *held*, one order is free and the others cost a transpose (each made once). If
it is made *on demand* (a broadcast bias, a constant fill) every order costs the same, so it has none of its own and
follows whatever it is combined with.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np
from jax import lax

from posterion.compilation.minor_axis.jaxprs import Operand

Order = tuple[int, ...]

DEEPEST_DEMAND = 32
"""Values made on demand are evaluated by recursion, two Python frames a step; a chain longer than this is held instead
of running into Python's limit of a thousand frames."""


class Value:
    """An array that can be asked for in any axis order.

    Parameters
    ----------
    make
        Gives the array transposed by an order.
    shape
        In natural order.
    order
        The order it is held in, or None if it is made on demand.
    depth
        Length of the chain of demands behind it.
    """

    __slots__ = ("_made", "_make", "depth", "order", "shape")

    def __init__(self, make: Callable[[Order], Operand], shape: Sequence[int], order: Order | None, depth: int = 0):
        self._make = make
        self._made: dict[Order, Operand] = {}
        self.shape = tuple(shape)
        self.order = order
        self.depth = depth

    def in_order(self, order: Sequence[int]) -> Operand:
        """The array transposed by ``order``."""
        order = tuple(order)
        if order not in self._made:
            self._made[order] = self._make(order)
        return self._made[order]

    @property
    def natural(self) -> Operand:
        """The array as the traced function sees it."""
        return self.in_order(natural_order(self.shape))

    @property
    def held_order(self) -> Order:
        """The order it is held in; the natural one if it is made on demand."""
        return natural_order(self.shape) if self.order is None else self.order

    @property
    def is_moved(self) -> bool:
        """True if its numbers lie in another order than the natural one."""
        return self.votes and not _same_numbers(self.shape, self.held_order, natural_order(self.shape))

    @property
    def votes(self) -> bool:
        """True if transposing it would move numbers: it is held, and more than one of its axes is longer than 1."""
        return self.order is not None and sum(length != 1 for length in self.shape) > 1


def natural_order(shape: Sequence[int]) -> Order:
    """The order that changes nothing."""
    return tuple(range(len(shape)))


def held(stored: Operand, order: Sequence[int] | None = None) -> Value:
    """A value whose transpose by ``order`` is at hand."""
    stored_shape = np.shape(stored)
    held_order = natural_order(stored_shape) if order is None else tuple(order)
    shape = tuple(stored_shape[held_order.index(axis)] for axis in range(len(held_order)))

    return Value(partial(_transposed, stored, shape, held_order), shape, held_order)


def _transposed(stored: Operand, shape: tuple[int, ...], order: Order, wanted: Order) -> Operand:
    """What is held in ``order``, in the order ``wanted``."""
    if wanted == order:
        return stored
    if _same_numbers(shape, order, wanted):
        return lax.reshape(stored, [shape[axis] for axis in wanted])
    return lax.transpose(stored, [order.index(axis) for axis in wanted])


def _same_numbers(shape: tuple[int, ...], one: Order, other: Order) -> bool:
    """True if two orders differ only in where axes of length 1 stand: no number moves between them."""
    return [axis for axis in one if shape[axis] != 1] == [axis for axis in other if shape[axis] != 1]


def on_demand(make: Callable[[Order], Operand], shape: Sequence[int], sources: Sequence[Value] = ()) -> Value:
    """A value that costs the same in every order; ``make(order)`` may ask the ``sources`` in turn."""
    depth = 1 + max((source.depth for source in sources), default=0)
    if depth > DEEPEST_DEMAND:
        return held(make(natural_order(shape)))
    return Value(make, shape, None, depth)


def common_order(values: Sequence[Value], rank: int) -> Order | None:
    """The order in which the fewest numbers have to move, for values of ``rank`` axes; None if none of them minds.

    Values of another rank (scalars) have no say. A draw goes to the order that ends with the longest axis.
    """
    voters = [value for value in values if len(value.shape) == rank and value.votes]
    sizes: dict[Order, tuple[int, int]] = {}
    for value in voters:
        size, longest = sizes.get(value.held_order, (0, 0))
        last_axis = value.shape[value.held_order[-1]]
        sizes[value.held_order] = (size + prod(value.shape), max(longest, last_axis))
    return max(sizes, key=lambda order: sizes[order]) if sizes else None


def rows_last(shape: Sequence[int], ratio: int | float) -> Order:
    """The order with the longest axis last, if it is at least ``ratio`` times as long as all others together."""
    if not shape:
        return ()
    longest = int(np.argmax(shape))
    others = tuple(axis for axis in range(len(shape)) if axis != longest)
    if shape[longest] >= ratio * prod(shape[axis] for axis in others):
        return (*others, longest)
    return natural_order(shape)


def reshaped(value: Value, shape: Sequence[int]) -> Value | None:
    """``value`` with another shape, without a transpose; None if its order does not allow that.

    Axes are taken in groups with equal products, ``(rows, 12) -> (rows, 3, 4)``: a group may be regrouped where it is
    stored in one piece and in its own order. Axes of length 1 come and go freely.
    """
    shape = tuple(shape)
    groups = _matching_groups(value.shape, shape)
    if groups is None:
        return None
    unit_axes = tuple(axis for axis, length in enumerate(shape) if length == 1)
    if value.order is None:
        if any(len(old) != 1 or len(new) != 1 for old, new in groups):
            return None
        old_axis = {new[0]: old[0] for old, new in groups}
        old_units = [axis for axis, length in enumerate(value.shape) if length == 1]

        source = lambda order: value.in_order((*old_units, *(old_axis[axis] for axis in order if axis in old_axis)))
        make = lambda order: lax.reshape(source(order), [shape[axis] for axis in order])
        return on_demand(make, shape, [value])
    by_first_axis = {old[0]: (old, new) for old, new in groups}
    remaining = [axis for axis in value.order if value.shape[axis] != 1]
    order = list(unit_axes)
    while remaining:
        old, new = by_first_axis.get(remaining[0], ((), ()))
        if not old or tuple(remaining[: len(old)]) != old:
            return None
        order += new
        remaining = remaining[len(old) :]
    return held(lax.reshape(value.in_order(value.order), [shape[axis] for axis in order]), order)


def _matching_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[Order, Order]] | None:
    """Split the axes longer than 1 of two shapes into groups with equal products; None if an axis is empty."""
    if 0 in old or 0 in new:
        return None
    old_axes = [axis for axis, length in enumerate(old) if length != 1]
    new_axes = [axis for axis, length in enumerate(new) if length != 1]
    groups = []
    while old_axes:
        left, right = [old_axes.pop(0)], [new_axes.pop(0)]
        while (size := prod(old[axis] for axis in left)) != (other := prod(new[axis] for axis in right)):
            if size < other:
                left.append(old_axes.pop(0))
            else:
                right.append(new_axes.pop(0))
        groups.append((tuple(left), tuple(right)))
    return groups
