"""Names for the types that cross module borders, each with one sentence of meaning."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

Array: TypeAlias = jax.Array
"""A JAX array, concrete or traced."""

ArrayLike: TypeAlias = jax.Array | np.ndarray
"""An array of either library."""

Key: TypeAlias = jax.Array
"""A typed JAX random key (``jax.random.key``)."""

Data: TypeAlias = Mapping[str, Any]
"""Slot name to array: the data a target is evaluated on."""

PyTree: TypeAlias = Any
"""Any nesting of containers with arrays at the leaves."""


class Batch(NamedTuple):
    """The rows one step sees.

    Parameters
    ----------
    data
        Slot name to array. Slots that hold rows are cut to the batch, others whole.
    real
        None for all rows at once; otherwise one entry per row of the batch, True where the row is real and False where
        it is padding that must weigh nothing.
    """

    data: Data
    real: Array | None = None


@runtime_checkable
class SelectRows(Protocol):
    """``(data, index) -> batch`` of one step; pure, runs inside the compiled loop, and holds no data itself."""

    def __call__(self, data: Data, index: PyTree, /) -> Batch:
        """Cut the rows of one step out of all rows."""
        ...
