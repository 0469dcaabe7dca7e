"""The graph for one set of shapes, and the JAX functions made from it.

JAX wants every shape known, PyTensor's graphs compute them. With the arrays' shapes put in as static types and the
lengths of dims as constants, PyTensor folds every shape computation away, which removes nearly all conflicts between
the two. A `Specialisation` is made from shapes alone; values stay arguments.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Data, Key
from posterion.errors import DataError, PosterionError, UnsupportedModelError
from posterion.frontends.pymc.convert import Rewritten, ValuesNeededError, quiet, rewritten, to_jax
from posterion.frontends.pymc.foreign import (
    PYTHON_MODE,
    Constant,
    RandomType,
    Variable,
    as_plain,
    as_type_of,
    graph_inputs,
    graph_work,
    pt,
    rewrite_graph,
)
from posterion.frontends.pymc.graph import ModelGraph
from posterion.frontends.pymc.indices import index_limits
from posterion.frontends.pymc.refusals import first_line
from posterion.frontends.pymc.substitute import substitute
from posterion.target import Layout

Shapes = Mapping[str, tuple[int, ...]]
StaticShapes = dict[str, tuple[int | None, ...]]
Part = Literal["density", "constrain", "rows", "moments", "simulate"]

MAX_FUNCTIONS = 64
"""Functions kept per target: each is a few hundred kB of Python, and one that fell out is made again in 0.1 s."""


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
            else:
                stand_in = self.arguments[name] = pt.tensor(name, dtype=i.dtype, shape=tuple(shapes[name]))
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
            root = self.values[name] = pt.tensor(name, dtype=value.type.dtype, shape=tuple(shapes[name]))
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


def _broadcast(moment: Variable, shape: tuple[int | None, ...]) -> Variable:
    """A moment with the shape of its variable, and behind it the axis of categories if it has one."""
    moment = as_plain(moment)
    extra = tuple(moment.type.shape[len(shape) :])
    if None in (*shape, *extra) or tuple(moment.type.shape) == (*shape, *extra):
        return moment
    return pt.broadcast_to(moment, (*shape, *extra))


@dataclass(frozen=True)
class _Prepared:
    graph: Rewritten
    num_generators: int


@dataclass(frozen=True)
class _Function:
    call: Callable
    names: tuple[str, ...]
    num_generators: int


def _unconverted(error: Exception) -> UnsupportedModelError:
    """The error for a graph that PyTensor fails on, without saying that an operation is not supported."""
    return UnsupportedModelError(
        f"PyTensor failed to convert this model to JAX: {first_line(error)}. Sample it with pm.sample instead."
    )


def _unfit(shapes: Shapes, error: Exception) -> UnsupportedModelError:
    """The error for data that the graph cannot take, such as other rows than it was built with."""
    reason = first_line(error)
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    return UnsupportedModelError(
        f"The model cannot be evaluated on data of these shapes: {listed} ({reason}). If these are other rows than it "
        "was built with, something is tied to their number: make every array with one entry per row a pm.Data."
    )


def _without_values(part: Part) -> UnsupportedModelError:
    doing = {"simulate": "drawing new values", "moments": "predicting"}.get(part, "evaluating deterministics")
    return UnsupportedModelError(
        f"The values of an input decide the shape of something needed for {doing}, which JAX cannot express. "
        "Draw with pm.sample_posterior_predictive(approx.sample(), model=model) instead."
    )


class Functions:
    """The JAX functions of one model, made on demand per part, shapes and precision, and kept.

    Parameters
    ----------
    home
        The graph for the model's own data.
    layout
        Shapes of the free variables' unconstrained values.
    frozen
        Inputs whose values fix shapes, with these values.
    host_callbacks
        Call operations without a JAX version on the host.
    """

    def __init__(self, home: Specialisation, layout: Layout, frozen: Mapping[str, np.ndarray], *, host_callbacks: bool):
        self._home, self._layout, self._frozen, self._callbacks = home, layout, frozen, host_callbacks
        self._graph = graph = home.graph
        self._value_shapes = {v.name: v.shape for v in layout.variables}
        self._names = [name for name in graph.inputs if name not in frozen]
        self.row_names: tuple[str, ...] = ()
        self.moment_names: tuple[str, ...] = ()
        self._prepared: OrderedDict[tuple, _Prepared] = OrderedDict()
        self._made: OrderedDict[tuple, _Function] = OrderedDict()
        self._lock = threading.RLock()

    def __call__(self, part: Part, z: Array, data: Data, key: Key | None = None) -> dict[str, Array]:
        """Evaluate one part of the model; ``z`` decides the precision, the arrays' shapes decide the function."""
        missing = [name for name in self._names if name not in data]
        if missing:
            raise DataError(f"The data lack {', '.join(map(repr, missing))}; the model's inputs are {self._names}.")
        x64 = z.dtype == jnp.float64
        with jax.enable_x64(x64), quiet():
            arrays = [
                jnp.asarray(data[name], jax.dtypes.canonicalize_dtype(self._graph.inputs[name].dtype))
                for name in self._names
            ]
            function = self.get(part, {n: a.shape for n, a in zip(self._names, arrays, strict=True)}, x64=x64)
            values = list(self._layout.unravel(z).values())
            keys = [None] * function.num_generators if key is None else jax.random.split(key, function.num_generators)
            generators = [{"jax_state": k} for k in keys]
            outputs = self._call(function, [*values, *generators, *arrays])
            return dict(zip(function.names, outputs, strict=True))

    def _call(self, function: _Function, arguments: list) -> Sequence[Array]:
        try:
            return function.call(*arguments)
        except (TypeError, ValueError) as error:  # JAX, on shapes that do not fit each other
            arrays = arguments[len(arguments) - len(self._names) :]
            shapes = {name: jnp.shape(a) for name, a in zip(self._names, arrays, strict=True)}
            if all(self._home.shapes[name] == shape for name, shape in shapes.items()):
                raise
            raise _unfit(shapes, error) from error

    def get(self, part: Part, shapes: Shapes, *, x64: bool) -> _Function:
        """The function for these shapes, made if need be."""
        signature = (part, tuple(sorted(shapes.items())))
        with self._lock:
            if (signature, x64) not in self._made:
                if signature not in self._prepared:
                    _keep(self._prepared, signature, self._prepare(part, shapes))
                ready = self._prepared[signature]
                call = to_jax(ready.graph, x64=x64, host_callbacks=self._callbacks)
                _keep(self._made, (signature, x64), _Function(call, ready.graph.names, ready.num_generators))
            self._made.move_to_end((signature, x64))
            return self._made[signature, x64]

    def index_limits(self) -> dict[str, int]:
        """Inputs that index an axis of a fixed length, with that length."""
        shapes = {name: self._home.shapes[name] for name in self._names}
        ready = self._prepared["density", tuple(sorted(shapes.items()))]
        first = len(ready.graph.fgraph.inputs) - len(self._names)
        return {self._names[k - first]: n for k, n in index_limits(ready.graph.fgraph).items() if k >= first}

    def _prepare(self, part: Part, shapes: Shapes) -> _Prepared:
        with graph_work(), jax.ensure_compile_time_eval():
            shapes = dict(shapes) | {name: value.shape for name, value in self._frozen.items()}
            at_home = shapes == self._home.shapes
            special = self._home if at_home else Specialisation(self._graph, shapes, self._frozen)
            try:
                return self._rewrite(part, special)
            except ValuesNeededError as error:
                if part == "density":
                    raise
                raise _without_values(part) from error
            except (TypeError, ValueError, AssertionError, IndexError) as error:
                if isinstance(error, PosterionError):
                    raise
                raise (_unconverted(error) if at_home else _unfit(shapes, error)) from error

    def _rewrite(self, part: Part, special: Specialisation) -> _Prepared:
        other = {
            name: shape
            for name, shape in special.value_shapes.items()
            if None not in shape and shape != self._value_shapes[name]
        }
        special.bind_values(self._value_shapes)
        outputs = self._outputs(part, special, other)
        generators = [v for v in graph_inputs(map(as_plain, outputs.values())) if isinstance(v.type, RandomType)]
        stand_ins = {v: v.type(name=f"generator_{k}") for k, v in enumerate(generators)}
        rebuilt = substitute(outputs.values(), stand_ins)
        outputs = {name: rebuilt[v] for name, v in outputs.items()}
        inputs = [*special.values.values(), *stand_ins.values(), *special.arguments.values()]
        ready = rewritten(inputs, outputs, samples=part == "simulate")
        return _Prepared(ready, len(generators))

    def _outputs(self, part: Part, special: Specialisation, other: Mapping[str, tuple]) -> dict[str, Variable]:
        graph = self._graph
        if part == "simulate":
            return special.given_values(graph.observed, [name for name in graph.free if name not in other])
        if part == "moments":
            flat = {
                f"{which} {name}": v
                for name in self.moment_names
                for which, v in zip(("mean", "variance"), graph.moments[name], strict=True)
            }
            shapes = special.observed_shapes
            return {
                label: _broadcast(moment, shapes[label.partition(" ")[2]])
                for label, moment in special.given_values(flat, list(graph.free)).items()
            }
        if part == "rows":
            return special.apply({name: graph.derived[name] for name in self.row_names})
        if other:
            name, shape = next(iter(other.items()))
            raise DataError(
                f"With these data {name!r} would have shape {shape}, but it was given shape {self._value_shapes[name]} "
                "by the model's own data: it has entries per row. Fit again with the new data."
            )
        if part == "density":
            return special.apply(
                {f"prior {n}": v for n, v in graph.priors.items()}
                | {f"likelihood {n}": v for n, v in graph.likelihoods.items()}
                | {f"potential {n}": v for n, v in graph.potentials.items()}
            )
        return special.apply(graph.constrained | graph.derived)


def _keep(cache: OrderedDict, key: tuple, value: Any) -> None:
    """Put an entry in, the oldest out."""
    cache[key] = value
    if len(cache) > MAX_FUNCTIONS:
        cache.popitem(last=False)
