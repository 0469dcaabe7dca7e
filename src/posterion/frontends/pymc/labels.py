"""Names, dims and coords of a model's variables, as draws will carry them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posterion.frontends.pymc.initial import InitialPoint
from posterion.frontends.pymc.specialise import Specialisation
from posterion.target import Layout, Variable


def make_layout(home: Specialisation, start: InitialPoint, coords: Mapping[str, Sequence]) -> Layout:
    """The layout of a model's free variables, whose values are bound in ``home`` with these shapes.

    Shapes come from the graph; only where values decide them (a group index's maximum) is the starting point evaluated.
    """
    graph, shapes = home.graph, home.shapes
    unconstrained: dict[str, tuple] = dict(home.value_shapes)
    if any(None in shape for shape in unconstrained.values()):
        evaluated = start(0)
        unconstrained |= {n: np.shape(evaluated[n]) for n, shape in unconstrained.items() if None in shape}
    home.bind_values(unconstrained)
    constrained = home.static_shapes(graph.constrained)
    lengths: dict[str, int | None] = {}
    variables = []
    for name in graph.free:
        shape, value_shape = tuple(int(n) for n in unconstrained[name]), constrained[name]
        if None in value_shape:
            value_shape = shape if len(shape) == len(value_shape) else tuple(n or 0 for n in value_shape)
        variables.append(Variable(name, shape, tuple(int(n) for n in value_shape), graph.dims.get(name, ())))
        lengths |= {d: n for d, n in zip(graph.dims.get(name, ()), value_shape, strict=False) if d is not None}
    for name, i in graph.inputs.items():
        lengths |= {d: n for d, n in zip(i.dims, shapes[name], strict=False) if d is not None}
    for variable, dim in graph.dim_lengths.items():
        lengths.setdefault(dim, int(variable.get_value()))
    derived = tuple((name, graph.dims.get(name, ())) for name in graph.derived)
    labels = tuple(
        (dim, plain_labels(values)) for dim, values in coords.items() if lengths.get(dim, len(values)) == len(values)
    )
    return Layout(tuple(variables), derived, labels)


def plain_labels(values: Sequence[Any]) -> tuple:
    """Labels as Python scalars: numbers and text as they are, dates as ISO text, everything else as text."""
    array = np.asarray(values)
    if array.dtype.kind in "mM":
        return tuple(map(str, array))
    return tuple(v if isinstance(v, str | int | float | bool) else str(v) for v in array.tolist())
