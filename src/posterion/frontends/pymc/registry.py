"""One target per model: what was made of a model is found again as long as the model lives and is unchanged."""

import threading
import weakref
from typing import Any

import numpy as np

from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc.foreign import pymc
from posterion.frontends.pymc.target import PyMCTarget, SharedGraph

MAX_TARGETS = 8
"""Targets kept per model, one per set of data shapes and labels."""

_lock = threading.RLock()
_known: "weakref.WeakKeyDictionary[Any, dict]" = weakref.WeakKeyDictionary()


def target_of(model: Any, *, host_callbacks: bool) -> PyMCTarget:
    """The target of a model; the same object for an unchanged model with data of unchanged shapes."""
    if not isinstance(model, pymc.Model):
        raise UnsupportedModelError(f"A pymc.Model is needed, not {type(model).__name__}.")
    model = model.root
    with _lock:
        graphs = _known.setdefault(model, {})
        variables = (host_callbacks, *_variables(model))
        if variables not in graphs:
            graphs.clear()  # the model was changed: what was made of its former self is of no use
            graphs[variables] = _first_target(model, host_callbacks=host_callbacks)
        shared, targets = graphs[variables]
        state = (*shared.state(), _labels(model))
        if state not in targets:
            while len(targets) >= MAX_TARGETS:
                del targets[next(iter(targets))]
            target = PyMCTarget(shared, dict(_coords(model)))
            state = (*shared.state(), _labels(model))  # making the target may have found more to watch
            targets[state] = target
        return targets[state]


def _first_target(model: "pymc.Model", *, host_callbacks: bool) -> tuple[SharedGraph, dict[tuple, PyMCTarget]]:
    """A model's graph and its first target; plain arrays stay constants if an operation insists on that."""
    refusal = None
    for plain_arrays in (True, False):
        try:
            shared = SharedGraph(model, host_callbacks=host_callbacks, plain_arrays=plain_arrays)
            target = PyMCTarget(shared, dict(_coords(model)))
        except UnsupportedModelError as error:
            refusal = refusal or error
        else:
            return shared, {(*shared.state(), _labels(model)): target}
    assert refusal is not None
    raise refusal


def _variables(model: "pymc.Model") -> tuple:
    """What a model is made of. Identities are enough: the graph that is kept keeps these objects alive."""
    pairs = [(id(v), id(model.rvs_to_values[v]), id(model.rvs_to_transforms.get(v))) for v in model.basic_RVs]
    starts = [
        (v.name, value.tobytes() if isinstance(value, np.ndarray) else repr(value))
        for v, value in model.rvs_to_initial_values.items()
    ]
    others = [id(v) for v in (*model.deterministics, *model.potentials, *model.data_vars)]
    dims = [(name, tuple(dims)) for name, dims in model.named_vars_to_dims.items()]
    return tuple(pairs), tuple(starts), tuple(others), tuple(dims)


def _coords(model: "pymc.Model"):
    for dim, labels in model.coords.items():
        if labels is not None:
            yield dim, labels


def _labels(model: "pymc.Model") -> tuple:
    return tuple(
        (dim, tuple(map(repr, labels)) if len(labels) < 10_000 else id(labels)) for dim, labels in _coords(model)
    )
