r"""A function of one row with its normal weights drawn anew for every row, read off its jaxpr.

Weights :math:`w \sim N(m, s^2)`, all independent, that one row meets in a single product, may be drawn for each row
apart: every row still meets weights of that very distribution, so that means over rows keep their expectation, and the
noise of different rows averages out. Two ways that need no weights drawn row by row:

.. math::

    x^\top w &\sim N\big(x^\top m,\; (x^2)^\top s^2\big) && \text{local reparametrisation} \\
    x_p^\top w &= x_p^\top m + r \circ \big((a \circ x_p)^\top (w - m)\big), \quad a, r \in \{-1, 1\} && \text{Flipout}

The first where a row meets the weights once; the second where it meets them in several positions p (convolutions, the
elements of a sequence), whose outputs belong together. Biases, which are added, are drawn. All other values take one
draw that all rows share: of weights that are used twice, looked up, inverted, carried through a loop, and of whatever
else is not recognised.

Everything is found by following ``z`` through the jaxpr: cut, reshaped, converted, and multiplied by what does not
depend on it, it stays normal.

References
----------
Kingma, Salimans and Welling (2015), Variational Dropout and the Local Reparameterization Trick.
Wen, Vicol, Ba, Tran and Grosse (2018), Flipout: Efficient Pseudo-Independent Weight Perturbations on Mini-Batches.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, pairwise
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import partial_eval

from posterion._typing import Array, Key
from posterion.compilation.minor_axis import jaxprs
from posterion.compilation.minor_axis.jaxprs import Equation, Jaxpr, Operand

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


class Parts(NamedTuple):
    """A piece of ``z``, or what was made of it: one draw that rows share, and its mean and standard deviation."""

    draw: Operand
    mean: Operand
    sd: Operand


@dataclass(frozen=True)
class _Origin:
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


_WINDOW = 1 << 16
_MOST = 1 << 18
"""Normals in one window of a pool."""
POOL = _MOST + _WINDOW
"""Normals that are drawn once for all steps: fresh ones would take longer than the step of a network of 50 units. A
step takes as many as its rows need from a random place on, of which there are 65,536, with a random sign; where it
needs more than there are, further rows begin at other places."""


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


class RowProgram:
    """A function of ``z`` and one row that can be evaluated with noise for every row.

    Parameters
    ----------
    function
        ``(z, row) -> arrays by name``, of one row: no value in it has more than one row.
    z, row
        Shapes and types of its arguments.

    Attributes
    ----------
    uses
        Of weights that are drawn row by row, by the number of their equation.
    """

    def __init__(
        self, function: Callable[[Any, Any], Mapping[str, Any]], z: jax.ShapeDtypeStruct, row: Mapping[str, Any]
    ) -> None:
        leaves, self._tree = jax.tree.flatten(dict(row))
        self.names: tuple[str, ...] = ()

        def flat(z: Array, *leaves: Array) -> list[Array]:
            found = function(z, jax.tree.unflatten(self._tree, leaves))
            self.names = tuple(found)
            return list(found.values())

        jaxpr, self._constants = jaxprs.trace(flat, z, *leaves)
        # What is not needed (the prior, for one) must not count as a use of the weights.
        self._jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
        self._dtype = z.dtype
        finder = _Finder()
        whole = _Origin(frozenset(((0, z.shape[0]),)), span=(0, z.shape[0]), flat=True)
        results = finder.walk(
            self._jaxpr, [_Origin() for _ in self._constants], [whole, *[_Origin(rows=True)] * len(leaves)]
        )
        for result in results:
            finder.shares(result)
        self._scaled = finder.scaled
        self.uses = finder.alone()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Pieces of ``z`` that are drawn row by row."""
        return tuple(use.span for use in self.uses.values())

    def noise(self, key: Key, rows: int, sign: Array, pool: Array) -> list[list[Array]]:
        """Of so many rows, for each use; ``sign`` -1 gives the mirror image of what 1 gives.

        ``pool`` holds `POOL` standard normals.
        """
        shapes = [(use.way, shape) for use in self.uses.values() for shape in use.shapes]
        found = _normals(key, rows, [prod(shape) for _, shape in shapes], sign, pool.astype(self._dtype))
        parts = iter(
            (jnp.where(part < 0, -1, 1).astype(part.dtype) if way is Way.FLIPOUT else part).reshape(rows, *shape)
            for (way, shape), part in zip(shapes, found, strict=True)
        )
        return [[next(parts) for _ in use.shapes] for use in self.uses.values()]

    def __call__(self, z: Parts, row: Mapping[str, Any], noise: Sequence[Sequence[Array]]) -> dict[str, Any]:
        """The function of one row, with its own noise."""
        uses = {number: (use, own) for (number, use), own in zip(self.uses.items(), noise, strict=True)}
        found = _Runner(self._scaled, uses).walk(self._jaxpr, self._constants, [z, *jax.tree.leaves(dict(row))])
        return {name: _draw_of(value) for name, value in zip(self.names, found, strict=True)}


def _normals(key: Key, rows: int, sizes: Sequence[int], sign: Array, pool: Array) -> list[Array]:
    """(rows, size) normals of each size; those of one row come from one window, and so are independent."""
    each = max(1, sum(sizes))
    at_once = min(rows, _MOST // each)
    if not at_once:
        return jnp.split(sign * jax.random.normal(key, (rows, each), pool.dtype), np.cumsum(sizes)[:-1], axis=1)
    counts = [min(at_once, rows - first) for first in range(0, rows, at_once)]
    where, which = jax.random.split(key)
    offsets = jax.random.randint(where, (len(counts),), 0, _WINDOW)
    signs = sign.astype(pool.dtype) * jax.random.rademacher(which, (len(counts),), pool.dtype)
    windows = []
    for k, some in enumerate(counts):
        starts = accumulate((some * size for size in sizes[:-1]), initial=0)
        windows.append(
            [
                signs[k] * lax.dynamic_slice(pool, (offsets[k] + start,), (some * size,)).reshape(some, size)
                for start, size in zip(starts, sizes, strict=True)
            ]
        )
    return windows[0] if len(windows) == 1 else [jnp.concatenate(parts) for parts in zip(*windows, strict=True)]


class _Finder:
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

    def shares(self, *origins: _Origin) -> None:
        """Whatever pieces these are, one draw of them serves all rows."""
        self._uses += [origin.span for origin in origins if origin.span is not None]

    def walk(self, jaxpr: Jaxpr, constants: Sequence[_Origin], arguments: Sequence[_Origin]) -> list[_Origin]:
        known: dict[Any, _Origin] = dict(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))
        read = lambda atom: _Origin() if jaxprs.is_literal(atom) else known[atom]
        for equation in jaxpr.eqns:
            known.update(
                zip(equation.outvars, self._equation(equation, [read(a) for a in equation.invars]), strict=True)
            )
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Equation, origins: list[_Origin]) -> list[_Origin]:
        number, name = next(self._number), equation.primitive.name
        if (call := jaxprs.inlined_call(equation)) is not None:
            jaxpr, constants = call
            return self.walk(jaxpr, [_Origin() for _ in constants], origins)
        needs = _NOTHING.union(*(origin.needs for origin in origins))
        rows = any(origin.rows for origin in origins)
        first = origins[0] if origins else _Origin()
        if first.span is not None and first.copied is None:
            pieces = _pieces(equation, first)
            if pieces is not None:
                return pieces
        if name in ("mul", "div") and (scaled := self._scaled_by(name, origins)) is not None:
            self.scaled[number] = scaled
            self.shares(origins[1 - scaled])
            return [_Origin(needs, rows, origins[scaled].span)]
        use = _use(equation, origins)
        if use is None:
            self.shares(*origins)
        else:
            self._alone[number] = use
        return [_Origin(needs, rows)] * len(equation.outvars)

    def _scaled_by(self, name: str, origins: list[_Origin]) -> int | None:
        """The operand that is a piece of ``z`` and is scaled by another value, on which it does not depend."""
        size = lambda k: 0 if (span := origins[k].span) is None else span[1] - span[0]
        candidate = 0 if name == "div" else max((0, 1), key=size)
        span, other = origins[candidate].span, origins[1 - candidate]
        if span is None or origins[candidate].copied or any(_overlap(span, need) for need in other.needs):
            return None
        return candidate


def _pieces(equation: Equation, piece: _Origin) -> list[_Origin] | None:
    """The pieces of ``z`` that an equation makes of one; None if it does something else."""
    name, params = equation.primitive.name, equation.params
    assert piece.span is not None  # only called for pieces  # noqa: S101
    start, _ = piece.span
    of = lambda span, *, flat=False, copied=None: _Origin(frozenset((span,)), False, span, flat, copied)
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


def _use(equation: Equation, origins: Sequence[_Origin]) -> Use | None:
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


class _Runner:
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
                jaxprs.evaluate(equation, [part if k == at else _draw_of(o) for k, o in enumerate(operands)])
                for part in operands[at]
            ]
            return [Parts(*parts) for parts in zip(*each, strict=True)]
        return jaxprs.evaluate(equation, [_draw_of(operand) for operand in operands])

    @staticmethod
    def _rearranges(equation: Equation) -> bool:
        return _pieces(equation, _Origin(span=(0, 1))) is not None


def _drawn_by_row(equation: Equation, operands: Sequence[Any], use: Use, noise: Sequence[Array]) -> Operand:
    """One row's result, as if its weights had been drawn for it alone."""
    x, parts = _draw_of(operands[1 - use.weights]), operands[use.weights]
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


def _draw_of(value: Any) -> Operand:
    return value.draw if isinstance(value, Parts) else value
