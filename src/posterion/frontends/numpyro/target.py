"""A NumPyro model as a target."""

import copy
import hashlib
import threading
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, Key
from posterion.compilation.cache import Program
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends import jaxprs
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.labels import Dims, dims_of, make_layout
from posterion.frontends.numpyro.model import OpenedModel
from posterion.frontends.numpyro.start import Strategy
from posterion.frontends.numpyro.summation import Summation
from posterion.frontends.rows import RowGroup, check_rows, choose_group, complete_rows, plan_of
from posterion.target import AbstractRowTarget, JointTerms, Moments, Observed, RowPlan, Slot


class NumPyroTarget(AbstractRowTarget):
    """The posterior of a NumPyro model called with some arguments.

    Parameters
    ----------
    call
        The model and its arguments.
    dims, coords
        Names of axes and their labels, beyond what plates say.
    strategy
        For the starting point; see `posterion.frontends.numpyro.start`.

    Attributes
    ----------
    fingerprint
        A digest of what the model computes now. A function may compute something else the next time it is looked at:
        a global variable, or an array it closes over, may have changed.

    Raises
    ------
    UnsupportedModelError
        If the model has something that cannot be taken over; the message names it.
    OptionError
        For dims or coords that do not fit.
    """

    def __init__(
        self,
        call: Call,
        dims: Dims | None = None,
        coords: Mapping[str, Any] | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        model = self._model = OpenedModel(call)
        self._strategy, self._dims = strategy, dict(dims or {})
        self._plans: dict[RowGroup, RowPlan] = {}
        self._lock = threading.RLock()
        self._data = {name: call.arrays[name] for name in model.slots()}
        self._axes = model.axes
        self.layout = make_layout(model.structure, model.derived, model.shapes(), self._dims, coords or {})
        self._closed = tuple(name for name in model.observed if self._is_closed(name))
        self.row_names = tuple(name for group in model.groups for name in group.derived if self._is_plain(name))
        self.slots = MappingProxyType(self._make_slots())
        self.num_rows = MappingProxyType(self._count_rows())
        self.observed = MappingProxyType({name: self._observed(name) for name in model.observed})
        self.batch_size = self._own_batch_size()
        self.notes = tuple(self._notes())
        self.fingerprint = _digest(model.findings, model.drawn)

    # ---- what the model's inspection says
    def _outcomes(self) -> dict[str, str]:
        """By observed site, the array that is its value."""
        same, model = self._model.findings.same, self._model
        found = {name: same.get(f"value {name}") for name in model.observed}
        return {name: label.removeprefix("data ") for name, label in found.items() if label is not None}

    def _is_plain(self, derived: str) -> bool:
        """Whether a deterministic site can be had for new rows: without their outcomes, and without latents of rows."""
        local = {f"free {name}" for group in self._model.groups for name in group.local}
        outcomes = {f"data {name}" for name in self._outcomes().values()}
        plain = derived in self._model.derived
        return plain and not self._model.findings.needs[f"value {derived}"] & (local | outcomes)

    def _is_closed(self, name: str) -> bool:
        """Whether an observed site's moments follow from z and inputs, and from nothing else that is random."""
        if not self._model.structure.terms[name].has_moments:
            return False
        local = {f"free {latent}" for group in self._model.groups for latent in group.local}
        others = {f"data {slot}" for site, slot in self._outcomes().items() if site != name}
        needs = self._model.findings.needs
        return not (needs[f"mean {name}"] | needs[f"variance {name}"]) & (local | others)

    def _make_slots(self) -> dict[str, Slot]:
        model, findings = self._model, self._model.findings
        predicting = frozenset().union(*model.drawn.needs.values())
        for name in self._closed:
            predicting |= findings.needs[f"mean {name}"] | findings.needs[f"variance {name}"]
        for label, needs in findings.needs.items():
            kind, _, name = label.partition(" ")
            constrained = kind == "value" and (name in model.structure.latents or name in model.derived)
            if constrained and (name not in self._rows_of_derived or name in self.row_names):
                predicting |= needs
        outcomes = set(self._outcomes().values())
        axes = {name: (axis, group) for group in model.groups for name, axis in group.axes}
        self._neutral = tuple(n for n in axes if f"data {n}" not in predicting and n not in outcomes)
        limits = findings.limits | model.drawn.limits
        slots = {}
        for name, slot in model.slots().items():
            axis, group = axes.get(name, (None, None))
            free = axis if group is not None and group.obstacle is None else None
            shape = tuple(None if k == free else n for k, n in enumerate(slot.shape))
            limit = limits.get(f"data {name}") if np.dtype(slot.dtype).kind in "iu" else None
            if group is not None and limit == group.num_rows:
                limit = None  # an index into the rows themselves, whose number may change
            dims = self._dims.get(name) or tuple(group.dim if k == axis and group else None for k in range(len(shape)))
            only = f"data {name}" not in predicting and name in outcomes
            slots[name] = Slot(slot.dtype, shape, tuple(dims) if any(dims) else (), axis, only, limit)
        return slots

    @property
    def _rows_of_derived(self) -> set[str]:
        return {name for group in self._model.groups for name in group.derived}

    def _observed(self, name: str) -> Observed:
        term = self._model.structure.terms[name]
        axis, dims = self._axes.get(name), dims_of(name, (*term.shape, *term.event), term.plates, self._dims)
        shape = (*term.shape, *term.event)
        if axis is not None:
            shape = _without(shape, axis)
            dims = (dims[axis], *_without(dims, axis)) if dims else ()
        slot = self._outcomes().get(name)
        if name not in self.num_rows and axis is not None:
            slot = None  # its density stands in one term with another site's: there is none of its own to score with
        return Observed(term.kind, shape, dims, term.categories, name in self._closed, slot)

    def _count_rows(self) -> dict[str, int]:
        counts, summation = {name: self._count(name) for name in self._axes}, self._model.summation
        if summation is not None and summation.by_row:
            counts[summation.label] = self._count(summation.dependents[0])
            if len(summation.dependents) > 1:
                counts = {name: rows for name, rows in counts.items() if name not in summation.dependents}
        return counts

    def _count(self, name: str) -> int:
        """Rows a term stands for: those of its plate, which may be more than the data hold."""
        term, axis = self._model.structure.terms[name], self._axes[name]
        for plate, at in term.plates:
            size, length = self._model.structure.plates[plate].size, self._model.structure.plates[plate].length
            if at == axis:
                return round(size * self._model.weight(name))
            if size != length:
                raise OptionError(
                    f"{name!r} stands in the plate {plate!r}, of which the data hold {length} of {size} entries, but "
                    "its rows run over another axis: pass all of them"
                )
        return round(term.shape[axis] * self._model.weight(name))

    def _own_batch_size(self) -> int | None:
        for group in self._model.groups:
            for name in group.plates:
                plate = self._model.structure.plates[name]
                if group.axes and plate.subsample is not None and plate.subsample < plate.length:
                    return plate.subsample
        return None

    def _notes(self) -> list[str]:
        model, notes = self._model, []
        in_group = {name for group in model.groups if group.axes for name in group.plates}
        for name, plate in model.structure.plates.items():
            if plate.length != plate.size:
                notes.append(f"the {plate.length} rows of the plate {name!r} stand for {plate.size}")
            elif plate.subsample is not None and plate.subsample < plate.size:
                taken = f"taken over: {plate.subsample} of {plate.size} rows per step"
                whole = f"taken whole, {plate.size} rows per step: its rows are in no argument of the model"
                notes.append(f"the plate {name!r} is {taken if name in in_group else whole}")
        for name in model.observed:
            if model.weight(name) != 1.0:
                notes.append(f"handlers.scale: every row of {name!r} stands for {model.weight(name):g} rows")
        notes += [f"{name!r} is fixed: its values decide a shape in the model" for name in sorted(model.frozen)]
        if model.summation is not None:
            notes.append(_summed(model.summation))
        notes += [f"{name!r} keeps its state as it is" for name in model.structure.state]
        return notes

    # ---- the contract
    @property
    def data(self) -> dict[str, np.ndarray]:
        return dict(self._data)

    def with_data(self, arrays: Mapping[str, np.ndarray]) -> "NumPyroTarget":
        """The same target, and all that was compiled for it, with other data of the same shapes."""
        _ = self.compiled, self._start  # made now, so that both share them
        other = copy.copy(self)
        other._data = {name: arrays[name] for name in self._data}
        return other

    def initial_point(self, seed: int) -> np.ndarray:
        key = np.random.SeedSequence(seed).generate_state(2, np.uint32)
        with jax.enable_x64(True):
            return np.asarray(self._start(self._arrays(), key), np.float64)

    @cached_property
    def _start(self) -> Program:
        """Compiled, if only for a handful of operations: one by one they would be compiled one by one."""
        model, strategy, layout = self._model, self._strategy, self.layout

        def start(data: dict[str, Array], key: Array) -> Array:
            return layout.ravel(model.starting_values(data, jax.random.wrap_key_data(key), strategy))

        return Program(start)

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._model.constrained(self.layout.unravel(z), data)

    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        rows, rest = {}, jnp.zeros((), z.dtype)
        for name, term in self._terms(z, data).items():
            if term.ndim:
                rows[name] = term
            else:
                rest = rest + term
        return JointTerms(rest, rows)

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        return {name: jnp.sum(term) for name, term in self._terms(z, data).items()}

    def _terms(self, z: Array, data: Data) -> dict[str, Array]:
        terms = self._model.terms(self.layout.unravel(z), data)
        return {name: term.astype(z.dtype) for name, term in terms.items()}

    def moments(self, z: Float[Array, " dim"], data: Data) -> dict[str, Moments]:
        return self._model.moments(self.layout.unravel(z), data, self._closed)

    def simulate(self, key: Key, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._model.draws(key, self.layout.unravel(z), data)

    def row_values(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._model.derived_values(self.layout.unravel(z), data, self.row_names) if self.row_names else {}

    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        if not self.observed and not self.row_names:
            if self._model.summation is not None:
                names = ", ".join(map(repr, self._model.summation.states))
                raise UnsupportedModelError(
                    f"{names} belong to all rows at once and are summed out, so that what they were is not known and "
                    "new rows cannot be predicted"
                )
            raise UnsupportedModelError("the model has no observed site to predict, only factors")
        fixed = [name for name in data if name in self._model.frozen]
        if fixed:
            raise DataError(
                f"{', '.join(map(repr, fixed))} cannot be replaced: its values decide a shape in the model. Give the "
                "model that number as an argument of its own (a plain int), or fit it again with the new data."
            )
        return complete_rows(self.slots, self._model.groups, self._data, data, self._neutral)

    def row_plan(self, over: str | None = None) -> RowPlan:
        group = choose_group(self._model.groups, over)
        with self._lock:
            if group not in self._plans:
                plan = plan_of(group)
                noise = np.random.default_rng(0).standard_normal(self.layout.size)
                check_rows(self._terms, group, self.initial_point(0) + 0.1 * noise, self._arrays())
                self._plans[group] = plan
            return self._plans[group]

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(self._data[name], slot.dtype) for name, slot in self.slots.items()}


def _summed(summation: Summation) -> str:
    names = ", ".join(map(repr, summation.states))
    if summation.by_funsor:
        return f"{names} summed out by funsor, for all rows at once"
    return f"{names} summed out over all values" + (", row by row" if summation.by_row else ", for all rows at once")


def _digest(*found: jaxprs.Findings) -> str:
    digest = hashlib.sha256()
    for findings in found:
        digest.update(findings.text.encode())
        for constant in findings.constants:
            digest.update(str((np.shape(constant), jnp.result_type(constant))).encode())
            digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()


def _without(items: tuple, axis: int) -> tuple:
    return (*items[:axis], *items[axis + 1 :])
