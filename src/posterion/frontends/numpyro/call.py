"""The call of a model, ``model(*args, **kwargs)``, with its arrays taken out, so that they can be passed anew.

Arrays are data: they get names and become arguments of everything that is compiled. Numbers, strings, None, functions
and modules say what the model is, and stay. Containers are opened: an array in a dictionary is named by its key.
"""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Data
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends.arrays import as_numbers, slot_of
from posterion.target import Slot


@dataclasses.dataclass(frozen=True)
class _Hole:
    """Where an array was."""

    name: str


class Call:
    """A model and its arguments.

    Parameters
    ----------
    model
        Any function with NumPyro's statements in it.
    args, kwargs
        What it is called with.

    Attributes
    ----------
    arrays
        The arrays among the arguments, by name; NumPy arrays, not copied.

    Raises
    ------
    UnsupportedModelError
        If the model cannot be called.
    DataError
        If an argument is missing, unknown, or an array of something else than numbers.
    OptionError
        If the arguments are not a sequence and a mapping.
    """

    def __init__(self, model: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> None:
        if not callable(model) or isinstance(model, type):
            raise UnsupportedModelError(
                f"a NumPyro model is a function with numpyro.sample statements, not {_describe(model)}"
            )
        if isinstance(args, str | Mapping) or not isinstance(args, Sequence):
            raise OptionError(
                f"model_args must be a tuple, one entry per argument of the model, not {_describe(args)}; "
                "a single one is written model_args=(x,)"
            )
        self.model = model
        self._bound = _bind(model, tuple(args), dict(kwargs or {}))
        found, self._tree = jax.tree_util.tree_flatten_with_path(list(self._bound.arguments.values()), is_leaf=_is_leaf)
        arguments = list(self._bound.arguments)
        leaves = [((jax.tree_util.DictKey(arguments[path[0].idx]), *path[1:]), leaf) for path, leaf in found]
        paths = [path for path, leaf in leaves if _is_array(leaf)]
        names = dict(zip(paths, _short_names(self._bound.signature, paths), strict=True))
        self.arrays = {names[path]: as_numbers(names[path], leaf) for path, leaf in leaves if _is_array(leaf)}
        self._leaves = [_Hole(names[path]) if _is_array(leaf) else leaf for path, leaf in leaves]

    def slots(self) -> dict[str, Slot]:
        """A slot per array, as it is; which axis holds rows is not known here."""
        return {name: slot_of(array) for name, array in self.arrays.items()}

    def __call__(self, data: Data) -> Any:
        """Call the model with these arrays in place of its own; those left out keep the values they came with."""
        leaves = [data.get(v.name, self.arrays[v.name]) if isinstance(v, _Hole) else v for v in self._leaves]
        values = jax.tree_util.tree_unflatten(self._tree, leaves)
        arguments = dict(zip(self._bound.arguments, values, strict=True))
        bound = inspect.BoundArguments(self._bound.signature, arguments)  # type: ignore[arg-type]
        return self.model(*bound.args, **bound.kwargs)

    def identity(self) -> Hashable:
        """What two calls have in common that may share what was compiled: the model, and all arguments but arrays.

        Only meaningful as long as both calls are alive, since objects that do not compare by value go by identity.
        """
        rest = tuple(leaf if isinstance(leaf, _Hole) else identity(leaf) for leaf in self._leaves)
        shapes = tuple((name, array.shape, str(array.dtype)) for name, array in self.arrays.items())
        return identity(self.model), self._tree, rest, shapes


def identity(value: Any) -> Hashable:
    """Something equal for equal values, and for objects that do not compare by value for the same object only."""
    try:
        hash(value)
    except TypeError:
        return type(value), id(value)
    return type(value), value


def _describe(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{'the class ' if isinstance(value, type) else ''}{kind.__module__}.{kind.__qualname__}"


def _bind(model: Callable, args: tuple, kwargs: dict[str, Any]) -> inspect.BoundArguments:
    try:
        signature = inspect.signature(model)
    except (TypeError, ValueError):  # something written in C, or a callable object that hides what it wraps
        anything = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
        signature = inspect.Signature([*anything, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])
    name = getattr(model, "__name__", "model")
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        given = signature.bind_partial(*args, **kwargs).arguments if "missing" in str(error) else None
        if given is None:
            raise DataError(f"{name}{signature} does not take these arguments: {error}") from error
        needed = [p for p in signature.parameters.values() if p.default is p.empty and p.kind in _SINGLE]
        lacking = ", ".join(repr(p.name) for p in needed if p.name not in given)
        raise DataError(
            f"{name}{signature} lacks its argument{'s' * (lacking.count(',') > 0)} {lacking}: "
            "pass model_args=(...) or model_kwargs={...}"
        ) from error
    bound.apply_defaults()
    return bound


_SINGLE = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)


def _is_leaf(value: Any) -> bool:
    """Containers of data are opened; distributions and neural networks, though pytrees, are parts of the model."""
    if isinstance(value, dict | list | tuple):
        return False
    registered = not jax.tree_util.all_leaves([value])
    return not (registered and dataclasses.is_dataclass(value) and not callable(value))


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array):
        return not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    if isinstance(leaf, np.generic | type) or callable(leaf):
        return False
    return isinstance(leaf, np.ndarray) or hasattr(leaf, "to_numpy") or hasattr(leaf, "__array__")


def _short_names(signature: inspect.Signature, paths: Sequence[tuple]) -> list[str]:
    """The last key of each path where that says enough, else the whole path: "x", "batch.x", "layers.0"."""
    keywords = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    whole = [path[1:] if keywords and path[0] == jax.tree_util.DictKey(keywords[0]) else path for path in paths]
    long = [jax.tree_util.keystr(path, simple=True, separator=".") for path in whole]
    last = [_key(path[-1]) for path in whole]
    taken = [name for name in last if name is not None] + list(signature.parameters)
    short = []
    for path, key, full in zip(whole, last, long, strict=True):
        alone = key is not None and taken.count(key) == 1 + (len(path) == 1 and key in signature.parameters)
        short.append(key if alone and key is not None else full)
    return short


def _key(entry: Any) -> str | None:
    key = getattr(entry, "key", getattr(entry, "name", None))
    return key if isinstance(key, str) else None
