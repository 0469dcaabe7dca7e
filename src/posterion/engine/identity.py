"""What makes a fit this one and no other: its model, its data, and the options its numbers depend on.

A model is known by its variables and by its log density at two fixed points, which does not depend on how it was
written or on the versions of anything; data by their digests, so that an error can name the input that differs.
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posterion.engine.controls import Controls
from posterion.engine.task import Task
from posterion.methods.base import AbstractMethod

_LARGEST = 1 << 28
"""Bytes of an array that are read; of a larger one evenly spaced rows are."""


def identity(method: AbstractMethod, task: Task, controls: Controls) -> dict[str, Any]:
    """Plain values, by names that a user understands."""
    found: dict[str, Any] = {
        "variables": [[v.name, list(v.shape)] for v in task.layout.variables],
        "model (its log density at two fixed points)": _log_densities(task),
        "method": repr(method),
        "n": controls.n,
        "stop": repr(controls.rule) if controls.n is None else None,
        "restarts": controls.restarts,
        "batch_size": task.rows_per_step,
        "kl_weight": task.kl_weight,
        "obj_optimizer (its steps on a test problem)": _steps_of(controls.optimiser),
        "random_seed": task.seed,
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
    }
    if task.source is not None:
        found["source"] = [task.source.num_rows, *task.source.identity]
    return found | {f"data {name!r}": _digest(values) for name, values in task.values.items()}


def tolerance() -> float:
    """By how much numbers of the same fit may differ, relatively: sums are taken in another order on other devices."""
    return 1e-7 if jax.config.jax_enable_x64 else 1e-3


def _log_densities(task: Task) -> list[float]:
    dtype = jnp.result_type(float)
    initial, found = task.initial_point(), []
    for seed in (1, 2):
        z = initial + 0.1 * np.random.default_rng(seed).standard_normal(initial.shape)
        value, gradient, _ = task.derivatives(z.astype(dtype), np.zeros(z.shape, dtype), task.sample)
        found += [float(value), float(np.linalg.norm(np.asarray(gradient, np.float64)))]
    return found


def _digest(values: np.ndarray) -> list[Any]:
    values = np.asarray(values)
    some = values
    if values.nbytes > _LARGEST:
        some = values[:: -(-values.nbytes // _LARGEST)]
    digest = hashlib.blake2b(np.ascontiguousarray(some).view(np.uint8).data if some.size else b"", digest_size=8)
    return [str(values.dtype), list(values.shape), digest.hexdigest()]


def _steps_of(optimiser: optax.GradientTransformation | None) -> list[float] | None:
    """Two steps on three numbers: an optimiser is a pair of functions, which cannot be compared otherwise."""
    if optimiser is None:
        return None
    params = jnp.asarray([1.0, -2.0, 0.5])
    state, steps = optimiser.init(params), []
    for scale in (1.0, 0.1):
        updates, state = optimiser.update(scale * jnp.asarray([0.3, 1.0, -2.0]), state, params)
        steps += np.asarray(updates, np.float64).tolist()
    return steps
