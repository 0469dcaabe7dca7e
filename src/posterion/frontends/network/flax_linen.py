"""Flax Linen modules: descriptions that are given their weights; the collection ``params`` is the weights."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from posterion._typing import Array, PyTree
from posterion.errors import DataError, UnsupportedModelError
from posterion.frontends.network.weights import (
    DROPOUT_NOTE,
    STATISTICS_NOTE,
    Weights,
    refuse_statistics,
    weight,
)

_SWITCHES = {
    **dict.fromkeys(("train", "training", "is_training"), False),
    **dict.fromkeys(("deterministic", "inference", "eval", "use_running_average"), True),
}
"""Arguments by which modules are told, by the custom of their authors, that this is not training."""


def from_linen(module: Any, inputs: tuple[np.ndarray, ...], variables: PyTree | None) -> Weights:
    """A module with its variables, or with fresh ones for inputs like these.

    Parameters
    ----------
    module
        ``flax.linen.Module``.
    inputs
        Some rows of each input.
    variables
        As ``module.init`` returns them; None starts from ``module.init``.

    Raises
    ------
    UnsupportedModelError
        For a normalisation over the batch that has never been trained; it is named.
    DataError
        For variables without the collection ``params``.
    """
    asked = inspect.signature(module.__call__).parameters
    options = {name: value for name, value in _SWITCHES.items() if name in asked}
    initialise = lambda key: module.init(key, *map(jnp.asarray, inputs), **options)
    fresh = variables is None
    if fresh:
        with jax.enable_x64(False):
            variables = jax.device_get(initialise(jax.random.key(0)))
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise DataError("weights of a Linen module are its variables, {'params': {...}}, as module.init returns them")
    rest = {name: value for name, value in variables.items() if name != "params"}
    flat, tree = jax.tree_util.tree_flatten_with_path(variables["params"])
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]
    leaves = tuple(
        weight(name, value, lookup=name.rpartition(".")[2] == "embedding")
        for name, (_, value) in zip(names, flat, strict=True)
    )

    def apply(arrays: Mapping[str, Array], inputs: tuple) -> PyTree:
        params = jax.tree_util.tree_unflatten(tree, [arrays[name] for name in names])
        return module.apply({"params": params, **rest}, *inputs, **options)

    def draw(seed: int) -> dict[str, np.ndarray]:
        with jax.enable_x64(False):
            drawn = jax.device_get(jax.jit(initialise)(jax.random.key(seed)))
        return {
            name: np.asarray(value, np.float64)
            for name, value in zip(names, jax.tree.leaves(drawn["params"]), strict=True)
        }

    notes = _check(module, variables, inputs, options)
    return Weights(leaves, apply, draw if fresh else None, notes)


def _check(module: Any, variables: Any, inputs: tuple, options: dict[str, bool]) -> tuple[str, ...]:
    """Look at the modules that are called."""
    notes: list[str] = []

    def look(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        part = context.module
        if isinstance(part, linen.Dropout) and part.rate > 0:
            notes.append(DROPOUT_NOTE)
        elif isinstance(part, linen.BatchNorm):
            statistics = variables.get("batch_stats", {})
            for name in part.path:
                statistics = statistics.get(name, {})
            running = kwargs.get("use_running_average", part.use_running_average)
            trained = np.any(np.asarray(statistics.get("mean", 0)) != 0) or np.any(
                np.asarray(statistics.get("var", 1)) != 1
            )
            if not (running and trained):
                raise refuse_statistics(".".join(part.path))
            notes.append(STATISTICS_NOTE)
        return call(*args, **kwargs)

    def run() -> Any:
        with linen.intercept_methods(look):
            return module.apply(variables, *map(jnp.asarray, inputs), **options)

    try:
        jax.eval_shape(run)
    except UnsupportedModelError:
        raise
    except Exception as error:  # whatever the module or Flax has against it
        switches = ", ".join(sorted(_SWITCHES))
        raise UnsupportedModelError(
            f"{type(module).__name__} cannot be called on inputs of shape {[np.shape(x) for x in inputs]}: {error}\n"
            f"(Modules with Dropout or BatchNorm are told that this is not training by an argument of __call__ named "
            f"one of: {switches}.)"
        ) from error
    return tuple(dict.fromkeys(notes))
