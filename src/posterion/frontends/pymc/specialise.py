"""The graph for one set of shapes.

JAX wants every shape known, PyTensor's graphs compute them. With the arrays' shapes put in as static types and the
lengths of dims as constants, PyTensor folds every shape computation away, which removes nearly all conflicts between
the two. A `Specialisation` is made from shapes alone; values stay arguments.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from posterion.errors import DataError
from posterion.frontends.pymc.foreign import (
    PYTHON_MODE,
    Constant,
    Variable,
    as_plain,
    as_type_of,
    graph_inputs,
    pt,
    rewrite_graph,
)
from posterion.frontends.pymc.graph import ModelGraph
from posterion.frontends.pymc.substitute import substitute

Shapes = Mapping[str, tuple[int, ...]]
StaticShapes = dict[str, tuple[int | None, ...]]


class Specialisation:
    """A model's graph with every input's shape fixed.

    Parameters
    ----------
    graph
        The opened model.
    shapes
        Of every input.
    frozen
        Inputs whose values fix shapes, with these values: constants here.
    """

    def __init__(self, graph: ModelGraph, shapes: Shapes, frozen: Mapping[str, np.ndarray]):
        self.graph = graph
        self.shapes = dict(shapes)
        self.arguments: dict[str, Variable] = {}
        self._roots: dict[Variable, Variable] = {}
        lengths: dict[str, tuple[int, str]] = {}
        for name, i in graph.inputs.items():
            for dim, length in zip(i.dims, shapes[name], strict=False):
                first, where = lengths.setdefault(dim, (length, name)) if dim is not None else (length, name)
                if first != length:
                    raise DataError(f"The dim {dim!r} has length {first} in {where!r} and {length} in {name!r}.")
            if name in frozen:
                stand_in = pt.constant(np.asarray(frozen[name], i.dtype))
            else:  # not pt.tensor(name), which refuses names that are also types: "long", "half"
                stand_in = self.arguments[name] = pt.TensorType(i.dtype, tuple(shapes[name]))(name)
            for variable in i.variables:
                self._roots[variable] = as_type_of(stand_in, variable)
        for variable, dim in graph.dim_lengths.items():
            length = lengths[dim][0] if dim in lengths else int(variable.get_value())
            self._roots[variable] = pt.constant(length, dtype="int64")
        for alias, variable in graph.aliases.items():
            self._roots[alias] = self._roots[variable]
        self._memo = dict(self._roots)
        self.values: dict[str, Variable] = {}

    def apply(self, variables: Mapping[str, Variable]) -> dict[str, Variable]:
        """Any of the graph's variables with static shapes."""
        self._memo = substitute(variables.values(), self._memo)
        return {name: self._memo[v] for name, v in variables.items()}

    def static_shapes(self, variables: Mapping[str, Variable]) -> StaticShapes:
        """Shapes of any of the graph's variables; None for a length that only values decide."""
        return {name: static_shape(v) for name, v in self.apply(variables).items()}

    @cached_property
    def term_shapes(self) -> StaticShapes:
        """Shapes of the likelihoods' and potentials' terms."""
        return self.static_shapes(self.graph.likelihoods | self.graph.potentials)

    @cached_property
    def derived_shapes(self) -> StaticShapes:
        """Shapes of the deterministics."""
        return self.static_shapes(self.graph.derived)

    @cached_property
    def observed_shapes(self) -> StaticShapes:
        """Shapes of the observed variables."""
        return self.static_shapes(self.graph.observed)

    @cached_property
    def value_shapes(self) -> StaticShapes:
        """Shapes of the free variables' unconstrained values."""
        wanted = {}
        for name, variable in self.graph.free.items():
            transform = self.graph.transforms[name]
            wanted[name] = variable if transform is None else transform.forward(variable, *variable.owner.inputs)
        return self.static_shapes(wanted)

    def bind_values(self, shapes: Shapes) -> None:
        """Put root variables of these shapes into the graph for the free variables' unconstrained values, once."""
        if self.values:
            return
        for name, value in self.graph.values.items():
            root = self.values[name] = pt.TensorType(value.type.dtype, tuple(shapes[name]))(name)
            self._roots[value] = self._memo[value] = as_type_of(root, value)

    def given_values(self, variables: Mapping[str, Variable], kept: list[str]) -> dict[str, Variable]:
        """Variables of the generative graph, where the free variables ``kept`` have the values that were bound."""
        constrained = self.apply({name: self.graph.constrained[name] for name in kept})
        known = self._roots | {self.graph.free[name]: constrained[name] for name in kept}
        rebuilt = substitute(variables.values(), known)
        return {name: rebuilt[v] for name, v in variables.items()}


def static_shape(variable: Variable) -> tuple[int | None, ...]:
    """The shape as far as it follows from types and constants."""
    variable = as_plain(variable)
    shape = tuple(variable.type.shape)
    if None not in shape:
        return shape
    lengths = pt.stack([variable.shape[axis] for axis in range(variable.ndim)])
    try:
        folded = rewrite_graph(lengths, include=("canonicalize", "ShapeOpt"), clone=True)
        if not isinstance(folded, Constant):
            if any(not isinstance(v, Constant) for v in graph_inputs([folded])):
                return shape
            return tuple(int(n) for n in folded.eval(mode=PYTHON_MODE))
        return tuple(int(n) for n in folded.data)
    except Exception:  # PyTensor cannot fold this computation of a shape: then it is not known
        return shape
