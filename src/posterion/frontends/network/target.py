"""A network with its priors and likelihoods, as a target."""

import copy
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpyro.distributions import Distribution

from posterion._typing import Array, Data, Key
from posterion.errors import DataError, OptionError
from posterion.frontends.arrays import slot_of
from posterion.frontends.network.likelihoods import Likelihood
from posterion.frontends.network.parameters import FreeVariables
from posterion.frontends.network.weights import Weights
from posterion.frontends.numpyro.moments import kind_of, moments_of
from posterion.frontends.rows import RowGroup, check_rows, choose_group, complete_rows, plan_of
from posterion.target import JointTerms, Moments, Observed, RowPlan, Slot
from posterion.target.checks import check_array
from posterion.target.network import AbstractNetworkTarget


class NetworkTarget(AbstractNetworkTarget):
    """The posterior of a network's weights; made by `posterion.network`.

    Parameters
    ----------
    weights
        The network.
    prior
        As `posterion.network` takes it.
    likelihoods
        By outcome.
    data
        Inputs, in the order the network takes them, and outcomes.
    row_weight
        Name of the data that say how many rows each row counts for, or None.
    """

    def __init__(
        self,
        weights: Weights,
        prior: Any,
        likelihoods: Mapping[str, Likelihood],
        data: Mapping[str, np.ndarray],
        row_weight: str | None = None,
    ) -> None:
        self._apply, self._likelihoods, self._row_weight = weights.apply, dict(likelihoods), row_weight
        self._inputs = tuple(name for name in data if name not in likelihoods and name != row_weight)
        self._learned: dict[str, tuple[str, ...]] = {}
        learned: list[tuple[str, Distribution]] = []
        for outcome, likelihood in likelihoods.items():
            priors = likelihood.learned_for(data[outcome])
            self._learned[outcome] = tuple(priors)
            learned += [(f"{outcome}_{name}", prior) for name, prior in priors.items()]
        self._free = FreeVariables(weights, prior, learned)
        self.layout, self.hyperparameters, self.notes = self._free.layout, self._free.hyperparameters, weights.notes
        self._lock, self._plan = threading.Lock(), None
        rows = len(next(iter(data.values())))
        unequal = {name: len(array) for name, array in data.items() if len(array) != rows}
        if unequal:
            counts = ", ".join(f"{name!r} has {len(array)}" for name, array in data.items())
            raise DataError(f"inputs and outcomes must be the same rows: {counts}")
        self.num_rows = MappingProxyType(dict.fromkeys(likelihoods, rows))
        self._group = RowGroup(rows, None, tuple((name, 0) for name in likelihoods), tuple((name, 0) for name in data))
        self.observed = MappingProxyType(self._look(data))
        self.slots = MappingProxyType({name: self._slot(name, array) for name, array in data.items()})
        self._data = {name: check_array(name, self.slots[name], array) for name, array in data.items()}
        self._check_outcomes()

    # ---- what the network and the likelihoods are like
    def _look(self, data: Mapping[str, np.ndarray]) -> dict[str, Observed]:
        """Shapes and kinds, by tracing alone."""
        observed: dict[str, Observed] = {}

        def trace(z: Array, arrays: Data) -> Array:
            for name, distribution in self._distributions(z, self.output(z, arrays), arrays).items():
                kind, classes = kind_of(distribution)
                shape = distribution.shape()
                closed = moments_of({"fn": distribution}, shape) is not None
                observed[name] = Observed(kind, tuple(shape[1:]), (), classes, closed, name)
                self._discrete[name] = bool(distribution.support.is_discrete)  # pyright: ignore[reportOptionalMemberAccess]
            return z

        self._discrete: dict[str, bool] = {}
        with jax.enable_x64(True):
            z = jax.ShapeDtypeStruct((self.layout.size,), jnp.float64)
            arrays = {
                name: jax.ShapeDtypeStruct(a.shape, jnp.float64 if a.dtype.kind == "f" else jnp.asarray(a[:0]).dtype)
                for name, a in data.items()
            }
            jax.eval_shape(trace, z, arrays)
        return observed

    def _slot(self, name: str, array: np.ndarray) -> Slot:
        outcome = name in self._likelihoods
        dtype = slot_of(array).dtype
        if outcome:
            dtype = "int64" if self._discrete[name] else "float64"
        elif name == self._row_weight:
            dtype = "float64"
        return Slot(dtype, (None, *array.shape[1:]), (), 0, only_observed=outcome)

    def _check_outcomes(self) -> None:
        for name, observed in self.observed.items():
            y = self._data[name]
            labels = {"binary": 2, "categorical": observed.num_categories}.get(observed.kind)
            if labels and (y.min() < 0 or y.max() >= labels):
                odd = y.max() if y.max() >= labels else y.min()
                columns = f": the network has {labels} outputs for it" if observed.kind == "categorical" else ""
                raise DataError(f"{name!r} must hold labels 0 to {labels - 1} and holds {odd}{columns}")
            if observed.kind == "numeric" and self._discrete[name] and y.min() < 0:
                raise DataError(f"{name!r} must hold counts and holds {y.min()}")
        if self._row_weight is not None and np.any(self._data[self._row_weight] < 0):
            raise DataError(f"{self._row_weight!r} must hold weights from 0 on")

    # ---- the network
    def output(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._output(self._free.values(self._free.unravel(z)), z.dtype, data)

    def _output(self, values: Mapping[str, Array], dtype: Any, data: Data) -> dict[str, Array]:
        arrays = self._free.weights(values, dtype)
        found = self._apply(arrays, tuple(data[name] for name in self._inputs))
        names = list(self._likelihoods)
        if isinstance(found, Mapping):
            lacking = [name for name in names if name not in found]
            if lacking:
                raise OptionError(f"the network's output lacks {lacking}; it has {sorted(found)}")
            return {name: jnp.asarray(found[name]).astype(dtype) for name in names}
        heads = found if isinstance(found, tuple | list) else (found,)
        if len(heads) != len(names):
            raise OptionError(f"the network has {len(heads)} outputs and there are likelihoods for {names}")
        return {name: jnp.asarray(head).astype(dtype) for name, head in zip(names, heads, strict=True)}

    def _distributions(self, z: Array, output: Mapping[str, Array], data: Data) -> dict[str, Distribution]:
        return self._given(self._free.values(self._free.unravel(z)), output, data)

    def _given(self, values: Mapping[str, Array], output: Mapping[str, Array], data: Data) -> dict[str, Distribution]:
        return {
            name: likelihood.given(
                output[name], data[name].shape, {key: values[f"{name}_{key}"] for key in self._learned[name]}
            )
            for name, likelihood in self._likelihoods.items()
        }

    def log_prior(self, z: Float[Array, " dim"]) -> Float[Array, ""]:
        return self._free.log_prior(self._free.unravel(z), z.dtype)

    @property
    def normal_given_others(self) -> tuple[str, ...]:
        return self._free.normal_given_others

    def expected_log_prior(
        self, z: Float[Array, " dim"], variances: Mapping[str, Float[Array, " entries"]]
    ) -> Float[Array, ""]:
        return self._free.log_prior(self._free.unravel(z), z.dtype, variances)

    def log_likelihood(self, z: Float[Array, " dim"], output: Mapping[str, Array], data: Data) -> dict[str, Array]:
        return self._densities(self._distributions(z, output, data), z.dtype, data)

    def _densities(self, distributions: Mapping[str, Distribution], dtype: Any, data: Data) -> dict[str, Array]:
        rows = {}
        for name, distribution in distributions.items():
            density = jnp.asarray(distribution.log_prob(data[name])).astype(dtype)
            density = density.reshape(density.shape[0], -1).sum(axis=1) if density.ndim > 1 else density
            rows[name] = density if self._row_weight is None else density * data[self._row_weight].astype(dtype)
        return rows

    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        # z is cut into its variables once: its gradient is then laid out once.
        free, dtype = self._free.unravel(z), z.dtype
        values = self._free.values(free)
        output = self._output(values, dtype, data)
        likelihood = self._densities(self._given(values, output, data), dtype, data)
        return JointTerms(self._free.log_prior(free, dtype), likelihood)

    def moments_given(self, z: Float[Array, " dim"], output: Mapping[str, Array], data: Data) -> dict[str, Moments]:
        found = {
            name: moments_of({"fn": distribution}, distribution.shape())
            for name, distribution in self._distributions(z, output, data).items()
        }
        return {name: moments for name, moments in found.items() if moments is not None}

    def simulate_given(
        self, key: Key, z: Float[Array, " dim"], output: Mapping[str, Array], data: Data
    ) -> dict[str, Array]:
        distributions = self._distributions(z, output, data)
        keys = jax.random.split(key, len(distributions))
        return {name: jnp.asarray(d.sample(one)) for one, (name, d) in zip(keys, distributions.items(), strict=True)}

    # ---- the contract
    @property
    def data(self) -> dict[str, np.ndarray]:
        return dict(self._data)

    def with_data(self, data: Mapping[str, Any]) -> "NetworkTarget":
        """The same target, and all that was compiled for it, with other data of the same shapes.

        Raises
        ------
        DataError
            For data of other names or another number of rows.
        """
        _ = self.compiled  # made now, so that both share it
        other = copy.copy(self)
        arrays = {name: check_array(name, slot, data[name]) for name, slot in self.slots.items()}
        shapes = {name: a.shape for name, a in arrays.items()}
        if shapes != {name: a.shape for name, a in self._data.items()}:
            raise DataError(f"with_data takes data of the same shapes, not {shapes}")
        other._data = arrays
        other._check_outcomes()
        return other

    def initial_point(self, seed: int) -> np.ndarray:
        return self._free.starting_point(seed)

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._free.values(self._free.unravel(z))

    def row_values(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return {}

    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        neutral = () if self._row_weight is None else (self._row_weight,)
        return complete_rows(self.slots, [self._group], self._data, data, neutral)

    def row_plan(self, over: str | None = None) -> RowPlan:
        group = choose_group([self._group], over)
        with self._lock:
            if self._plan is None:
                noise = np.random.default_rng(0).standard_normal(self.layout.size)
                arrays = {name: np.asarray(self._data[name], slot.dtype) for name, slot in self.slots.items()}
                check_rows(self._check_terms, group, self._free.start + 0.1 * noise, arrays)
                self._plan = plan_of(group)
            return self._plan

    def _check_terms(self, z: Array, data: Data) -> dict[str, Array]:
        return self.joint_terms(z, data).log_likelihood
