"""What a target and its data are like: where the rows are, which slot holds which outcome, how large its arrays get."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core as jax_core

from posterion.compilation.dependence import used_inputs
from posterion.target import AbstractRowTarget


def observed_slots(target: AbstractRowTarget, data: Mapping[str, Any]) -> dict[str, str]:
    """By observed variable, the slot its values enter by; without those that have no slot of their own."""
    known = {
        name: observed.slot
        for name, observed in target.observed.items()
        if observed.slot is not None and target.slots[observed.slot].only_observed
    }
    if len(known) < len(target.observed):
        z = jnp.zeros(target.layout.size)
        used = used_inputs(lambda arrays: target.joint_terms(z, arrays).log_likelihood, target.as_arrays(data))
        for name in set(target.observed) - set(known):
            own = [slot for slot in used.get(name, ()) if target.slots[slot].only_observed]
            if len(own) == 1:
                known[name] = own[0]
    return known


def row_axes(target: AbstractRowTarget) -> dict[str, int]:
    """Slots to cut into blocks; none if a row's prediction depends on other rows or not all variables share rows."""
    if not target.rows_are_independent:
        return {}
    plan = target.row_plan()
    return dict(plan.axes) if set(plan.observed) == set(target.observed) else {}


def num_rows(data: Mapping[str, np.ndarray], axes: Mapping[str, int]) -> int:
    """Rows in ``data``, by the first slot that has any."""
    slot, axis = next(iter(axes.items()))
    return np.shape(data[slot])[axis]


def largest_array(jaxpr: jax_core.Jaxpr) -> int:
    """Bytes of the largest array that evaluating ``jaxpr`` makes or takes."""
    largest = 0
    for variable in [*jaxpr.invars, *(v for equation in jaxpr.eqns for v in equation.outvars)]:
        shape, dtype = getattr(variable.aval, "shape", None), getattr(variable.aval, "dtype", None)
        if shape is not None and dtype is not None:
            largest = max(largest, math.prod(shape) * dtype.itemsize)
    for equation in jaxpr.eqns:
        for inner in jax_core.jaxprs_in_params(equation.params):
            largest = max(largest, largest_array(inner))
    return largest
