"""Where a jaxpr uses pieces of ``z``, and which of these uses can have noise for each row."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, count, pairwise
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp

from posterion.compilation.minor_axis import jaxprs
from posterion.compilation.minor_axis.jaxprs import Equation, Jaxpr

Span = tuple[int, int]
"""First entry of ``z``, and the one behind the last."""

_REARRANGED = frozenset(
    ("convert_element_type", "copy", "copy_p", "expand_dims", "neg", "reshape", "rev", "slice", "squeeze", "transpose")
)
_NOTHING: frozenset[Span] = frozenset()


class Way(enum.Enum):
    """How weights are drawn row by row."""

    LOCAL = "local reparametrisation"
    FLIPOUT = "Flipout"
    ADDED = "drawn"


class Use(NamedTuple):
    """Where a row meets weights that are drawn for it apart.

    Parameters
    ----------
    way
        How.
    weights
        Which operand they are, 0 or 1.
    span
        Where they lie in ``z``.
    shapes
        Of one row's noise: normals like the result or like the weights, or signs of the inputs and of the outputs.
    """

    way: Way
    weights: int
    span: Span
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Of one row's noise."""
        return sum(map(prod, self.shapes))


@dataclass(frozen=True)
class Origin:
    """What is known of a value before anything runs.

    Parameters
    ----------
    needs
        Pieces of ``z`` it depends on.
    rows
        Whether it depends on the row.
    span
        The piece of ``z`` that it is, rearranged or scaled; None if it is not.
    flat
        Whether it is that piece as it stands in ``z``.
    copied
        Shape of the piece, with axes of length 1, before it was broadcast; None if every entry is there once.
    """

    needs: frozenset[Span] = _NOTHING
    rows: bool = False
    span: Span | None = None
    flat: bool = False
    copied: tuple[int, ...] | None = None


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


class Finder:
    """Follows pieces of ``z`` through a jaxpr and notes where they are used."""

    def __init__(self) -> None:
        self._number = count()
        self._uses: list[Span] = []
        self._alone: dict[int, Use] = {}
        self.scaled: dict[int, int] = {}
        """Equations that scale a piece of ``z``, and which operand the piece is."""

    def alone(self) -> dict[int, Use]:
        """Uses of weights that are used in no other place."""
        spans = [*self._uses, *(use.span for use in self._alone.values())]
        return {
            number: use for number, use in self._alone.items() if sum(_overlap(use.span, span) for span in spans) == 1
        }

    def shares(self, *origins: Origin) -> None:
        """Whatever pieces these are, one draw of them serves all rows."""
        self._uses += [origin.span for origin in origins if origin.span is not None]

    def walk(self, jaxpr: Jaxpr, constants: Sequence[Origin], arguments: Sequence[Origin]) -> list[Origin]:
        known: dict[Any, Origin] = dict(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))
        read = lambda atom: Origin() if jaxprs.is_literal(atom) else known[atom]
        for equation in jaxpr.eqns:
            known.update(
                zip(equation.outvars, self._equation(equation, [read(a) for a in equation.invars]), strict=True)
            )
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Equation, origins: list[Origin]) -> list[Origin]:
        number, name = next(self._number), equation.primitive.name
        if (call := jaxprs.inlined_call(equation)) is not None:
            jaxpr, constants = call
            return self.walk(jaxpr, [Origin() for _ in constants], origins)
        needs = _NOTHING.union(*(origin.needs for origin in origins))
        rows = any(origin.rows for origin in origins)
        first = origins[0] if origins else Origin()
        if first.span is not None and first.copied is None:
            found = pieces(equation, first)
            if found is not None:
                return found
        if name in ("mul", "div") and (scaled := self._scaled_by(name, origins)) is not None:
            self.scaled[number] = scaled
            self.shares(origins[1 - scaled])
            return [Origin(needs, rows, origins[scaled].span)]
        use = _use(equation, origins)
        if use is None:
            self.shares(*origins)
        else:
            self._alone[number] = use
        return [Origin(needs, rows)] * len(equation.outvars)

    def _scaled_by(self, name: str, origins: list[Origin]) -> int | None:
        """The operand that is a piece of ``z`` and is scaled by another value, on which it does not depend."""
        size = lambda k: 0 if (span := origins[k].span) is None else span[1] - span[0]
        candidate = 0 if name == "div" else max((0, 1), key=size)
        span, other = origins[candidate].span, origins[1 - candidate]
        if span is None or origins[candidate].copied or any(_overlap(span, need) for need in other.needs):
            return None
        return candidate


def pieces(equation: Equation, piece: Origin) -> list[Origin] | None:
    """The pieces of ``z`` that an equation makes of one; None if it does something else."""
    name, params = equation.primitive.name, equation.params
    assert piece.span is not None  # only called for pieces  # noqa: S101
    start, _ = piece.span
    of = lambda span, *, flat=False, copied=None: Origin(frozenset((span,)), False, span, flat, copied)
    if name == "split" and piece.flat:
        ends = list(accumulate(params["sizes"], initial=start))
        return [of(span, flat=True) for span in pairwise(ends)]
    if name == "split":
        return [of(piece.span)] * len(equation.outvars)
    if len(equation.invars) != 1:
        return None
    if name == "slice" and piece.flat and params["strides"] in (None, (1,)):
        return [of((start + params["start_indices"][0], start + params["limit_indices"][0]), flat=True)]
    before, after = (tuple(atom.aval.shape) for atom in (equation.invars[0], equation.outvars[0]))
    if name == "broadcast_in_dim":
        places = {axis: before[k] for k, axis in enumerate(params["broadcast_dimensions"])}
        small = tuple(places.get(axis, 1) for axis in range(len(after)))
        return [of(piece.span, copied=None if small == after else small)]
    if name in _REARRANGED and _is_floating(equation.outvars[0]):
        return [of(piece.span)]
    return None


def _is_floating(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, jnp.floating)


def _use(equation: Equation, origins: Sequence[Origin]) -> Use | None:
    """The equation as a meeting of a row's values with weights, if these can be drawn row by row there."""
    name, params = equation.primitive.name, equation.params
    if name not in ("add", "sub", "dot_general", "conv_general_dilated") or jaxprs.is_placed(equation):
        return None
    weights = 1 if origins[1].span is not None else 0
    piece, other = origins[weights], origins[1 - weights]
    span = piece.span
    if span is None or other.span is not None or not other.rows:
        return None
    x, w = (tuple(equation.invars[k].aval.shape) for k in (1 - weights, weights))
    if name in ("add", "sub"):
        return Use(Way.ADDED, weights, span, (piece.copied or w,))
    if piece.copied is not None:
        return None
    if name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        if weights == 0 or params["batch_group_count"] != 1:
            return None
        return Use(Way.FLIPOUT, weights, span, ((x[numbers.lhs_spec[1]],), (w[numbers.rhs_spec[0]],)))
    contracted, batched = params["dimension_numbers"]
    if batched[0]:
        return None
    of_x, of_w = contracted[1 - weights], contracted[weights]
    kept = [n for axis, n in enumerate(w) if axis not in of_w]
    result = tuple(equation.outvars[0].aval.shape)
    if prod(result) == prod(kept):
        return Use(Way.LOCAL, weights, span, (result,))
    inputs = tuple(n if axis in of_x else 1 for axis, n in enumerate(x))
    outer = [1] * (len(x) - len(of_x))
    return Use(Way.FLIPOUT, weights, span, (inputs, tuple(outer + kept if weights else kept + outer)))
