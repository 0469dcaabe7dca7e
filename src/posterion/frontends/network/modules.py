"""Which library a network is of, without importing any that the user has not."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, PyTree
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends.network.weights import Weights, weight


def weights_of(module: Any, inputs: tuple[np.ndarray, ...], values: PyTree | None = None) -> Weights:
    """A network of any library, as arrays and a function of them.

    Parameters
    ----------
    module
        A Flax NNX or Linen module, an Equinox module, or a pair ``(init, apply)``.
    inputs
        Some rows of each input, for networks that need to see one before they have weights.
    values
        Weights to start from, for those that do not hold any (Linen, a pair).

    Raises
    ------
    UnsupportedModelError
        For anything else, and for what the libraries' modules cannot take over; see there.
    OptionError
        For ``values`` where the module holds its own.
    """
    if _is("flax.nnx", "Module", module):
        _no_values(values, "a Flax NNX module holds its weights: change them there")
        from posterion.frontends.network.flax_nnx import from_nnx

        return from_nnx(module)
    if _is("flax.linen", "Module", module):
        from posterion.frontends.network.flax_linen import from_linen

        return from_linen(module, inputs, values)
    if isinstance(module, tuple | list) and len(module) == 2 and callable(module[1]):
        return from_pair(module[0], module[1], inputs, values)
    if _is("equinox", "Module", module):
        _no_values(values, "an Equinox module holds its weights: change them there")
        from posterion.frontends.network.equinox_modules import from_equinox

        return from_equinox(module)
    kind = f"the class {module.__name__}" if isinstance(module, type) else type(module).__qualname__
    hint = " Make an instance of it first." if isinstance(module, type) else ""
    raise UnsupportedModelError(
        f"cannot take {kind} as a network: expected a Flax module (nnx or linen), an Equinox module, or a pair "
        f"(init, apply) with init(key, *inputs) -> weights and apply(weights, *inputs) -> output.{hint}"
    )


def _is(package: str, name: str, module: Any) -> bool:
    """Somebody who holds a module has imported its library."""
    loaded = sys.modules.get(package)
    return loaded is not None and isinstance(module, getattr(loaded, name))


def _no_values(values: PyTree | None, why: str) -> None:
    if values is not None:
        raise OptionError(f"weights= is for networks that hold none; {why}")


def from_pair(init: Any, apply: Callable, inputs: tuple[np.ndarray, ...], values: PyTree | None) -> Weights:
    """A pair of functions: ``init(key, *inputs)`` or ``init(key)``, or the weights themselves, and ``apply``.

    Raises
    ------
    OptionError
        If ``init`` is neither a function nor weights.
    """
    if callable(init):
        wanted = _positional(init)
        initialise = lambda key: init(key, *(map(jnp.asarray, inputs) if wanted is None or wanted > 1 else ()))
        if values is None:
            with jax.enable_x64(False):
                values = jax.device_get(initialise(jax.random.key(0)))
            drawn = True
        else:
            drawn = False
    elif values is not None:
        raise OptionError("the pair's first entry holds the weights already: leave weights= out")
    else:
        initialise, values, drawn = None, init, False
    flat, tree = jax.tree_util.tree_flatten_with_path(values)
    if not flat:
        raise DataError("the network has no weights: init returned no arrays")
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "weights" for path, _ in flat]
    leaves = tuple(weight(name, value) for name, (_, value) in zip(names, flat, strict=True))

    def run(arrays: Mapping[str, Array], inputs: tuple) -> PyTree:
        return apply(jax.tree_util.tree_unflatten(tree, [arrays[name] for name in names]), *inputs)

    def draw(seed: int) -> dict[str, np.ndarray]:
        assert initialise is not None  # only handed out where there is one  # noqa: S101
        with jax.enable_x64(False):
            drawn = jax.device_get(initialise(jax.random.key(seed)))
        return {n: np.asarray(v, np.float64) for n, v in zip(names, jax.tree.leaves(drawn), strict=True)}

    return Weights(leaves, run, draw if drawn else None)


def _positional(function: Callable) -> int | None:
    """How many arguments a function must be given; None if that cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)
