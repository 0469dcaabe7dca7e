"""Arrays that users pass as data, of whatever library, as NumPy arrays of numbers with a slot that describes them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion.target import Slot
from posterion.target.checks import check_array


def as_numbers(name: str, value: Any) -> np.ndarray:
    """A NumPy array of booleans, whole numbers or floats; not copied where that can be avoided.

    Raises
    ------
    DataError
        For text, dates, objects, or rows of different lengths.
    """
    array = np.asarray(value) if isinstance(value, np.ndarray | jax.Array) else None
    if array is not None and array.dtype.kind in "biuf":
        return array
    if array is not None and jnp.issubdtype(array.dtype, jnp.floating):  # bfloat16, which NumPy calls void
        return array.astype(np.float32)
    checked = check_array(name, Slot("float64", tuple(np.shape(value))), value)  # says what is wrong
    convert = getattr(value, "to_numpy", None)
    original = np.asarray(value if convert is None else convert())
    return original if original.dtype.kind in "biuf" else checked


def slot_of(array: np.ndarray) -> Slot:
    """The slot of an array as it is. Floats follow the fit's precision, whatever they came in."""
    return Slot("float64" if array.dtype.kind == "f" else str(array.dtype), array.shape)


def abstract(slot: Slot, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """What an array of a slot's type looks like to JAX, in the precision that is in force."""
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(slot.dtype))
