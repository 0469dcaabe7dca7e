"""A prior and a likelihood of rows written by hand, with what they predict, as a target."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, Key
from posterion.errors import OptionError, UnsupportedModelError
from posterion.frontends import jaxprs
from posterion.frontends.arrays import abstract, slot_of
from posterion.frontends.parameters import Parameters
from posterion.frontends.rows import RowGroup, Shapes, check_rows, choose_group, complete_rows, find_group, plan_of
from posterion.target import AbstractRowTarget, JointTerms, Moments, Observed, RowPlan, Slot

Kind = Literal["numeric", "binary", "categorical"]


@dataclass(frozen=True)
class RowFunctions:
    """The user's functions, by what they are for; see `posterion.log_density`."""

    log_prior: Callable | None
    log_likelihood: Callable
    mean: Callable | None = None
    variance: Callable | None = None
    simulate: Callable | None = None


class RowDensityTarget(AbstractRowTarget):
    """A prior and a likelihood of rows; made by `posterion.log_density`."""

    def __init__(
        self, functions: RowFunctions, parameters: Parameters, arrays: Mapping[str, np.ndarray], kind: Kind, name: str
    ) -> None:
        self._functions, self._parameters, self._data, self._name = functions, parameters, dict(arrays), name
        self.layout = parameters.layout
        self._plan: RowPlan | None = None
        self._lock = threading.Lock()
        self.slots = MappingProxyType({key: slot_of(array) for key, array in arrays.items()})
        with jax.enable_x64(True):
            self._rows = self._find_rows()
            shapes = jax.eval_shape(self._everything, self._abstract_z(), self._abstract_data())
            self._check_shapes({key: value.shape for key, value in shapes.items()}, kind)
            found = jaxprs.inspect(
                lambda inputs: self._everything(inputs["z"], {k: v for k, v in inputs.items() if k != "z"}),
                {"z": self._abstract_z(), **self._abstract_data()},
            )
        self.num_rows = {name: self._rows.num_rows}
        closed = functions.mean is not None and (kind != "numeric" or functions.variance is not None)
        self._closed = closed
        outcomes = self._outcomes(found)
        self.slots = MappingProxyType(self._make_slots(found, outcomes))
        self.observed, self.row_names = {}, ()
        if closed or functions.simulate is not None:
            trailing = shapes["simulate" if functions.simulate is not None else "mean"].shape[1:]
            if kind == "categorical" and functions.simulate is None:
                trailing = trailing[:-1]
            classes = shapes["mean"].shape[-1] if kind == "categorical" else 0
            slot = outcomes[0] if len(outcomes) == 1 else None
            self.observed = {name: Observed(kind, tuple(trailing), (), classes, closed, slot)}
        elif functions.mean is not None:  # an expectation without a spread: predicted as what it is
            self.row_names = (f"{name}_mean",)

    # ---- what the functions are like
    def _abstract_z(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.layout.size,), jnp.result_type(float))

    def _abstract_data(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {name: abstract(slot, self._data[name].shape) for name, slot in self.slots.items()}

    def _everything(self, z: Array, data: Data) -> dict[str, Array]:
        f, params = self._functions, self._parameters.tree(self._parameters.values(z))
        found = {"log_likelihood": jnp.asarray(f.log_likelihood(params, data))}
        if f.log_prior is not None:
            found["log_prior"] = jnp.asarray(f.log_prior(params))
        for key, function in (("mean", f.mean), ("variance", f.variance)):
            if function is not None:
                found[key] = jnp.asarray(function(params, data))
        if f.simulate is not None:
            found["simulate"] = jnp.asarray(f.simulate(jax.random.key(0), params, data))
        return found

    def _find_rows(self) -> RowGroup:
        z, shapes = self._abstract_z(), {name: slot.shape for name, slot in self.slots.items()}

        def likelihood(arrays: Mapping[str, tuple[int, ...]]) -> Shapes:
            data = {name: abstract(self.slots[name], shape) for name, shape in arrays.items()}
            found = jax.eval_shape(lambda z, data: self._everything(z, data)["log_likelihood"], z, data)
            return Shapes({self._name: found.shape})

        home = likelihood(shapes)  # type: ignore[arg-type]
        shape = home.terms[self._name]
        if len(shape) != 1:
            raise OptionError(
                f"log_likelihood must give one number per row, shaped (rows,), and gives shape {shape}"
                + ("; leave the sum over rows to the fit" if shape == () else "; sum over the other axes")
            )
        seed = RowGroup(shape[0], None, ((self._name, 0),))
        return find_group(home, shapes, seed, lambda arrays, group, rows: likelihood(arrays))  # type: ignore[arg-type]

    def _check_shapes(self, shapes: Mapping[str, tuple[int, ...]], kind: Kind) -> None:
        if shapes.get("log_prior", ()) != ():
            raise OptionError(f"log_prior must give one number, and gives shape {shapes['log_prior']}")
        for key in ("mean", "variance", "simulate"):
            option = key if key == "simulate" else f"predict_{key}"
            if key in shapes and shapes[key][:1] != (self._rows.num_rows,):
                raise OptionError(
                    f"{option} must give (rows, ...), and gives {shapes[key]} for {self._rows.num_rows} rows"
                )
        if kind == "categorical" and len(shapes.get("mean", ())) < 2:
            raise OptionError("predict_mean of a categorical outcome must give (rows, classes) probabilities")
        if "variance" in shapes and shapes.get("mean") != shapes["variance"]:
            raise OptionError("predict_variance goes with predict_mean and must give the same shape")

    def _outcomes(self, found: jaxprs.Findings) -> list[str]:
        """Arrays that enter the likelihood but no prediction."""
        if self._functions.mean is None and self._functions.simulate is None:
            return []
        predicting = frozenset().union(*(found.needs.get(key, ()) for key in ("mean", "variance", "simulate")))
        return [name for name in self.slots if name in found.needs["log_likelihood"] - predicting]

    def _make_slots(self, found: jaxprs.Findings, outcomes: Sequence[str]) -> dict[str, Slot]:
        axes, slots = dict(self._rows.axes), {}
        for name, slot in self.slots.items():
            axis = axes.get(name)
            any_length = axis if self._rows.obstacle is None else None
            shape = tuple(None if k == any_length else n for k, n in enumerate(slot.shape))
            limit = found.limits.get(name) if np.dtype(slot.dtype).kind in "iu" else None
            limit = None if limit == self._rows.num_rows else limit
            slots[name] = Slot(slot.dtype, shape, (), axis, name in outcomes, limit)
        return slots

    # ---- the contract
    @property
    def data(self) -> dict[str, np.ndarray]:
        return dict(self._data)

    def initial_point(self, seed: int) -> np.ndarray:
        return self._parameters.start.copy()

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._parameters.values(z)

    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        values = self._parameters.values(z)
        params, prior = self._parameters.tree(values), self._parameters.log_volume(z, values)
        if self._functions.log_prior is not None:
            prior = prior + jnp.asarray(self._functions.log_prior(params)).astype(z.dtype)
        rows = jnp.asarray(self._functions.log_likelihood(params, data)).astype(z.dtype)
        return JointTerms(prior, {self._name: rows})

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        terms = self.joint_terms(z, data)
        return {"log_prior": terms.log_prior, "log_likelihood": jnp.sum(terms.log_likelihood[self._name])}

    def moments(self, z: Float[Array, " dim"], data: Data) -> dict[str, Moments]:
        mean, variance = self._functions.mean, self._functions.variance
        if not self._closed or mean is None:
            return {}
        params = self._parameters.tree(self._parameters.values(z))
        expected = jnp.asarray(mean(params, data)).astype(z.dtype)
        spread = expected * (1 - expected) if variance is None else jnp.asarray(variance(params, data)).astype(z.dtype)
        return {self._name: Moments(expected, spread)}

    def simulate(self, key: Key, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        if not self.observed:
            return {}
        kind, params = self.observed[self._name].kind, self._parameters.tree(self._parameters.values(z))
        if self._functions.simulate is not None:
            return {self._name: jnp.asarray(self._functions.simulate(key, params, data))}
        if kind == "numeric":
            raise UnsupportedModelError("quantiles and draws of outcomes need simulate=... in log_density")
        mean = self.moments(z, data)[self._name].mean
        if kind == "binary":
            return {self._name: jax.random.bernoulli(key, mean).astype(jnp.int32)}
        return {self._name: jax.random.categorical(key, jnp.log(mean))}

    def row_values(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        if not self.row_names or self._functions.mean is None:
            return {}
        params = self._parameters.tree(self._parameters.values(z))
        return {self.row_names[0]: jnp.asarray(self._functions.mean(params, data))}

    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        if not self.observed and not self.row_names:
            raise UnsupportedModelError(
                "this target cannot predict: give log_density predict_mean=..., with predict_variance=... for numbers, "
                "or simulate=..."
            )
        return complete_rows(self.slots, [self._rows], self._data, data)

    def row_plan(self, over: str | None = None) -> RowPlan:
        group = choose_group([self._rows], over)
        with self._lock:
            if self._plan is None:
                plan = plan_of(group)
                noise = np.random.default_rng(0).standard_normal(self.layout.size)
                arrays = {name: np.asarray(self._data[name], slot.dtype) for name, slot in self.slots.items()}
                check_rows(self._check_terms, group, self._parameters.start + 0.1 * noise, arrays)
                self._plan = plan
            return self._plan

    def _check_terms(self, z: Array, data: Data) -> dict[str, Array]:
        return self.joint_terms(z, data).log_likelihood
