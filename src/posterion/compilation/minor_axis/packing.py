"""Data stored with their rows last, once, outside the loop that reads them many times.

A `Packed` leaf stands for an array in natural order and holds it transposed. It is a pytree node, so it passes through
``jit``, ``vmap`` and ``scan`` like the array it stands for. Only functions wrapped by
`posterion.compilation.minor_axis.batch_minor` read it where it is; for others there is `unpack`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from posterion._typing import Array, ArrayLike, PyTree
from posterion.compilation.minor_axis.values import Order
from posterion.errors import OptionError

WIDEST_ROW = 512
"""Rows with more entries than this fill a processor's registers by themselves and are left as they are."""

ROWS_PER_ENTRY = 4
"""Where nobody says which axis holds the rows, axis 0 is taken for it if it is this many times longer than a row."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Packed:
    """An array that is held transposed: ``stored == transpose(value, order)``.

    Parameters
    ----------
    stored
        The array as it lies in memory. Axes in front of those of ``order`` (batches stacked for a scan) stay in front.
    order
        Order of the value's axes in ``stored``.
    """

    stored: Any  # an array; JAX also fills nodes with placeholders of its own
    order: Order = field(metadata={"static": True})

    @property
    def full_order(self) -> Order:
        """The order with the axes in front counted in."""
        front = self.stored.ndim - len(self.order)
        return (*range(front), *(front + axis for axis in self.order))

    @property
    def value(self) -> Array:
        """The array in natural order (a transpose is made)."""
        return jnp.transpose(self.stored, [self.full_order.index(axis) for axis in range(self.stored.ndim)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in natural order."""
        return tuple(self.stored.shape[self.full_order.index(axis)] for axis in range(self.stored.ndim))

    @property
    def dtype(self) -> np.dtype:
        """Type of the entries."""
        return self.stored.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.stored.ndim


def is_packed(leaf: Any) -> bool:
    """True for a `Packed` leaf."""
    return isinstance(leaf, Packed)


def pack(tree: PyTree, row_axes: Mapping[str, int | None] | None = None, *, on_host: bool = False) -> PyTree:
    """Store the arrays of ``tree`` with their rows last, where that helps.

    An array is packed if it has two axes or more, its rows are not on the last axis already, and a row has fewer than
    512 entries. All other leaves are returned as they are.

    Parameters
    ----------
    tree
        Any nesting of arrays; a mapping by name if ``row_axes`` is given.
    row_axes
        The axis along which rows run, by name; None or a missing name for an array without rows, which is left alone.
        Without this mapping, axis 0 holds the rows if it is at least four times longer than one row.
    on_host
        Leave NumPy's arrays on the host: for few numbers, which are used once.

    Returns
    -------
    PyTree
        The same nesting with `Packed` leaves.

    Raises
    ------
    OptionError
        If ``row_axes`` names an axis that its array does not have, or ``tree`` is no mapping.
    """
    if row_axes is None:
        return jax.tree.map(lambda leaf: _pack_by_shape(leaf, on_host=on_host), tree, is_leaf=is_packed)
    if not isinstance(tree, Mapping):
        raise OptionError(
            f"row_axes names axes by array, but the arrays came as {type(tree).__name__}: pass them as a dict by name."
        )
    return {name: _pack_rows(name, leaf, row_axes.get(name), on_host=on_host) for name, leaf in tree.items()}


def unpack(tree: PyTree) -> PyTree:
    """Bring every `Packed` leaf of ``tree`` back into natural order."""
    return jax.tree.map(lambda leaf: leaf.value if is_packed(leaf) else leaf, tree, is_leaf=is_packed)


def stacked(batches: np.ndarray, axis: int, length: int) -> np.ndarray | Packed:
    """Batches on the host, each as `pack` would store it if its rows ran along ``axis``.

    Parameters
    ----------
    batches
        Shape (batches, rows, ...).
    axis
        Of the rows in one batch, as the model sees it.
    length
        Of the first axis of the result; what is missing is zero.
    """
    shape = list(batches.shape[2:])
    shape.insert(axis % (batches.ndim - 1), batches.shape[1])
    is_packed = axis % len(shape) != len(shape) - 1 and prod(shape) < WIDEST_ROW * batches.shape[1]
    moved = np.moveaxis(batches, 1, -1 if is_packed else axis % len(shape) + 1)
    out = np.zeros((length, *moved.shape[1:]), moved.dtype)
    out[: len(moved)] = moved
    order = (*(other for other in range(len(shape)) if other != axis % len(shape)), axis % len(shape))
    return Packed(out, order) if is_packed else out


def _pack_by_shape(leaf: Any, *, on_host: bool) -> Any:
    if not _is_numeric(leaf) or leaf.ndim < 2 or leaf.shape[0] < ROWS_PER_ENTRY * prod(leaf.shape[1:]):
        return leaf
    return _rows_last(leaf, 0, on_host=on_host)


def _pack_rows(name: str, leaf: Any, axis: int | None, *, on_host: bool) -> Any:
    if axis is None or not _is_numeric(leaf):
        return leaf
    if not -leaf.ndim <= axis < leaf.ndim:
        raise OptionError(
            f"{name!r} has shape {leaf.shape} and no axis {axis}: row_axes must name one of its {leaf.ndim} axes."
        )
    return _rows_last(leaf, axis % leaf.ndim, on_host=on_host)


def _rows_last(leaf: ArrayLike, axis: int, *, on_host: bool) -> ArrayLike | Packed:
    if axis == leaf.ndim - 1 or prod(leaf.shape) >= WIDEST_ROW * leaf.shape[axis]:
        return leaf
    order = (*(other for other in range(leaf.ndim) if other != axis), axis)
    if isinstance(leaf, Tracer):
        return Packed(jnp.transpose(leaf, order), order)
    # On the host: half the device memory, and no program compiled for a transpose that runs once.
    stored = np.ascontiguousarray(np.transpose(np.asarray(leaf), order))
    return Packed(stored if on_host and isinstance(leaf, np.ndarray) else jax.device_put(stored), order)


def _is_numeric(leaf: Any) -> bool:
    """True for arrays of numbers; False for random keys, text and everything that is no array."""
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind not in "OSUMm"
    return isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
