"""A NumPyro model opened: which arrays are data, which sites are what, where its rows are, and its densities."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Data, Key
from posterion.frontends import jaxprs
from posterion.frontends.arrays import abstract
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.moments import moments_of
from posterion.frontends.numpyro.opening import row_axes, seeds_of, settle, shapes_of
from posterion.frontends.numpyro.refusals import check_randomness, check_sites
from posterion.frontends.numpyro.run import Run, Setting, is_latent, run, unconstrained
from posterion.frontends.numpyro.start import Strategy, starting_values
from posterion.frontends.numpyro.structure import describe
from posterion.frontends.numpyro.summation import plan, run_with_funsor
from posterion.frontends.rows import RowGroup, Shapes, find_group
from posterion.target import Moments, Slot

Values = Mapping[str, Array]
"""Latent sites' values in unconstrained space."""

States = Mapping[str, Array]
"""Discrete sites' values by their number, where they are summed over."""


class OpenedModel:
    """A model called with some arguments, and what was found out about it; only shapes of data matter here.

    Parameters
    ----------
    call
        The model and its arguments.

    Attributes
    ----------
    frozen
        Arrays whose values decide a shape or a branch of the model: part of it, not data.
    structure
        Its sites.
    groups
        The groups of rows.
    axes
        By term of the log density that has rows, the axis they run along.
    observed
        Names of the sites that predict something.
    summation
        How discrete sites are summed out; None if there are none.
    findings
        What depends on what, by labels of two words: "free", "data", "param", "state" and "term", "value", "mean",
        "variance", with the name of a site or an array.
    drawn
        The same for draws of the observed sites.

    Raises
    ------
    UnsupportedModelError
        If the model has something that cannot be taken over; the message names it.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        with jax.enable_x64(True):
            self.frozen, self.structure = settle(call)
            check_sites(self.structure, call)
            populations = {name for name, p in self.structure.plates.items() if p.length != p.size}
            self._setting = Setting(self.structure.params, populations=frozenset(populations))
            self._row_axis = row_axes(self.structure)
            self.groups = self._find_groups()
            self.observed = tuple(name for name, term in self.structure.terms.items() if not term.is_factor)
            self.findings = self._inspect()
            check_randomness(frozenset().union(*self.findings.needs.values()))
            self.summation = plan(self.structure, self.groups, self.findings.needs)
            self.observed = tuple(name for name in self.observed if self._predicts(name))
            self.axes = self._axes_of_terms()
            self.groups = tuple(group for found in self.groups for group in self._without_states(found))
            self.drawn = jaxprs.inspect(self._all_draws, self._inputs())
            self._guard_constants()

    def _predicts(self, name: str) -> bool:
        """Whether an observed site is data, and not a function of latent sites, nor of states that rows share."""
        latent = {f"free {latent}" for latent in self.structure.latents}
        shared = self.summation is not None and not self.summation.by_row and name in self.summation.dependents
        return not self.findings.needs[f"value {name}"] & latent and not shared

    def _axes_of_terms(self) -> dict[str, int]:
        in_groups = {name for group in self.groups for name, _ in group.terms}
        axes = {n: axis for n, axis in self._row_axis.items() if n in self.observed or n in in_groups}
        if self.summation is not None and not self.summation.by_row:
            axes = {n: axis for n, axis in axes.items() if n not in self.summation.dependents}
        return axes

    def _without_states(self, group: RowGroup) -> list[RowGroup]:
        """The group with the one term that is left of its sites that depend on states; none if all rows share these."""
        summed = self.summation
        if summed is None or not set(summed.dependents) & {name for name, _ in group.terms}:
            return [group]
        others = tuple((name, axis) for name, axis in group.terms if name not in summed.dependents)
        return [replace(group, terms=(*others, (summed.label, 0)))] if summed.by_row else []

    # ---- running
    def slots(self) -> dict[str, Slot]:
        """The arrays that are data, as they are."""
        return {name: slot for name, slot in self.call.slots().items() if name not in self.frozen}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that are data."""
        return {name: self.call.arrays[name].shape for name in self.slots()}

    def run(
        self,
        values: Values,
        data: Data,
        key: Key | None = None,
        *,
        states: States | None = None,
        redraw: bool = False,
    ) -> Run:
        """Run the model on data of any numbers of rows; see `posterion.frontends.numpyro.run`."""
        lengths, new = {}, set()
        for group in self.groups:
            rows = group.count(data)
            lengths |= dict.fromkeys(group.plates, rows)
            new |= set(group.local) if rows != group.num_rows else set()
        known = {name: value for name, value in values.items() if name not in new}
        redrawn = self.observed if redraw else ()
        setting = self._setting.resized(lengths)
        return run(self.call, data, unconstrained(known, states), setting, key=key, redraw=redrawn)

    def terms(self, values: Values, data: Data) -> dict[str, Array]:
        """Log densities by site: one value per row, rows first, of the terms that have rows, and scalars."""

        def of_states(states: States | None = None) -> dict[str, Array]:
            traced = self.run(values, data, states=states)
            return {name: self._folded(name, traced) for name in traced.of_type("sample")}

        if self.summation is None:
            return of_states()
        if self.summation.by_funsor:
            return {self.summation.label: self._by_funsor(values, data)}
        return self.summation.reduce(of_states)

    def _folded(self, name: str, traced: Run) -> Array:
        values = traced.log_density(name)
        weight = self.weight(name)
        values = values if weight == 1.0 else values / weight
        by_row = self.summation is not None and self.summation.by_row and name in self.summation.states
        axis = 0 if by_row else self.axes.get(name)
        if axis is None:
            return jnp.sum(values)
        return jnp.sum(jnp.moveaxis(values, axis, 0).reshape(values.shape[axis], -1), axis=1)

    def weight(self, name: str) -> float:
        """How many rows each row of a term stands for by the model's own scaling, which is left to the engine."""
        weight = self.structure.terms[name].weight if name in self.observed and name in self.axes else 1.0
        rows = weight * self.structure.terms[name].shape[self.axes[name]] if weight != 1.0 else 0
        whole = weight != 1.0 and abs(rows - round(rows)) < 1e-6 * rows and round(rows) > 0
        return weight if whole and not self._is_summed(name) else 1.0

    def _is_summed(self, name: str) -> bool:
        return self.summation is not None and name in self.summation.dependents

    def constrained(self, values: Values, data: Data) -> dict[str, Array]:
        """Values of all latent and deterministic sites, without those that depend on states."""
        sites = self.run(values, data, self._key_of_states()).sites
        return {name: sites[name]["value"] for name in (*values, *self.derived)}

    @property
    def derived(self) -> tuple[str, ...]:
        """Deterministic sites that have one value."""
        states = {f"state {name}" for name in self.structure.discrete}
        return tuple(n for n in self.structure.derived if not self.findings.needs[f"value {n}"] & states)

    def _key_of_states(self) -> Key | None:
        """For sites that have to have some value, which is not looked at."""
        return jax.random.key(0) if self.structure.discrete else None

    def derived_values(self, values: Values, data: Data, names: tuple[str, ...]) -> dict[str, Array]:
        """Values of some deterministic sites, for data of any numbers of rows."""
        sites = self.run(values, data, jax.random.key(0)).sites  # the key is for latents of new rows, not looked at
        return {name: sites[name]["value"] for name in names}

    def moments(self, values: Values, data: Data, names: tuple[str, ...]) -> dict[str, Moments]:
        """Mean and variance of some observed sites, rows first."""
        key = jax.random.key(0)  # for latents of new rows, which none of these depends on
        summed = set() if self.summation is None else set(self.summation.dependents) & set(names)
        traced = self.run(values, data, key)
        found = {name: self._moments_of(name, traced) for name in names if name not in summed}
        if self.summation is None or not summed:
            return found

        def parts(states: States) -> tuple[dict[str, Array], dict[str, Moments]]:
            traced = self.run(values, data, key, states=states)
            logs = {name: traced.log_density(name) for name in states}
            return logs, {name: self._moments_of(name, traced) for name in sorted(summed)}

        return found | self.summation.mix(parts)

    def _moments_of(self, name: str, traced: Run) -> Moments:
        found = moments_of(traced.sites[name], self._value_shape(traced, name))
        assert found is not None, f"{name!r} was to have moments"
        return Moments(*(self.rows_first(name, part) for part in found))

    def draws(self, key: Key, values: Values, data: Data) -> dict[str, Array]:
        """One draw of every observed site, rows first."""
        sites = self.run(values, data, key, redraw=True).sites
        return {name: self.rows_first(name, sites[name]["value"]) for name in self.observed}

    def rows_first(self, name: str, values: Array) -> Array:
        """A site's value with its rows on the first axis."""
        return jnp.moveaxis(values, self.axes[name], 0) if name in self.axes else values

    def starting_values(self, data: Data, key: Key, strategy: Strategy | None) -> dict[str, Array]:
        """Values of the latent sites to start from; see `posterion.frontends.numpyro.start`."""
        found = starting_values(self.call, data, key, self._setting, strategy)
        return {name: found[name] for name in self.structure.latents}

    def _value_shape(self, traced: Run, name: str) -> tuple[int, ...]:
        return (*jnp.shape(traced.log_density(name)), *self.structure.terms[name].event)

    def _by_funsor(self, values: Values, data: Data) -> Array:
        plates = max(len(site.shape) for site in (*self.structure.terms.values(), *self.structure.discrete.values()))
        return run_with_funsor(self.call, data, unconstrained(values), self._setting, plates)

    # ---- rows
    def _find_groups(self) -> tuple[RowGroup, ...]:
        structure, groups = self.structure, []
        home = shapes_of(structure)
        for seed in seeds_of(structure, self._row_axis):
            if any(set(seed.terms) <= set(group.terms) for group in groups):
                continue
            groups.append(find_group(home, self.shapes(), seed, self._grow))
        return tuple(groups)

    def _grow(self, arrays: Mapping[str, tuple[int, ...]], group: RowGroup, rows: int) -> Shapes:
        slots = self.call.slots()
        longer = {name: abstract(slots[name], shape) for name, shape in arrays.items()}
        return shapes_of(describe(self.call, longer, self._setting.resized(dict.fromkeys(group.plates, rows))))

    def _guard_constants(self) -> None:
        """No other rows where an array with an entry per row is part of the model: new rows would get its entries."""
        fixed = {name: self.call.arrays[name].shape for name in self.frozen}
        reasons = {
            shape[0]: f"the values of {name!r} decide a shape in the model, so it cannot be replaced"
            for name, shape in fixed.items()
            if shape
        }
        for constant in self.findings.constants:
            shape = np.shape(constant)
            if shape:
                reasons.setdefault(shape[0], f"the model closes over an array of shape {shape}")
        self.groups = tuple(
            replace(group, obstacle=reasons[group.num_rows])
            if group.num_rows > 1 and group.num_rows in reasons
            else group
            for group in self.groups
        )

    # ---- what depends on what
    def _inputs(self) -> dict[str, Any]:
        free = {
            f"free {name}": jax.ShapeDtypeStruct(v.free_shape, "float64") for name, v in self.structure.latents.items()
        }
        slots = self.slots()
        return free | {f"data {name}": abstract(slots[name], shape) for name, shape in self.shapes().items()}

    def _inspect(self) -> jaxprs.Findings:
        inputs = self._inputs()
        for name, tree in self.structure.undecided.items():
            inputs |= {f"param {name} {k}": leaf for k, leaf in enumerate(jax.tree.leaves(tree))}
        for name, site in self.structure.discrete.items():
            inputs[f"state {name}"] = jax.ShapeDtypeStruct(site.shape, "int32")
        inputs["key"] = jax.ShapeDtypeStruct((2,), "uint32")

        def results(inputs: Mapping[str, Array]) -> dict[str, Array]:
            parts = _split(inputs)
            setting = replace(self._setting, words=inputs["key"], params=self._with_params(parts["param"]))
            traced = run(self.call, parts["data"], unconstrained(parts["free"], parts["state"]), setting)
            found = {f"term {name}": traced.log_density(name) for name in traced.of_type("sample")}
            for name, site in traced.sites.items():
                if is_latent(site) or site["type"] == "deterministic" or name in self.observed:
                    found[f"value {name}"] = jnp.asarray(site["value"])
            for name in self.observed:
                moments = moments_of(traced.sites[name], self._value_shape(traced, name))
                if moments is not None:
                    found |= {f"mean {name}": moments.mean, f"variance {name}": moments.variance}
            return found

        return jaxprs.inspect(results, inputs)

    def _with_params(self, leaves: Mapping[str, Array]) -> dict[str, Any]:
        params = dict(self.structure.params)
        for name, tree in self.structure.undecided.items():
            count = len(jax.tree.leaves(tree))
            params[name] = jax.tree.unflatten(jax.tree.structure(tree), [leaves[f"{name} {k}"] for k in range(count)])
        return params

    def _all_draws(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        parts = _split(inputs)
        return self.draws(jax.random.key(0), parts["free"], parts["data"])


def _split(inputs: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Inputs by the first word of their labels, see `OpenedModel.findings`."""
    parts: dict[str, dict[str, Array]] = {"free": {}, "data": {}, "param": {}, "state": {}, "key": {}}
    for label, value in inputs.items():
        kind, _, name = label.partition(" ")
        parts[kind][name] = value
    return parts
