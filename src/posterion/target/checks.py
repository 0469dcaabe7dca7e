"""Data checked against slots: numbers, finite, of the right shape, the same rows everywhere.

Used wherever data come in from outside, at a fit and at a prediction, so that the messages are the same.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from posterion._typing import Data
from posterion.errors import DataError
from posterion.target.target import Slot


def check_data(
    slots: Mapping[str, Slot],
    data: Data,
    *,
    partial: bool = False,
    may_be_infinite: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """NumPy arrays of the slots' kinds of number, or an error that says what is wrong with which input.

    Parameters
    ----------
    slots
        The inputs there are.
    data
        Lists, NumPy or JAX arrays, pandas or xarray objects, by slot.
    partial
        Allow slots to be left out.
    may_be_infinite
        Slots where infinity means something (bounds); NaN never does.

    Returns
    -------
    The arrays that were passed, in the order of the slots. Not copied where that can be avoided.

    Raises
    ------
    DataError
        For an unknown or missing name, text, missing or infinite values, a wrong shape, or a dim with two lengths.
    """
    unknown = [name for name in data if name not in slots]
    if unknown:
        raise DataError(
            f"No input is named {', '.join(map(repr, unknown))}. "
            f"The inputs are: {', '.join(map(repr, slots)) or 'none'}."
        )
    missing = [name for name in slots if name not in data]
    if missing and not partial:
        raise DataError(f"The data lack {', '.join(map(repr, missing))}.")
    arrays = {
        name: check_array(name, slot, data[name], may_be_infinite=name in may_be_infinite)
        for name, slot in slots.items()
        if name in data
    }
    lengths: dict[str, tuple[int, str]] = {}
    for name, array in arrays.items():
        for dim, length in zip(slots[name].dims, array.shape, strict=False):
            if dim is None:
                continue
            first, where = lengths.setdefault(dim, (length, name))
            if first != length:
                raise DataError(
                    f"{where!r} has {first} entries along {dim!r} and {name!r} has {length}: they must be the same."
                )
    return arrays


def to_slot(slot: Slot, rows: np.ndarray) -> np.ndarray:
    """Rows of a source, rows first, in the form of a slot: one column is no axis where none is wanted."""
    if rows.ndim == len(slot.shape) + 1 and rows.shape[-1] == 1:
        rows = rows[..., 0]  # columns={"y": ["y"]} means the same as {"y": "y"}
    return np.moveaxis(rows, 0, slot.row_axis) if slot.row_axis else rows


def check_array(name: str, slot: Slot, value: Any, *, may_be_infinite: bool = False) -> np.ndarray:
    """One input as a NumPy array of the slot's kind of number; see `check_data`."""
    array = _as_numbers(name, value)
    array = _of_kind(name, slot, array)
    if array.ndim != len(slot.shape) and slot.row_axis is not None and array.ndim == len(slot.shape) - 1:
        hint = " A single row needs its axis: wrap it in a list." if slot.row_axis == 0 else ""
        raise DataError(f"{name!r} has {array.ndim} axes and needs {len(slot.shape)}: {_shape(slot)}.{hint}")
    if array.ndim != len(slot.shape) or any(
        wanted is not None and n != wanted for n, wanted in zip(array.shape, slot.shape, strict=True)
    ):
        raise DataError(f"{name!r} has shape {array.shape} and needs {_shape(slot)}.")
    if slot.row_axis is not None and array.shape[slot.row_axis] == 0:
        raise DataError(f"{name!r} has no rows.")
    if array.dtype.kind == "f":
        _check_finite(name, array, may_be_infinite=may_be_infinite)
    if slot.below is not None and array.size and not (-slot.below <= array.min() and array.max() < slot.below):
        worst = array.max() if array.max() >= slot.below else array.min()
        raise DataError(
            f"{name!r} is an index into {slot.below} entries (0 to {slot.below - 1}) and holds {worst}: "
            "the model has no parameter for it."
        )
    return array


def _as_numbers(name: str, value: Any) -> np.ndarray:
    columns = getattr(value, "columns", None)
    dtypes = getattr(value, "dtypes", None)
    if columns is not None and dtypes is not None:  # a table: name the column that is not numeric
        text = [str(c) for c, d in zip(columns, dtypes, strict=True) if getattr(d, "kind", "O") not in "biuf"]
        if text:
            raise DataError(
                f"{name!r} has columns that are not numbers: {', '.join(map(repr, text))}. "
                "Encode them (pandas.get_dummies, or category codes) or leave them out."
            )
    try:
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError as error:
        raise DataError(f"{name!r} is not an array: its rows have different lengths ({error}).") from error
    if array.dtype == object:  # None and numbers mixed, as pandas leaves them
        try:
            array = array.astype("float64")
        except (TypeError, ValueError) as error:
            raise DataError(f"{name!r} holds values that are not numbers ({error}). Encode them as numbers.") from error
    if array.dtype.kind not in "biuf":
        what = {"U": "text", "S": "text", "M": "dates", "m": "durations", "c": "complex numbers"}
        found = what.get(array.dtype.kind, str(array.dtype))
        raise DataError(f"{name!r} holds {found}, and a number is needed in every cell. Encode it as numbers.")
    return array


def _of_kind(name: str, slot: Slot, array: np.ndarray) -> np.ndarray:
    wanted = np.dtype(slot.dtype)
    if array.dtype.kind != "f" or wanted.kind == "f":
        return array.astype(wanted, copy=False) if wanted.kind != "f" or array.dtype.kind != "f" else array
    _check_finite(name, array, may_be_infinite=False)
    whole = array.astype(wanted)
    if not np.array_equal(whole, array):
        first = array[whole != array].ravel()[0]
        raise DataError(f"{name!r} must hold whole numbers ({slot.dtype}) and holds {first!r}.")
    return whole


def _check_finite(name: str, array: np.ndarray, *, may_be_infinite: bool) -> None:
    bad = np.isnan(array) if may_be_infinite else ~np.isfinite(array)
    if not bad.any():
        return
    count = int(bad.sum())
    missing = int(np.isnan(array).sum())
    what = (
        "missing (NaN)" if missing == count else "infinite" if missing == 0 else f"infinite or missing ({missing} NaN)"
    )
    where = ""
    if array.ndim > 1:
        columns = np.flatnonzero(bad.any(axis=tuple(range(array.ndim - 1))))
        shown = ", ".join(map(str, columns[:5])) + (", ..." if len(columns) > 5 else "")
        where = f" in column{'s' * (len(columns) > 1)} {shown}"
    row = int(np.argwhere(bad)[0][0]) if array.ndim else 0
    raise DataError(
        f"{name!r} has {count} {what} value{'s' * (count > 1)}{where}, the first in row {row}. "
        "Drop these rows, or fill them in before the fit."
    )


def _shape(slot: Slot) -> str:
    lengths = ["rows" if n is None else str(n) for n in slot.shape]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"
