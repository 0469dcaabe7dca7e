r"""A network replaced by its tangent at a point: a generalised linear model in the weights.

.. math:: f(x; z) \approx f(x; \hat z) + J(x)\,(z - \hat z)

A Gaussian around a mode comes from this model's curvature, so predictions have to come from this model too: drawing
weights from that Gaussian and running them through the network itself leaves the region where the curvature means
anything.

References
----------
Immer, Korzepa and Bauer (2021), Improving predictions of Bayesian neural nets via local linearization. AISTATS.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, Key
from posterion.errors import UnsupportedModelError
from posterion.target.layout import Layout
from posterion.target.network import AbstractNetworkTarget
from posterion.target.target import Moments, RowPlan


class LinearisedTarget(AbstractNetworkTarget):
    """The tangent of a network at ``mode``, as a function of some of its variables.

    Parameters
    ----------
    network
        What is linearised.
    mode
        Where, over all of the network's variables.
    free
        The variables that stay free, with the hyperparameters; all others are held at the mode.
    """

    def __init__(self, network: AbstractNetworkTarget, mode: Float[np.ndarray, " dim"], free: tuple[str, ...]) -> None:
        self.network, self.mode, self.free = network, np.asarray(mode, np.float64), tuple(free)
        whole = network.layout
        kept = [v for v in whole.variables if v.name in self.free]
        self.indices = np.concatenate([np.arange(whole.size)[whole.slices[v.name]] for v in kept])
        derived = whole.derived_dims if len(kept) == len(whole.variables) else ()
        self.layout = Layout(tuple(kept), derived, whole.coords)
        self.hyperparameters = tuple(name for name in network.hyperparameters if name in self.free)
        moves = np.ones(whole.size)
        for name in network.hyperparameters:
            moves[whole.slices[name]] = 0.0
        self._moves = moves  # the output does not depend on the hyperparameters
        self.slots, self.observed, self.num_rows = network.slots, network.observed, network.num_rows
        self.row_names, self.batch_size, self.notes = (), network.batch_size, network.notes

    def embed(self, z: Float[Array, " free"]) -> Float[Array, " dim"]:
        """The whole vector, with what is not free at the mode."""
        if len(self.indices) == len(self.mode):
            return z
        return jnp.asarray(self.mode, z.dtype).at[self.indices].set(z)

    def output(self, z: Float[Array, " free"], data: Data) -> dict[str, Array]:
        mode = jnp.asarray(self.mode, z.dtype)
        step = (self.embed(z) - mode) * jnp.asarray(self._moves, z.dtype)
        value, change = jax.jvp(lambda at: self.network.output(at, data), (mode,), (step,))
        return {name: value[name] + change[name] for name in value}

    def log_prior(self, z: Float[Array, " free"]) -> Float[Array, ""]:
        return self.network.log_prior(self.embed(z))

    def log_likelihood(self, z: Float[Array, " free"], output: Mapping[str, Array], data: Data) -> dict[str, Array]:
        return self.network.log_likelihood(self.embed(z), output, data)

    def moments_given(self, z: Float[Array, " free"], output: Mapping[str, Array], data: Data) -> dict[str, Moments]:
        return self.network.moments_given(self.embed(z), output, data)

    def simulate_given(
        self, key: Key, z: Float[Array, " free"], output: Mapping[str, Array], data: Data
    ) -> dict[str, Array]:
        return self.network.simulate_given(key, self.embed(z), output, data)

    # ---- the contract
    @property
    def data(self) -> dict[str, np.ndarray]:
        return self.network.data

    def initial_point(self, seed: int) -> np.ndarray:
        raise UnsupportedModelError("a linearised network cannot be fitted again; fit the network itself")

    def constrain(self, z: Float[Array, " free"], data: Data) -> dict[str, Array]:
        values = self.network.constrain(self.embed(z), data)
        wanted = set(self.free) | {name for name, _ in self.layout.derived_dims}
        return {name: value for name, value in values.items() if name in wanted}

    def row_values(self, z: Float[Array, " free"], data: Data) -> dict[str, Array]:
        return {}

    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        return self.network.new_rows(data)

    def row_plan(self, over: str | None = None) -> RowPlan:
        return self.network.row_plan(over)
