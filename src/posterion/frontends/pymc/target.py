"""A PyMC model as a target."""

import threading
from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, Key
from posterion.errors import DataError, UnsupportedModelError
from posterion.frontends.pymc.convert import ValuesNeededError, seems_convertible
from posterion.frontends.pymc.foreign import as_plain, graph_work, pymc
from posterion.frontends.pymc.functions import Functions
from posterion.frontends.pymc.graph import ModelGraph, open_model
from posterion.frontends.pymc.initial import InitialPoint, flat
from posterion.frontends.pymc.labels import make_layout
from posterion.frontends.pymc.moments import kind_of
from posterion.frontends.pymc.predict import complete_rows
from posterion.frontends.pymc.rows import RowGroup, check_rows, find_groups, row_axes
from posterion.frontends.pymc.specialise import Specialisation, StaticShapes
from posterion.frontends.pymc.substitute import ancestors
from posterion.target import AbstractRowTarget, JointTerms, Moments, Observed, RowPlan, Slot


class SharedGraph:
    """What all targets of one unchanged model share, whatever the shapes of its data.

    Parameters
    ----------
    model
        The model; not kept.
    host_callbacks
        Call operations without a JAX version on the host.
    plain_arrays
        Whether arrays that are constants in the graph become inputs.
    """

    def __init__(self, model: "pymc.Model", *, host_callbacks: bool, plain_arrays: bool):
        self.graph = open_model(model, plain_arrays=plain_arrays)
        self.initial_point = InitialPoint(model)
        self.host_callbacks = host_callbacks
        self.frozen_names: set[str] = set()
        self.values_decide_shapes = False
        # The dictionary of targets is looked up by the identities of these: they must not be collected before it.
        self._alive = (
            list(model.basic_RVs),
            list(model.rvs_to_values.values()),
            list(model.rvs_to_transforms.values()),
        )
        self._alive_too = (list(model.deterministics), list(model.potentials), list(model.data_vars))

    def data(self) -> dict[str, np.ndarray]:
        """All inputs' current values."""
        return {name: i.read() for name, i in self.graph.inputs.items()}

    def state(self) -> tuple:
        """Everything about the current data that a target is made for: shapes, lengths, values that fix shapes."""
        data = self.data()
        shapes = tuple((name, a.shape) for name, a in data.items())
        lengths = tuple(int(v.get_value()) for v in self.graph.dim_lengths)
        frozen = tuple((name, data[name].tobytes()) for name in sorted(self.frozen_names))
        start = self.initial_point(0) if self.values_decide_shapes else {}
        return shapes, lengths, frozen, tuple(np.shape(v) for v in start.values())


class PyMCTarget(AbstractRowTarget):
    """The posterior of a PyMC model.

    Parameters
    ----------
    shared
        The model's opened graph.
    coords
        Labels of the model's dims.
    """

    def __init__(self, shared: SharedGraph, coords: Mapping):
        self._shared = shared
        self._lock = threading.RLock()
        self._plans: dict[str | None, RowPlan] = {}
        graph = shared.graph
        data = shared.data()
        frozen: dict[str, np.ndarray] = {name: data[name].copy() for name in shared.frozen_names}
        while True:
            try:
                with graph_work():
                    self._prepare(graph, data, frozen, coords)
                break
            except ValuesNeededError as error:
                names = [name for name in graph.inputs if name not in frozen]
                positions = [k - len(self.layout.variables) for k in error.positions]
                new = [names[k] for k in positions if k >= 0]
                if not new:
                    raise UnsupportedModelError(
                        "The shape of something in the model depends on the values of free variables, which JAX cannot "
                        "express. Sample this model with pm.sample."
                    ) from error
                frozen |= {name: data[name].copy() for name in new}
                shared.frozen_names |= set(new)

    def _prepare(self, graph: ModelGraph, data: dict, frozen: dict, coords: Mapping) -> None:
        self._frozen = frozen
        home = Specialisation(graph, {name: a.shape for name, a in data.items()}, frozen)
        if any(None in shape for shape in home.value_shapes.values()):
            self._shared.values_decide_shapes = True
        self.layout = make_layout(home, self._shared.initial_point, coords)
        self._functions = Functions(home, self.layout, frozen, host_callbacks=self._shared.host_callbacks)
        shapes = {name: shape for name, shape in home.shapes.items() if name not in frozen}
        self._functions.get("density", shapes, x64=False)
        if not seems_convertible(list(home.apply(graph.derived).values())):
            self._functions.get("constrain", shapes, x64=False)  # better refused now than after the fit
        self._groups = find_groups(home, frozen)
        self._axes = row_axes(home)
        for group in self._groups:
            self._axes |= {name: axis for name, axis in group.terms if name in graph.potentials}
        self.row_names = self._functions.row_names = tuple(name for group in self._groups for name in group.derived)
        self.slots = MappingProxyType(self._make_slots(data))
        self.num_rows = MappingProxyType(self._count_rows(home.term_shapes))
        self.observed = MappingProxyType(self._make_observed(home))
        self._functions.moment_names = tuple(name for name, o in self.observed.items() if o.has_moments)
        self.batch_size = graph.minibatches[0].batch_size if graph.minibatches else None
        self.notes = tuple(self._notes(home.term_shapes))

    def _make_slots(self, data: dict[str, np.ndarray]) -> dict[str, Slot]:
        limits = self._functions.index_limits()
        axes = {name: (axis, group) for group in self._groups for name, axis in group.axes}
        slots = {}
        for name, i in self._shared.graph.inputs.items():
            if name in self._frozen:
                continue
            axis, group = axes.get(name, (None, None))
            any_length = axis if group is not None and group.obstacle is None else None
            shape = tuple(None if k == any_length else n for k, n in enumerate(data[name].shape))
            limit = limits.get(name)
            if group is not None and limit == group.num_rows:
                limit = None  # an index into the rows themselves, whose number may change
            slots[name] = Slot(i.dtype, shape, i.dims, axis, i.only_observed, limit)
        return slots

    def _count_rows(self, terms: StaticShapes) -> dict[str, int]:
        rows = {name: terms[name][axis] or 0 for name, axis in self._axes.items()}
        for name, sizes in self._shared.graph.total_size.items():
            axis = self._axes.get(name)
            for k, size in enumerate(sizes):
                if size is None:
                    continue
                if k == axis:
                    rows[name] = size
                elif size != _length(terms[name], k):
                    raise UnsupportedModelError(
                        f"total_size of {name!r} scales axis {k}, which is not the axis of its rows. "
                        "Put the rows on the first axis and give total_size for that one."
                    )
        return rows

    def _make_observed(self, home: Specialisation) -> dict[str, Observed]:
        graph = self._shared.graph
        applied = home.apply(graph.observed)
        local = {graph.free[name] for group in self._groups for name in group.local}
        slots = {
            name: slot
            for name, value in graph.observed_values.items()
            for slot, i in graph.inputs.items()
            if slot in self.slots and any(v in ancestors([graph.aliases.get(value, value)]) for v in i.variables)
        }
        observed = {}
        for name, variable in graph.observed.items():
            axis = self._axes.get(name)
            shape, dims = home.observed_shapes[name], graph.dims.get(name, ())
            if axis is not None:
                dims = (dims[axis], *_without(dims, axis)) if dims else ()
                shape = _without(shape, axis)
            kind, categories = kind_of(as_plain(applied[name]))
            if kind == "categorical" and categories is None:
                kind = "numeric"
            categories = (categories or 0) if kind == "categorical" else 0
            # Given z means given nothing else that is random: no other observed variable, no latent of new rows.
            random = local | {v for n, v in graph.observed.items() if n != name}
            closed = name in graph.moments and not any(v in random for v in ancestors(variable.owner.inputs))
            observed[name] = Observed(
                kind, tuple(n or 0 for n in shape), tuple(dims), categories, closed, slots.get(name)
            )
        return observed

    def _notes(self, terms: StaticShapes) -> list[str]:
        graph, notes = self._shared.graph, []
        for group in graph.minibatches:
            notes.append(f"pm.Minibatch taken over: {group.batch_size} of {group.num_rows} rows per step")
            followers = [n for n in graph.likelihoods if n in self._axes and n not in graph.total_size]
            notes += [
                f"{name!r} has no total_size: the {group.num_rows} rows behind pm.Minibatch are taken as all there are"
                for name in followers
            ]
        for name, total in self.num_rows.items():
            rows = _length(terms[name], self._axes[name])
            if total != rows:
                notes.append(f"the {rows} rows of {name!r} stand for total_size={total} rows")
            elif name in graph.total_size and not graph.minibatches:
                notes.append(
                    f"total_size={total} of {name!r} are all the rows there are: "
                    "every step sees all of them unless batch_size is given"
                )
        notes += [f"{name!r} is fixed: its values decide the shape of something" for name in self._frozen]
        return notes

    # ------------------------------------------------------------------------------------------------ the contract

    @property
    def data(self) -> dict[str, np.ndarray]:
        return {name: a for name, a in self._shared.data().items() if name in self.slots}

    def initial_point(self, seed: int) -> np.ndarray:
        return flat(self._shared.initial_point(seed))

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._functions("constrain", z, data)

    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        rows, rest = {}, []
        for name, term in self._terms(z, data).items():
            kind, _, variable = name.partition(" ")
            if kind != "prior" and variable in self._axes:
                rows[variable] = _row_sums(term, self._axes[variable])
            else:
                rest.append(jnp.sum(term))
        return JointTerms(sum(rest, jnp.zeros((), z.dtype)), rows)

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        return {name.partition(" ")[2]: jnp.sum(term) for name, term in self._terms(z, data).items()}

    def _terms(self, z: Array, data: Data) -> dict[str, Array]:
        return {name: jnp.asarray(t, z.dtype) for name, t in self._functions("density", z, data).items()}

    def moments(self, z: Float[Array, " dim"], data: Data) -> dict[str, Moments]:
        names = self._functions.moment_names
        if not names:
            return {}
        values = self._functions("moments", z, data)
        return {
            name: Moments(
                *(self._rows_first(name, jnp.asarray(values[f"{w} {name}"], z.dtype)) for w in ("mean", "variance"))
            )
            for name in names
        }

    def _rows_first(self, name: str, array: Array) -> Array:
        return jnp.moveaxis(array, self._axes[name], 0) if name in self._axes else array

    def simulate(self, key: Key, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        if not self.observed:
            return {}
        draws = self._functions("simulate", z, data, key)
        return {name: self._rows_first(name, draw) for name, draw in draws.items()}

    def row_values(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        if not self.row_names:
            return {}
        return self._functions("rows", z, data)

    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        fixed = [name for name in data if name in self._frozen]
        if fixed:
            raise DataError(
                f"{', '.join(map(repr, fixed))} cannot be replaced: its values decide shapes inside the model. "
                "Use pm.set_data and fit again."
            )
        return complete_rows(self.slots, self._groups, lambda: self.data, data)

    def row_plan(self, over: str | None = None) -> RowPlan:
        with self._lock:
            if over not in self._plans:
                self._plans[over] = self._make_plan(over)
            return self._plans[over]

    def _make_plan(self, over: str | None) -> RowPlan:
        group = self._choose_group(over)
        if group.local:
            names = ", ".join(map(repr, group.local))
            raise UnsupportedModelError(
                f"{names} has one entry per row, and all of them would have to be fitted with every batch. "
                "Fit without batch_size, or write the model so that rows share their parameters."
            )
        if group.obstacle is not None:
            raise UnsupportedModelError(
                f"The model's rows cannot be cut into batches: {group.obstacle}. "
                "Give arrays with one entry per row as pm.Data with the rows' dim, or fit without batch_size."
            )
        start = self._shared.initial_point(0)
        noise = np.random.default_rng(0)
        values = {name: np.asarray(v + 0.1 * noise.standard_normal(np.shape(v))) for name, v in start.items()}
        check_rows(self._shared.graph, group, self._shared.data(), values, self._evaluate)
        return RowPlan(group.num_rows, group.axes, tuple(name for name, _ in group.terms))

    def _evaluate(self, values: Mapping[str, np.ndarray], data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with jax.enable_x64(True):
            z = jnp.asarray(flat(values), "float64")
            terms = jax.jit(self._terms)(z, {name: data[name] for name in self.slots})
            return {name: np.asarray(term) for name, term in terms.items()}

    def _choose_group(self, over: str | None) -> RowGroup:
        if not self._groups:
            raise UnsupportedModelError(
                "The likelihood does not factorise over rows (a Gaussian process, a time series, a single number, or a "
                "potential that is a sum), so it cannot be fitted in batches. Fit without batch_size."
            )
        if over is None and len(self._groups) == 1:
            return self._groups[0]
        choices = sorted({name for group in self._groups for name in group.names})
        chosen = [group for group in self._groups if over in group.names]
        if over is None:
            lengths = ", ".join(str(group.num_rows) for group in self._groups)
            raise UnsupportedModelError(
                f"The model has {len(self._groups)} kinds of rows ({lengths} of them). "
                f"Say which to cut into batches: one of {', '.join(map(repr, choices))}."
            )
        if not chosen:
            raise UnsupportedModelError(f"No rows run over {over!r}. The choices are {', '.join(map(repr, choices))}.")
        return chosen[0]


def _length(shape: tuple, axis: int) -> int | None:
    return shape[axis] if axis < len(shape) else None


def _without(items: tuple, axis: int) -> tuple:
    return (*items[:axis], *items[axis + 1 :])


def _row_sums(term: Array, axis: int) -> Array:
    """Rows first, all other axes summed."""
    return jnp.sum(jnp.moveaxis(term, axis, 0).reshape(term.shape[axis], -1), axis=1) if term.ndim > 1 else term
