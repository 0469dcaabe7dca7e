"""Data of a Stan program: read from a mapping or a JSON file, checked against what the program declares."""

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from posterion._typing import Data
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends.stan.program import Program
from posterion.target import Slot
from posterion.target.checks import check_data

_DTYPES = {"int": "int64", "real": "float64"}
_LARGEST_INT = np.iinfo(np.int32).max


def slots_of(program: Program, dims: Mapping[str, Sequence[str | None]]) -> dict[str, Slot]:
    """The program's data as slots: kinds of numbers and numbers of axes, of any length.

    Raises
    ------
    UnsupportedModelError
        If the program takes complex numbers or tuples as data.
    """
    slots = {}
    for name, declared in program.inputs.items():
        if declared.type not in _DTYPES:
            raise UnsupportedModelError(
                f"{program.name} takes {name!r}, a {declared.type}, as data, and only numbers and arrays of numbers "
                "can be passed: declare its parts as data of their own, and put them together in transformed data"
            )
        shape = (None,) * declared.dimensions
        slots[name] = Slot(_DTYPES[declared.type], shape, tuple(dims.get(name, ())))
    return slots


def read_data(data: Any) -> Mapping[str, Any]:
    """A mapping of names to values as it is; a JSON file, as CmdStan takes it, as such a mapping.

    Raises
    ------
    DataError
        If the file cannot be read, or holds no JSON object.
    OptionError
        For anything else.
    """
    if data is None:
        return {}
    if isinstance(data, Mapping):
        return data
    if not isinstance(data, str | PathLike):
        raise OptionError(f"data must be a mapping from names to values or a JSON file, not a {type(data).__name__}")
    path = Path(data).expanduser()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the data {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold a JSON object of names and values, and holds a {type(found).__name__}")
    return found


def check(slots: Mapping[str, Slot], data: Data) -> dict[str, np.ndarray]:
    """The program's data as arrays; names it does not know are left out, as Stan does.

    Raises
    ------
    DataError
        For a missing name, numbers of the wrong kind, missing values, a wrong number of axes, or whole numbers beyond
        the 32 bits that Stan has for them.
    """
    known = {name: _with_axes(data[name], len(slot.shape)) for name, slot in slots.items() if name in data}
    arrays = check_data(slots, known, may_be_infinite=slots)
    for name, array in arrays.items():
        if array.dtype.kind != "f" and array.size and max(-int(array.min()), int(array.max())) > _LARGEST_INT:
            raise DataError(f"{name!r} holds whole numbers beyond 32 bits, and Stan's integers have no more")
    return arrays


def _with_axes(value: Any, axes: int) -> Any:
    """An empty list stands for an empty matrix, too."""
    return np.zeros((0,) * axes) if isinstance(value, list | tuple) and len(value) == 0 and axes > 1 else value
