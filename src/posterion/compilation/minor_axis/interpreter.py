"""Evaluates a jaxpr again, equation by equation, with every value held in the order that suits it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from posterion.compilation.minor_axis import jaxprs
from posterion.compilation.minor_axis.jaxprs import Equation, Operand
from posterion.compilation.minor_axis.products import FlipLimits, dot_general
from posterion.compilation.minor_axis.rules import RULES
from posterion.compilation.minor_axis.values import Order, Value, common_order, held


@dataclass
class Counts:
    """What happened while a jaxpr was evaluated.

    Parameters
    ----------
    dots
        Matrix products met.
    flipped
        Those whose operands were exchanged.
    fallbacks
        By primitive, how often a value had to be brought back into natural order for want of a rule.
    """

    dots: int = 0
    flipped: int = 0
    fallbacks: dict[str, int] = field(default_factory=dict)


class Interpreter:
    """Runs jaxprs on values; keeps count.

    Parameters
    ----------
    limits
        When a matrix product is turned.
    """

    def __init__(self, limits: FlipLimits):
        self.limits = limits
        self.counts = Counts()

    def run(self, jaxpr: Any, constants: Sequence[Operand], arguments: Sequence[Value]) -> list[Value]:
        """Evaluate a jaxpr."""
        values = dict(zip(jaxpr.constvars, map(held, constants), strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            return held(atom.val) if jaxprs.is_literal(atom) else values[atom]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Equation, operands: Sequence[Value]) -> list[Value]:
        """Evaluate one equation by its rule, or in natural order if it has none."""
        results = None if jaxprs.is_placed(equation) else self._by_rule(equation, operands)
        if results is None:
            if any(operand.is_moved for operand in operands):
                name = equation.primitive.name
                self.counts.fallbacks[name] = self.counts.fallbacks.get(name, 0) + 1
            results = _in_natural_order(equation, operands)
        return results

    def _by_rule(self, equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
        name = equation.primitive.name
        if name in RULES:
            return RULES[name](equation, operands)
        if name == "dot_general":
            product = dot_general(equation, operands, self.limits)
            if product is None:
                return None
            result, flipped = product
            self.counts.dots += 1
            self.counts.flipped += flipped
            return [result]
        if name == "custom_jvp_call":
            return self._custom_jvp_call(equation, operands)
        if name in jaxprs.CHECKPOINTS:
            return self._checkpoint(equation, operands)
        call = jaxprs.inlined_call(equation)
        return None if call is None else self.run(*call, operands)

    def _checkpoint(self, equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
        """`jax.checkpoint` around a body that is run by this interpreter."""
        if equation.params.get("differentiated"):
            return None
        body = _Body(self, jaxprs.opened(equation.params["jaxpr"]), operands)
        function = jax.checkpoint(
            body.run, prevent_cse=equation.params["prevent_cse"], policy=equation.params["policy"]
        )
        return body.results(function(*body.arrays))

    def _custom_jvp_call(self, equation: Equation, operands: Sequence[Value]) -> list[Value] | None:
        """A new `jax.custom_jvp` whose body and rule are both run by this interpreter.

        Running the body alone would lose the derivative for whose sake the rule was written (no overflow, slope 0 of
        relu at 0). The rule is reached through the public `jax.jvp` of the equation itself.
        """
        if not any(operand.is_moved for operand in operands) or equation.params.get("symbolic_zeros"):
            return None
        if not all(_is_inexact(atom) for atom in equation.outvars):
            return None
        differentiable = [_is_inexact(atom) for atom in equation.invars]
        body = _Body(self, jaxprs.opened(equation.params["call_jaxpr"]), operands)
        function = jax.custom_jvp(lambda *arrays: body.run(*arrays))

        def rule(
            primals: Sequence[Operand], tangents: Sequence[Operand]
        ) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
            def natural_jvp(moving: list[Operand], moved: list[Operand], fixed: list[Operand]):
                def call(*moving: Operand) -> list[Operand]:
                    return jaxprs.evaluate(equation, _merged(differentiable, moving, fixed))

                return jax.jvp(call, moving, moved)

            values = body.values(primals)
            moving = [value for value, use in zip(values, differentiable, strict=True) if use]
            moved = [value for value, use in zip(body.values(tangents), differentiable, strict=True) if use]
            fixed = [value for value, use in zip(values, differentiable, strict=True) if not use]
            jaxpr, constants = jaxprs.trace(natural_jvp, *([_spec(v) for v in part] for part in (moving, moved, fixed)))
            results = Interpreter(self.limits).run(jaxpr, constants, [*moving, *moved, *fixed])
            half = len(results) // 2
            return body.ordered(results[:half]), body.ordered(results[half:])

        function.defjvp(rule)
        return body.results(function(*body.arrays))


class _Body:
    """A jaxpr inside an equation as a function of stored arrays, with the orders of its results fixed beforehand."""

    def __init__(self, interpreter: Interpreter, opened: tuple[Any, Sequence[Operand]], operands: Sequence[Value]):
        self.interpreter = interpreter
        self.jaxpr, self.constants = opened
        rank = max((len(operand.shape) for operand in operands), default=0)
        self.common = common_order(operands, rank) or tuple(range(rank))
        self.orders = [self._order(operand) for operand in operands]
        self.arrays = [operand.in_order(order) for operand, order in zip(operands, self.orders, strict=True)]
        self.result_orders: list[Order] = []

        def probe(*arrays: Operand) -> list[Operand]:
            results = interpreter.run(self.jaxpr, self.constants, self.values(arrays))
            self.result_orders = [self._order(result) for result in results]
            return []

        jax.eval_shape(probe, *self.arrays)

    def _order(self, value: Value) -> Order:
        if value.order is None and len(value.shape) == len(self.common):
            return self.common
        return value.held_order

    def values(self, arrays: Sequence[Operand]) -> list[Value]:
        return [held(array, order) for array, order in zip(arrays, self.orders, strict=True)]

    def ordered(self, values: Sequence[Value]) -> tuple[Operand, ...]:
        return tuple(value.in_order(order) for value, order in zip(values, self.result_orders, strict=True))

    def run(self, *arrays: Operand) -> tuple[Operand, ...]:
        # A fresh interpreter: the probe has already counted what is in here.
        results = Interpreter(self.interpreter.limits).run(self.jaxpr, self.constants, self.values(arrays))
        return self.ordered(results)

    def results(self, arrays: Sequence[Operand]) -> list[Value]:
        return [held(array, order) for array, order in zip(arrays, self.result_orders, strict=True)]


def _in_natural_order(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    return [held(result) for result in jaxprs.evaluate(equation, [operand.natural for operand in operands])]


def _is_inexact(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, jnp.inexact)


def _spec(value: Value) -> jax.ShapeDtypeStruct:
    stored = value.in_order(value.held_order)
    return jax.ShapeDtypeStruct(value.shape, stored.dtype)


def _merged(mask: Sequence[bool], true: Sequence[Any], false: Sequence[Any]) -> list[Any]:
    """Interleave two lists by a mask."""
    from_true, from_false = iter(true), iter(false)
    return [next(from_true) if use else next(from_false) for use in mask]
