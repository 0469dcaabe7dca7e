"""Equinox modules: functions of one example whose floating-point arrays are the weights."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax

from posterion._typing import Array, PyTree
from posterion.errors import UnsupportedModelError
from posterion.frontends.network.weights import DROPOUT_NOTE, Weights, refuse_statistics, weight


def from_equinox(module: Any) -> Weights:
    """A module in inference mode, as arrays and a function of many rows.

    Equinox modules take one example, so theirs is mapped over the rows. `eqx.nn.Shared` shares weights; the same array
    at two places without it would be two, in Equinox as here, and is refused because it rarely is what was meant.

    Raises
    ------
    UnsupportedModelError
        For a module with state (BatchNorm, SpectralNorm) or the same array twice; it is named.
    """
    module = eqx.nn.inference_mode(module)
    notes = _check(module)
    params, static = eqx.partition(module, eqx.is_inexact_array)
    flat, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]
    seen: dict[int, str] = {}
    for name, (_, value) in zip(names, flat, strict=True):
        if id(value) in seen:
            raise UnsupportedModelError(
                f"{seen[id(value)]!r} and {name!r} are the same array, which Equinox trains as two. Share it with "
                "equinox.nn.Shared, or give each an array of its own."
            )
        seen[id(value)] = name
    lookups = {name for name in names if _parent(module, name, eqx.nn.Embedding)}
    leaves = tuple(
        weight(name, value, outputs_first=True, lookup=name in lookups)
        for name, (_, value) in zip(names, flat, strict=True)
    )

    def apply(arrays: Mapping[str, Array], inputs: tuple) -> PyTree:
        whole = eqx.combine(jax.tree_util.tree_unflatten(tree, [arrays[name] for name in names]), static)
        return jax.vmap(whole)(*inputs)

    return Weights(leaves, apply, notes=notes)


def _parts(module: Any, kinds: tuple[type, ...]) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_flatten_with_path(module, is_leaf=lambda part: isinstance(part, kinds))[0]
    return [
        (jax.tree_util.keystr(path, simple=True, separator=".") or type(module).__name__, part)
        for path, part in found
        if isinstance(part, kinds)
    ]


def _parent(module: Any, name: str, kind: type) -> bool:
    return any(name.startswith(f"{path}.") or path == type(module).__name__ for path, _ in _parts(module, (kind,)))


def _check(module: Any) -> tuple[str, ...]:
    for path, part in _parts(module, (eqx.nn.BatchNorm, eqx.nn.SpectralNorm, eqx.nn.StateIndex)):
        if isinstance(part, eqx.nn.BatchNorm):
            raise refuse_statistics(path)
        raise UnsupportedModelError(
            f"{type(part).__name__} at {path!r} keeps state between calls, and the likelihood of a row must depend on "
            "the weights and the row alone. Leave it out, or wrap the module so that its state is fixed."
        )
    dropout = [part for _, part in _parts(module, (eqx.nn.Dropout,)) if part.p > 0]
    return (DROPOUT_NOTE,) if dropout else ()
