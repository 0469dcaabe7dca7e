"""Fitted estimators as one file of named arrays and JSON: the format of saved posteriors, and no pickle.

What was fitted is a nesting of a few known frozen dataclasses, tuples, dictionaries, numbers, strings and arrays.
Arrays go into the file by number, lower triangles without their zeros; the rest goes into its description.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from posterion.errors import PosteriorFileError
from posterion.estimators import kinds
from posterion.posterior import store

FORMAT = 4
"""2 keeps triangles without their zeros, 3 has shifts of logits, 4 segments of columns; files of earlier formats
are read as well."""


def save(estimator: Any, path: str | os.PathLike) -> None:
    """Write an estimator's parameters and everything that fitting gave it."""
    arrays: dict[str, np.ndarray] = {}
    params = {
        name: None if isinstance(value, np.random.RandomState) else value
        for name, value in estimator.get_params(deep=False).items()
    }
    fitted = {name: value for name, value in vars(estimator).items() if name not in params}
    description = {
        "kind": "estimator",
        "format": FORMAT,
        "class": type(estimator).__name__,
        "params": _pack(params, arrays),
        "fitted": _pack(fitted, arrays),
    }
    store.write(path, arrays, description)


def load(cls: type, path: str | os.PathLike) -> Any:
    """Rebuild an estimator of class ``cls``."""
    arrays, description = store.read(path)
    if description.get("kind") != "estimator":
        raise PosteriorFileError(f"{path} holds a posterior, not an estimator; open it with posterion.load")
    if description["class"] != cls.__name__:
        raise PosteriorFileError(f"{path} holds a {description['class']}; open it with {description['class']}.load")
    if description["format"] > FORMAT:
        raise PosteriorFileError(
            f"{path} was saved by a newer Posterion; upgrade with: pip install --upgrade posterion"
        )
    estimator = cls(**_unpack(description["params"], arrays))
    for name, value in _unpack(description["fitted"], arrays).items():
        setattr(estimator, name, value)
    return estimator


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        name, order = f"a{len(arrays)}", "F" if value.flags.f_contiguous and value.ndim > 1 else "C"
        if _is_triangle(value):
            arrays[name] = value[np.tril_indices(len(value))]
            return {"$": "triangle", "name": name, "order": order}
        arrays[name] = value
        return {"$": "array", "name": name, "order": order}
    if isinstance(value, np.ndarray):  # labels and names of columns
        dtype = "object" if value.dtype == object else value.dtype.str
        return {"$": "list", "dtype": dtype, "items": [_pack(item, arrays) for item in value.tolist()]}
    if isinstance(value, Mapping):
        return {"$": "dict", "items": [[_pack(k, arrays), _pack(v, arrays)] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        return {"$": type(value).__name__, "items": [_pack(item, arrays) for item in value]}
    if type(value).__name__ in kinds.KNOWN:
        parts = {field.name: _pack(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"$": "kind", "name": type(value).__name__, "parts": parts}
    raise PosteriorFileError(f"a {type(value).__name__} ({value!r}) cannot be saved; pickle the estimator instead")


def _is_triangle(value: np.ndarray) -> bool:
    """Whether it is a lower triangle, such as the Cholesky factors that most of a file is: half of it is zeros."""
    return value.ndim == 2 and value.shape[0] == value.shape[1] > 2 and not np.any(np.triu(value, 1))


def _unpack(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind is None:
        return {name: _unpack(item, arrays) for name, item in value.items()}
    if kind == "array":
        return np.array(arrays[value["name"]], order=value["order"])
    if kind == "triangle":
        part = arrays[value["name"]]
        rows = int(np.sqrt(2 * part.size))  # of n (n + 1) / 2 entries
        whole = np.zeros((rows, rows), part.dtype, order=value["order"])
        whole[np.tril_indices(rows)] = part
        return whole
    if kind == "list" and "dtype" in value:
        items = [_unpack(item, arrays) for item in value["items"]]
        return np.array(items, dtype=np.dtype(value["dtype"]))
    if kind == "dict":
        return {_unpack(k, arrays): _unpack(v, arrays) for k, v in value["items"]}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_unpack(item, arrays) for item in value["items"])
    if kind == "kind" and value["name"] in kinds.KNOWN:
        return kinds.KNOWN[value["name"]](**{name: _unpack(item, arrays) for name, item in value["parts"].items()})
    raise PosteriorFileError(
        f"the file has a part of an unknown kind, {value!r:.80}; it is damaged or of a newer version"
    )
