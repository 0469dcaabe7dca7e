"""Every name of JAX that may move without notice, in one place.

The pass reads jaxprs, equations and primitives, whose insides JAX may change in any release. If one of the names below
vanishes, `posterion.compilation.minor_axis.batch_minor` calls the untouched function, which is slower and equally
right; ``tests/compilation/test_minor_axis_jaxprs.py`` then says which name it was.

=============================  =======================================================================================
``Jaxpr``                      ``constvars``, ``invars``, ``outvars``, ``eqns``, ``effects``, ``consts`` (before 0.10
                               ``consts`` was only on ``ClosedJaxpr``, around ``jaxpr``)
``JaxprEqn``                   ``primitive``, ``invars``, ``outvars``, ``params``
``JaxprEqn.ctx.manager``       the settings in force where the equation was traced (random numbers, metadata)
``Literal.val``                a constant that stands where a variable could stand
``Var.aval``                   ``shape`` and ``dtype``
``Primitive``                  ``name``, ``multiple_results``, ``bind``
``Primitive.get_bind_params``  turns the parameters of an equation into those that ``bind`` takes
``JaxprEqn.params``            by name, in `rules`, `products` and `interpreter`
=============================  =======================================================================================
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax

Operand: TypeAlias = Any
"""What a primitive takes: an array, concrete or traced, or a constant of a jaxpr (a NumPy array or a number)."""

Jaxpr: TypeAlias = Any
"""A ``jax.extend.Jaxpr``; not imported, so that nothing breaks on import if it moves."""

Equation: TypeAlias = Any
"""A ``jax.extend.JaxprEqn``, likewise."""

INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
"""Primitives that only call a jaxpr, and the parameter that holds it."""


def trace(function: Callable, *arguments: Any) -> tuple[Jaxpr, Sequence[Operand]]:
    """The jaxpr of a function and the constants it closes over."""
    return opened(jax.make_jaxpr(function)(*arguments))


def opened(jaxpr: Any) -> tuple[Jaxpr, Sequence[Operand]]:
    """A jaxpr apart from its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), tuple(getattr(jaxpr, "consts", ()))


def is_literal(atom: Any) -> bool:
    """True if an equation's operand is a constant, to be read from ``atom.val``."""
    return hasattr(atom, "val")


def inlined_call(equation: Equation) -> tuple[Jaxpr, Sequence[Operand]] | None:
    """What a plain call runs; None if it is no call, or one that also asks for a placement."""
    parameter = INLINED.get(equation.primitive.name)
    if parameter is None:
        return None
    placements = (*equation.params.get("in_shardings", ()), *equation.params.get("out_shardings", ()))
    if any(type(placement).__name__ != "UnspecifiedValue" for placement in placements):
        return None
    return opened(equation.params[parameter])


CHECKPOINTS = ("remat2", "remat", "checkpoint")
"""What `jax.checkpoint` has been called in jaxprs."""


def is_placed(equation: Equation) -> bool:
    """True if the equation names devices, whose axes an axis order would have to follow."""
    return any(equation.params.get(name) is not None for name in ("sharding", "out_sharding"))


def evaluate(equation: Equation, operands: Sequence[Operand], **changed: Any) -> list[Operand]:
    """Evaluate one equation on other operands, with some of its parameters changed."""
    primitive = equation.primitive
    with equation.ctx.manager:
        results = primitive.bind(*operands, **primitive.get_bind_params({**equation.params, **changed}))
    return list(results) if primitive.multiple_results else [results]
