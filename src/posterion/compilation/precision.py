"""Precision per fit: float32 for networks, float64 for everything else, and no global flag left changed.

JAX computes in float32 unless `jax.enable_x64` is in force; that context manager is thread-local, and a function jitted
inside it silently runs in float32 when called outside. So every public method of Posterion enters `precision(...)`
around its whole body and hands out NumPy arrays.

What counts as a network: somewhere a matrix product has an operand that depends on the parameters *and* the data (the
activations of a hidden layer) and another that depends on the parameters (the next layer's weights). Regressions,
hierarchies, Gaussian processes and factor models do not have such a product.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import jax
from jax.extend import core as jax_core

from posterion._typing import Data
from posterion.errors import OptionError

Precision = Literal["float32", "float64"]

_PARAMETERS, _DATA = 1, 2
_FACTORISATIONS = {"cholesky", "triangular_solve", "eigh", "lu", "qr", "svd"}


def enabled(*, x64: bool) -> AbstractContextManager:
    """Context in which JAX computes in double (``x64``) or single precision, in this thread only."""
    return jax.enable_x64(x64)


def choose(requested: str | None, *, network: bool) -> bool:
    """Whether to compute in float64.

    Raises
    ------
    OptionError
        If ``requested`` is neither None nor one of "float32" and "float64".
    """
    if requested is None:
        return not network
    if requested not in ("float32", "float64"):
        raise OptionError(f"precision must be 'float32', 'float64' or None, not {requested!r}")
    return requested == "float64"


def is_network(function: Callable, z: jax.Array | jax.ShapeDtypeStruct, data: Data) -> bool:
    """Whether ``function(z, data)`` multiplies activations by weights (see the module's first lines).

    Only traced, never run. A matrix factorisation of the parameters rules a network out: such models need float64.
    """
    closed = jax.make_jaxpr(function)(z, data)
    marks = [_PARAMETERS] + [_DATA] * (len(closed.jaxpr.invars) - 1)
    found, factorises = False, False

    def walk(jaxpr: jax_core.Jaxpr, marks: list[int]) -> list[int]:
        nonlocal found, factorises
        environment = dict(zip(jaxpr.invars, marks, strict=True))

        def read(atom: Any) -> int:
            return 0 if isinstance(atom, jax_core.Literal) else environment.get(atom, 0)

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            union = 0
            for mark in inputs:
                union |= mark
            name = equation.primitive.name
            if name in ("dot_general", "conv_general_dilated"):
                left, right = inputs
                both = _PARAMETERS | _DATA
                found |= (left == both and right & _PARAMETERS) or (right == both and left & _PARAMETERS)
            factorises |= name in _FACTORISATIONS and bool(union & _PARAMETERS)
            outputs = [union] * len(equation.outvars)
            for inner in _inner_jaxprs(equation):
                if len(inner.invars) == len(inputs):
                    inner_outputs = walk(inner, inputs)
                    if len(inner_outputs) == len(outputs) and name in ("jit", "pjit", "closed_call", "custom_jvp_call"):
                        outputs = inner_outputs
                else:
                    walk(inner, [union] * len(inner.invars))
            environment.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    walk(closed.jaxpr, marks)
    return bool(found) and not factorises


def _inner_jaxprs(equation: jax_core.JaxprEqn) -> list[jax_core.Jaxpr]:
    inner = []
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jax_core.ClosedJaxpr):
                inner.append(item.jaxpr)
            elif isinstance(item, jax_core.Jaxpr):
                inner.append(item)
    return inner
