"""What a network is to a target: named arrays of weights, and a function of them and of rows.

Every library has its own idea of a network. The modules beside this one turn each into `Weights`; nothing after them
knows which library it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, PyTree
from posterion.errors import DataError, UnsupportedModelError


@dataclass(frozen=True, eq=False)
class Weight:
    """One array of weights.

    Parameters
    ----------
    path
        Its name: where it lies in the network, as in ``layers.0.kernel``.
    value
        What the network holds there: where a fit starts.
    fan_in
        Inputs of each of its units; 0 for what is no matrix (biases, the scales of a normalisation).
    input_axis
        Of a matrix, the axis its inputs lie on.
    """

    path: str
    value: np.ndarray
    fan_in: int
    input_axis: int = 0


@dataclass(frozen=True, eq=False)
class Weights:
    """A network as arrays and a pure function.

    Parameters
    ----------
    leaves
        In the network's own order.
    apply
        ``(arrays by path, inputs) -> output``, rows first.
    draw
        ``seed -> starting values by path``, where the network has such a function; None where it holds values.
    notes
        Sentences for the user about how the network was taken.
    """

    leaves: tuple[Weight, ...]
    apply: Callable[[Mapping[str, Array], tuple], PyTree]
    draw: Callable[[int], dict[str, np.ndarray]] | None = None
    notes: tuple[str, ...] = ()


def weight(path: str, value: object, *, outputs_first: bool = False, lookup: bool = False) -> Weight:
    """One array of weights, with its fan-in read off its shape.

    Parameters
    ----------
    path, value
        Name and array.
    outputs_first
        Whether the units lie on the first axis (Equinox, PyTorch) or on the last (Flax, Haiku).
    lookup
        Whether rows are looked up and not multiplied (an embedding), so that a unit has one input.

    Raises
    ------
    DataError
        If the array does not hold finite numbers.
    """
    array = np.asarray(value)
    if not (array.dtype.kind == "f" or jnp.issubdtype(array.dtype, jnp.floating)):
        raise DataError(f"the weights {path!r} must be real numbers, not {array.dtype}")
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array)):
        raise DataError(f"the weights {path!r} have entries that are not finite numbers")
    name = path.rpartition(".")[2]
    if array.ndim < 2 or "bias" in name:
        return Weight(path, array, 0)
    if lookup:
        return Weight(path, array, 1)
    if outputs_first:
        return Weight(path, array, array.size // array.shape[0], 1)
    if array.ndim == 3 and any(part in ("query", "key", "value") for part in path.split(".")):
        return Weight(path, array, array.shape[0], 0)  # Flax's attention: inputs, heads, features of a head
    return Weight(path, array, array.size // array.shape[-1], array.ndim - 2)


def refuse_statistics(where: str, kind: str = "BatchNorm") -> UnsupportedModelError:
    """The error for a normalisation over the rows of a batch that has no statistics of its own yet."""
    return UnsupportedModelError(
        f"{kind} at {where!r} normalises by the other rows of the batch, so that rows would not be independent given "
        "the weights and there would be no likelihood to fit. Use LayerNorm, GroupNorm or RMSNorm. In a network that "
        "has been trained its stored statistics are taken as they are, fixed; this one's were never updated."
    )


DROPOUT_NOTE = "Dropout is switched off: what the weights may be is the posterior's to say"
STATISTICS_NOTE = "BatchNorm keeps the statistics of its training, as fixed numbers"
