"""The JAX functions of one model: made on demand per part, shapes and precision, and kept.

A function called with arrays of new shapes finds none for them, makes one (0.05 to 0.3 s, by rewriting the graph alone)
and calls it. That also happens while JAX is tracing, because a tracer knows its shape.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Data, Key
from posterion.errors import DataError, PosterionError, UnsupportedModelError
from posterion.frontends.pymc.convert import Rewritten, ValuesNeededError, quiet, rewritten, to_jax
from posterion.frontends.pymc.foreign import RandomType, Variable, as_plain, graph_inputs, graph_work, pt
from posterion.frontends.pymc.indices import index_limits
from posterion.frontends.pymc.refusals import first_line
from posterion.frontends.pymc.specialise import Shapes, Specialisation
from posterion.frontends.pymc.substitute import substitute
from posterion.target import Layout

Part = Literal["density", "constrain", "rows", "moments", "simulate"]

MAX_FUNCTIONS = 64
"""Functions kept per target: each is a few hundred kB of Python, and one that fell out is made again in 0.1 s."""


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
            return [jnp.asarray(output) for output in function.call(*arguments)]  # a constant term is a NumPy number
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
                if part == "density" and at_home:
                    raise  # the target knows what to do: it makes these inputs constants
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


def _broadcast(moment: Variable, shape: tuple[int | None, ...]) -> Variable:
    """A moment with the shape of its variable, and behind it the axis of categories if it has one."""
    moment = as_plain(moment)
    extra = tuple(moment.type.shape[len(shape) :])
    if None in (*shape, *extra) or tuple(moment.type.shape) == (*shape, *extra):
        return moment
    return pt.broadcast_to(moment, (*shape, *extra))
