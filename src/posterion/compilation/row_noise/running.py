"""Evaluates a jaxpr of one row with its own noise wherever weights are drawn row by row."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from posterion._typing import Array
from posterion.compilation.minor_axis import jaxprs
from posterion.compilation.minor_axis.jaxprs import Equation, Jaxpr, Operand
from posterion.compilation.row_noise.uses import Origin, Use, Way, pieces


class Parts(NamedTuple):
    """A piece of ``z``, or what was made of it: one draw that rows share, and its mean and standard deviation."""

    draw: Operand
    mean: Operand
    sd: Operand


class Runner:
    """Evaluates a jaxpr with pieces of ``z`` in parts and the chosen uses with their noise."""

    def __init__(self, scaled: Mapping[int, int], uses: Mapping[int, tuple[Use, Sequence[Array]]]) -> None:
        self._number, self._scaled, self._uses = count(), scaled, uses

    def walk(self, jaxpr: Jaxpr, constants: Sequence[Operand], arguments: Sequence[Operand | Parts]) -> list[Any]:
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))
        read = lambda atom: atom.val if jaxprs.is_literal(atom) else values[atom]
        for equation in jaxpr.eqns:
            values.update(
                zip(equation.outvars, self._equation(equation, [read(a) for a in equation.invars]), strict=True)
            )
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Equation, operands: list[Any]) -> list[Any]:
        number = next(self._number)
        if (call := jaxprs.inlined_call(equation)) is not None:
            return self.walk(*call, operands)
        if number in self._uses:
            use, noise = self._uses[number]
            return [_drawn_by_row(equation, operands, use, noise)]
        at = self._scaled.get(number, 0)
        if operands and isinstance(operands[at], Parts) and (number in self._scaled or self._rearranges(equation)):
            each = [
                jaxprs.evaluate(equation, [part if k == at else draw_of(o) for k, o in enumerate(operands)])
                for part in operands[at]
            ]
            return [Parts(*parts) for parts in zip(*each, strict=True)]
        return jaxprs.evaluate(equation, [draw_of(operand) for operand in operands])

    @staticmethod
    def _rearranges(equation: Equation) -> bool:
        return pieces(equation, Origin(span=(0, 1))) is not None


def _drawn_by_row(equation: Equation, operands: Sequence[Any], use: Use, noise: Sequence[Array]) -> Operand:
    """One row's result, as if its weights had been drawn for it alone."""
    x, parts = draw_of(operands[1 - use.weights]), operands[use.weights]
    of = lambda x, w: jaxprs.evaluate(equation, [x, w] if use.weights else [w, x])[0]
    if use.way is Way.ADDED:
        return of(x, parts.mean + parts.sd * noise[0].astype(parts.sd.dtype))
    if use.way is Way.LOCAL:
        of = partial(_of_one_row, equation, use.weights)
        variance = of(x * x, parts.sd * parts.sd)
        spreads = variance > 0  # where nothing spreads the root has no slope
        root = jnp.where(spreads, jnp.sqrt(jnp.where(spreads, variance, 1)), 0)
        return of(x, parts.mean) + root * noise[0].astype(variance.dtype)
    signs = [sign.astype(x.dtype) for sign in noise]
    if equation.primitive.name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        along = lambda sign, spec, rank: jnp.expand_dims(sign, [axis for axis in range(rank) if axis != spec[1]])
        signs = [along(s, spec, x.ndim) for s, spec in zip(signs, (numbers.lhs_spec, numbers.out_spec), strict=True)]
    return of(x, parts.mean) + signs[1] * of(x * signs[0], parts.draw - parts.mean)


def _of_one_row(equation: Equation, weights: int, x: Operand, w: Operand) -> Array:
    """A product whose other axes of ``x`` are of length 1, without them: of all rows it is one of two matrices."""
    params, result = equation.params, equation.outvars[0].aval
    contracted, _ = params["dimension_numbers"]
    of_x, of_w = contracted[1 - weights], contracted[weights]
    inner = lax.transpose(x, (*of_x, *(axis for axis in range(x.ndim) if axis not in of_x)))
    inner = inner.reshape(tuple(x.shape[axis] for axis in of_x))
    precision = (
        params["precision"][:: 1 if weights else -1] if isinstance(params["precision"], tuple) else params["precision"]
    )
    numbers = ((tuple(range(len(of_x))), tuple(of_w)), ((), ()))
    product = lax.dot_general(inner, w, numbers, precision, params["preferred_element_type"])
    return product.reshape(result.shape)


def draw_of(value: Any) -> Operand:
    """The draw that all rows share, of what is in parts; anything else as it is."""
    return value.draw if isinstance(value, Parts) else value
