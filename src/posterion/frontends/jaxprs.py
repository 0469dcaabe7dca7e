"""What a traced function does with its named inputs, read off its jaxpr in one pass without running it.

Three questions of a front end have their answer here: which inputs a result depends on (an outcome that only enters its
own likelihood is not needed to predict), which results are an input unchanged (the outcome itself, not its logarithm),
and which inputs count along an axis (JAX takes the last entry for an index behind the end, without complaint).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend import core

_REARRANGE = frozenset(
    ("convert_element_type", "broadcast_in_dim", "reshape", "squeeze", "copy", "transpose", "expand_dims", "copy_p")
)
_CALLS = frozenset(("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "custom_jvp_call"))
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Findings:
    """What was found.

    Parameters
    ----------
    needs
        Per result, the inputs it depends on. An input that only decides shapes does not count.
    same
        Results that are an input's values unchanged, with that input.
    limits
        Inputs used as an index, with the shortest axis they count along.
    constants
        Arrays the function closes over.
    text
        The whole program. Two functions with equal texts and constants compute the same.
    """

    needs: dict[str, frozenset[str]]
    same: dict[str, str]
    limits: dict[str, int]
    constants: tuple[Any, ...]
    text: str


@dataclass(frozen=True)
class _Origin:
    """Where a value comes from: all inputs it depends on, the input it equals, the input it is an index made of."""

    needs: frozenset[str] = _NOTHING
    same: str | None = None
    index: tuple[str | None, ...] = ()  # one entry per indexed axis


def inspect(function: Callable[[Mapping[str, Any]], Mapping[str, Any]], inputs: Mapping[str, Any]) -> Findings:
    """Trace ``function(inputs)``, which returns one array per name, and report what it does.

    Parameters
    ----------
    function
        A pure JAX function.
    inputs
        Arrays or `jax.ShapeDtypeStruct` by name.
    """
    names, results = list(inputs), []

    def flat(*values: Any) -> list[Any]:
        outputs = function(dict(zip(names, values, strict=True)))
        results[:] = list(outputs)
        return list(outputs.values())

    closed = jax.make_jaxpr(flat)(*inputs.values())
    limits: dict[str, int] = {}
    origins = [_Origin(frozenset((name,)), name, (name,)) for name in names]
    found = _walk(closed.jaxpr, origins, limits)
    shapes = {name: tuple(np.shape(value)) for name, value in inputs.items()}
    same = {
        result: origin.same
        for result, origin, v in zip(results, found, closed.jaxpr.outvars, strict=True)
        if origin.same is not None and shapes[origin.same] == _shape(v)
    }
    needs = {result: origin.needs for result, origin in zip(results, found, strict=True)}
    return Findings(needs, same, limits, tuple(closed.consts), str(closed.jaxpr))


def _walk(jaxpr: core.Jaxpr, inputs: list[_Origin], limits: dict[str, int]) -> list[_Origin]:
    known: dict[Any, _Origin] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Origin:
        return _Origin() if isinstance(atom, core.Literal) else known.get(atom, _Origin())

    for equation in jaxpr.eqns:
        origins = [read(atom) for atom in equation.invars]
        if equation.primitive.name == "gather":
            _note_limit(equation, origins[1].index, limits)
        for variable, origin in zip(equation.outvars, _outcome(equation, origins, limits), strict=True):
            known[variable] = origin
    return [read(atom) for atom in jaxpr.outvars]


def _outcome(equation: core.JaxprEqn, origins: list[_Origin], limits: dict[str, int]) -> list[_Origin]:
    name = equation.primitive.name
    if name in _CALLS:
        (inner,) = core.jaxprs_in_params(equation.params)
        if len(inner.invars) == len(origins):
            return _walk(inner, origins, limits)
    needs = _NOTHING.union(*(origin.needs for origin in origins))
    same, index = None, ()
    if name in _REARRANGE:
        same, index = origins[0].same, origins[0].index
    elif name == "gather" and not origins[1].needs:  # a plate's indices: all rows, or the shapes will not agree
        same = origins[0].same
    elif name == "concatenate":
        index = tuple(entry for origin in origins for entry in (origin.index or (None,)))
    elif name in ("select_n", "add", "clamp"):  # how negative indices are brought into range
        candidates = {origin.index for origin in origins[name == "select_n" :] if origin.index}
        index = candidates.pop() if len(candidates) == 1 else ()
    return [_Origin(needs, same, index)] * len(equation.outvars)


def _note_limit(equation: core.JaxprEqn, index: tuple[str | None, ...], limits: dict[str, int]) -> None:
    axes = equation.params["dimension_numbers"].start_index_map
    if len(axes) != len(index):
        return
    for axis, name in zip(axes, index, strict=True):
        if name is not None:
            length = _shape(equation.invars[0])[axis]
            if length < limits.get(name, length + 1):
                limits[name] = length


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)
