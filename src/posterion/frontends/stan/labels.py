"""Layout of a Stan program's variables: which are free, their shapes, and the dims and coords the user gives them.

Stan names no axes, so names come from outside, as in ArviZ's converters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posterion.errors import OptionError, UnsupportedModelError
from posterion.frontends.stan.library import Output
from posterion.frontends.stan.program import Program
from posterion.target import Layout, Variable

Dims = Mapping[str, Sequence[str | None]]
"""Names of the axes, by variable or by name of the data."""


def make_layout(
    program: Program,
    outputs: Sequence[Output],
    output_names: Callable[[], Sequence[str]],
    dims: Dims,
    coords: Mapping[str, Any],
) -> Layout:
    """The layout of the program's parameters with certain data.

    Parameters
    ----------
    program
        What it declares.
    outputs
        Its variables with these data.
    output_names
        Gives a name for each number that is written for them.
    dims, coords
        As the user gave them.

    Raises
    ------
    UnsupportedModelError
        If the program has no parameters.
    OptionError
        For dims of something that does not exist or has another number of axes, or coords of another length.
    """
    if sum(output.size for output in outputs) == 0:
        raise UnsupportedModelError(f"{program.name} has no parameters, so there is no posterior to approximate")
    shapes = {output.name: value_shape(program, output) for output in outputs}
    known = {**{name: (None,) * what.dimensions for name, what in program.inputs.items()}, **shapes}
    lengths: dict[str, int] = {}
    for name, named in dims.items():
        if name not in known:
            raise OptionError(f"dims names {name!r}, which {program.name} does not have; it has {', '.join(known)}")
        if len(named) != len(known[name]):
            raise OptionError(f"dims of {name!r} must name {len(known[name])} axes, not {len(named)}: {list(named)}")
        lengths |= {d: n for d, n in zip(named, known[name], strict=True) if d is not None and n is not None}
    for dim, labels in coords.items():
        if dim in lengths and len(labels) != lengths[dim]:
            raise OptionError(f"coords of {dim!r} must hold {lengths[dim]} labels, not {len(labels)}")
    own_dims, own_coords = _parts_of_tuples(program, outputs, output_names)
    named = {**own_dims, **{name: tuple(axes) for name, axes in dims.items()}}
    variables = tuple(
        Variable(output.name, _free_shape(output, shapes[output.name]), shapes[output.name], named.get(output.name, ()))
        for output in outputs
        if output.name in program.parameters
    )
    derived = tuple(
        (output.name, named.get(output.name, ())) for output in outputs if output.name not in program.parameters
    )
    labels = {**own_coords, **{dim: _plain(values) for dim, values in coords.items()}}
    return Layout(variables, derived, tuple(labels.items()))


def value_shape(program: Program, output: Output) -> tuple[int, ...]:
    """Shape of a value as the user sees it."""
    return output.shape[:-1] if program.outputs[output.name].type == "complex" else output.shape


def _free_shape(output: Output, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Unconstrained entries keep the shape of a number or a vector; Stan's order of others is its own."""
    return shape if len(shape) <= 1 and output.size == int(np.prod(shape)) else (output.size,)


def _parts_of_tuples(
    program: Program, outputs: Sequence[Output], output_names: Callable[[], Sequence[str]]
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple]]:
    """A tuple comes out as one vector: its entries are labelled by Stan's names for them."""
    tuples = [name for name, what in program.outputs.items() if what.type == "tuple"]
    if not tuples:
        return {}, {}
    names, start = output_names(), 0
    dims, coords = {}, {}
    for output in outputs:
        if output.name in tuples:
            dims[output.name] = (f"{output.name}_part",)
            coords[f"{output.name}_part"] = tuple(names[start : start + output.num_values])
        start += output.num_values
    return dims, coords


def _plain(values: Any) -> tuple:
    """Labels as Python scalars; dates as text."""
    array = np.asarray(values)
    if array.dtype.kind in "mM":
        return tuple(map(str, array))
    return tuple(v if isinstance(v, str | int | float | bool) else str(v) for v in array.tolist())
