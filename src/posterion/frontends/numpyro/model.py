"""A NumPyro model opened: which arrays are data, which sites are what, where its rows are, and its densities."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Data, Key
from posterion.errors import UnsupportedModelError
from posterion.frontends import jaxprs
from posterion.frontends.arrays import abstract
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.moments import moments_of
from posterion.frontends.numpyro.refusals import check_randomness, check_sites
from posterion.frontends.numpyro.run import Run, Setting, is_latent, run, unconstrained
from posterion.frontends.numpyro.start import Strategy, starting_values
from posterion.frontends.numpyro.structure import Structure, describe
from posterion.frontends.rows import RowGroup, Shapes, find_group, first_line
from posterion.target import Moments, Slot

Values = Mapping[str, Array]
"""Latent sites' values in unconstrained space."""

_VALUES_NEEDED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


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
    row_axis
        The axis of each observed site's log density, and of each factor's, along which its rows run.
    groups
        The groups of rows.
    observed
        Names of the sites that predict something.

    Raises
    ------
    UnsupportedModelError
        If the model has something that cannot be taken over; the message names it.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        with jax.enable_x64(True):
            self.frozen, self.structure = _settle(call)
            check_sites(self.structure, call)
            populations = {name for name, p in self.structure.plates.items() if p.length != p.size}
            self._setting = Setting(self.structure.params, populations=frozenset(populations))
            self.row_axis = _row_axes(self.structure)
            self.groups = self._find_groups()
            self.observed = tuple(name for name, term in self.structure.terms.items() if not term.is_factor)
            given = self._inspect()
            check_randomness(frozenset().union(*given.needs.values()))
            self.observed = tuple(n for n in self.observed if not given.needs[f"value {n}"] & self._free_inputs)
            self.findings = given
            self.drawn = jaxprs.inspect(self._all_draws, self._inputs())
            self._guard_constants()

    # ---- running
    def slots(self) -> dict[str, Slot]:
        """The arrays that are data, as they are."""
        return {name: slot for name, slot in self.call.slots().items() if name not in self.frozen}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that are data."""
        return {name: self.call.arrays[name].shape for name in self.slots()}

    def run(self, values: Values, data: Data, key: Key | None = None, *, redraw: bool = False) -> Run:
        """Run the model on data of any numbers of rows; see `posterion.frontends.numpyro.run`."""
        lengths, new = {}, set()
        for group in self.groups:
            rows = group.count(data)
            lengths |= dict.fromkeys(group.plates, rows)
            new |= set(group.local) if rows != group.num_rows else set()
        known = {name: value for name, value in values.items() if name not in new}
        setting = self._setting.resized(lengths)
        return run(self.call, data, unconstrained(known), setting, key=key, redraw=self.observed if redraw else ())

    def log_densities(self, values: Values, data: Data) -> dict[str, Array]:
        """Log density of every latent site, observed site and factor, entry by entry."""
        traced = self.run(values, data)
        return {name: traced.log_density(name) for name in traced.of_type("sample")}

    def constrained(self, values: Values, data: Data) -> dict[str, Array]:
        """Values of all latent and deterministic sites."""
        sites = self.run(values, data).sites
        latent = {name: sites[name]["value"] for name in values}
        return latent | {name: s["value"] for name, s in sites.items() if s["type"] == "deterministic"}

    def derived(self, values: Values, data: Data, names: tuple[str, ...]) -> dict[str, Array]:
        """Values of some deterministic sites, for data of any numbers of rows."""
        sites = self.run(values, data, jax.random.key(0)).sites  # the key is for latents of new rows, not looked at
        return {name: sites[name]["value"] for name in names}

    def moments(self, values: Values, data: Data, names: tuple[str, ...]) -> dict[str, Moments]:
        """Mean and variance of some observed sites, shaped like their values."""
        traced = self.run(values, data, jax.random.key(0))
        found = {name: moments_of(traced.sites[name], self._value_shape(traced, name)) for name in names}
        return {name: moments for name, moments in found.items() if moments is not None}

    def draws(self, key: Key, values: Values, data: Data) -> dict[str, Array]:
        """One draw of every observed site."""
        sites = self.run(values, data, key, redraw=True).sites
        return {name: sites[name]["value"] for name in self.observed}

    def starting_values(self, data: Data, key: Key, strategy: Strategy | None) -> dict[str, Array]:
        """Values of the latent sites to start from; see `posterion.frontends.numpyro.start`."""
        return starting_values(self.call, data, key, self._setting, strategy)

    def _value_shape(self, traced: Run, name: str) -> tuple[int, ...]:
        return (*jnp.shape(traced.log_density(name)), *self.structure.terms[name].event)

    # ---- rows
    def _find_groups(self) -> tuple[RowGroup, ...]:
        structure, groups = self.structure, []
        home = _shapes_of(structure)
        for seed in _seeds(structure, self.row_axis):
            if any(set(seed.terms) <= set(group.terms) for group in groups):
                continue
            groups.append(find_group(home, self.shapes(), seed, self._grow))
        return tuple(groups)

    def _grow(self, arrays: Mapping[str, tuple[int, ...]], group: RowGroup, rows: int) -> Shapes:
        slots = self.call.slots()
        longer = {name: abstract(slots[name], shape) for name, shape in arrays.items()}
        return _shapes_of(describe(self.call, longer, self._setting.resized(dict.fromkeys(group.plates, rows))))

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
    @cached_property
    def _free_inputs(self) -> frozenset[str]:
        return frozenset(f"free {name}" for name in self.structure.latents)

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
        inputs["key"] = jax.ShapeDtypeStruct((2,), "uint32")

        def results(inputs: Mapping[str, Array]) -> dict[str, Array]:
            parts = _split(inputs)
            setting = replace(self._setting, words=inputs["key"], params=self._with_params(parts["param"]))
            traced = run(self.call, parts["data"], unconstrained(parts["free"]), setting)
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
    """Inputs by the first word of their labels: free values of latent sites, data, parameters of modules, the key."""
    parts: dict[str, dict[str, Array]] = {"free": {}, "data": {}, "param": {}, "key": {}}
    for label, value in inputs.items():
        kind, _, name = label.partition(" ")
        parts[kind][name] = value
    return parts


def _shapes_of(structure: Structure) -> Shapes:
    return Shapes(
        {name: term.shape for name, term in structure.terms.items()},
        {name: shape for name, (shape, _) in structure.derived.items()},
        {name: latent.free_shape for name, latent in structure.latents.items()},
    )


def _settle(call: Call) -> tuple[frozenset[str], Structure]:
    """The model's structure, with as few arrays as possible taken for parts of the model."""
    setting = Setting(row_counts=frozenset(n for array in call.arrays.values() for n in array.shape[:1]))
    slots, first = call.slots(), None
    for frozen in _to_freeze(call):
        shapes = {n: abstract(slots[n], a.shape) for n, a in call.arrays.items() if n not in frozen}
        try:
            return frozenset(frozen), describe(call, shapes, setting)
        except _VALUES_NEEDED as error:
            first = first or error
    raise UnsupportedModelError(
        "the model asks for values that JAX only traces, and taking its arguments as fixed does not help: "
        f"{first_line(first) if first else ''}. The usual causes are NumPy applied to random variables, a NumPy array "
        "indexed by a plate's rows (use jax.numpy), and an `if` on a random variable (use jnp.where)."
    ) from first


def _to_freeze(call: Call) -> list[tuple[str, ...]]:
    """Sets of arrays to try, in order: nothing, single numbers, one array of whole numbers, any one array, all."""
    arrays = call.arrays
    scalars = tuple(name for name, a in arrays.items() if a.ndim == 0)
    whole = [name for name, a in arrays.items() if a.ndim and a.dtype.kind in "biu"]
    rest = [name for name, a in arrays.items() if a.ndim and a.dtype.kind == "f"]
    tries = [(), scalars, *((*scalars, name) for name in whole), (*scalars, *whole)]
    tries += [(*scalars, name) for name in rest] + [tuple(arrays)]
    return list(dict.fromkeys(tries))


def _row_axes(structure: Structure) -> dict[str, int]:
    """The first axis of each term that is not a plate of latent sites, if there is another; none for scalars."""
    with_latents = {plate for latent in structure.latents.values() for plate, _ in latent.plates}
    axes = {}
    for name, term in structure.terms.items():
        plate_of = {axis: plate for plate, axis in term.plates}
        longer = [axis for axis, length in enumerate(term.shape) if length > 1] or list(range(len(term.shape)))[:1]
        shared = [axis for axis in longer if plate_of.get(axis) not in with_latents]
        if longer:
            axes[name] = (shared or longer)[0]
    return axes


def _seeds(structure: Structure, row_axis: Mapping[str, int]) -> list[RowGroup]:
    """One seed per plate of rows, or per number of rows where there is no plate; factors alone only where they must."""
    seeds: dict[tuple, RowGroup] = {}
    for is_factor in (False, True):
        for name, axis in row_axis.items():
            term = structure.terms[name]
            plates = tuple(plate for plate, at in term.plates if at == axis)
            rows = term.shape[axis]
            if term.is_factor != is_factor or (is_factor and (rows == 1 or not plates)):
                continue
            if is_factor and any(seed.num_rows == rows for seed in seeds.values()):
                continue
            key = plates or (rows,)
            known = seeds.get(key, RowGroup(rows, plates[0] if plates else None, (), plates=plates))
            seeds[key] = replace(known, terms=(*known.terms, (name, axis)))
    return list(seeds.values())
