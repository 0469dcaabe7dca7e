"""Flax NNX modules: their ``nnx.Param`` arrays are the weights, everything else stays as it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from posterion._typing import Array, PyTree
from posterion.frontends.network.weights import (
    DROPOUT_NOTE,
    STATISTICS_NOTE,
    Weights,
    refuse_statistics,
    weight,
)


def from_nnx(module: Any) -> Weights:
    """A module in evaluation mode, as arrays and a function; the module itself is left as it was.

    Raises
    ------
    UnsupportedModelError
        For a normalisation over the batch that has never been trained; it is named.
    """
    module = nnx.clone(module)
    module.eval()
    notes = _check(module)
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    flat = nnx.to_flat_state(params)
    names = [".".join(map(str, path)) for path, _ in flat]
    leaves = tuple(
        weight(name, variable.get_value(), lookup=name.rpartition(".")[2] == "embedding")
        for name, (_, variable) in zip(names, flat, strict=True)
    )

    def apply(arrays: Mapping[str, Array], inputs: tuple) -> PyTree:
        state = nnx.from_flat_state(
            [(path, variable.replace(arrays[name])) for name, (path, variable) in zip(names, flat, strict=True)]
        )
        return nnx.merge(graph, state, rest)(*inputs)

    return Weights(leaves, apply, notes=notes)


def _check(module: Any) -> tuple[str, ...]:
    notes = []
    for path, part in nnx.iter_modules(module):
        where = ".".join(map(str, path)) or type(module).__name__
        if isinstance(part, nnx.BatchNorm):
            mean, variance = (np.asarray(value.get_value()) for value in (part.mean, part.var))
            if np.all(mean == 0) and np.all(variance == 1):
                raise refuse_statistics(where)
            notes.append(STATISTICS_NOTE)
        elif isinstance(part, nnx.Dropout) and part.rate > 0:
            notes.append(DROPOUT_NOTE)
    return tuple(dict.fromkeys(notes))
