r"""A mixture of members of another family, for posteriors of several modes or of odd shapes.

.. math:: q(z) = \sum_{k=1}^K w_k\, q_k(z)

A draw takes one standard normal more than its component: its cumulative probability, cut at the sums of the weights,
picks the component. So a mixture's draws can be fixed and quasi-random like those of any family. The density is the
exact one of the mixture, never that of the component a draw came from.

Weights have no gradient along the path of a draw: which component it comes from jumps. The engine fits components at
equal weights and then finds the weights that are best for the ELBO (`engine/mixing.py`).
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Float

from posterion._typing import Array, Key, PyTree
from posterion.errors import OptionError
from posterion.families.base import AbstractFamily
from posterion.families.mean_field import MeanField
from posterion.target.layout import Layout

_STARTING_SPREAD = 0.5
"""How far components start apart, in their own scales: equal ones would stay equal for long."""


@dataclass(frozen=True)
class Mixture(AbstractFamily):
    """A weighted sum of ``components`` distributions of one family.

    Each component comes from a starting point of its own; all are then fitted together, and weighted by what is best
    for the ELBO. With ``restarts=k`` the best ``components`` of k starting points are kept.

    Parameters
    ----------
    components
        How many.
    family
        Of each of them.

    Raises
    ------
    OptionError
        If ``components`` is not a whole number from 1 on, or ``family`` is no family.

    References
    ----------
    Morningstar, Vikram, Ham, Gallagher, Dillon (2021), Automatic Differentiation Variational Inference with Mixtures,
    AISTATS.
    """

    components: int
    family: AbstractFamily = field(default_factory=MeanField)

    def __post_init__(self) -> None:
        if isinstance(self.components, bool) or not isinstance(self.components, int) or self.components < 1:
            raise OptionError(f"components must be a whole number from 1 on, not {self.components!r}")
        if not isinstance(self.family, AbstractFamily):
            raise OptionError(f"family must be one of Posterion's families, e.g. MeanField(), not {self.family!r}")

    @property
    def linear(self) -> bool:
        return self.family.linear

    @property
    def rough(self) -> bool:
        return self.family.rough

    def largest_step(self, layout: Layout) -> float:
        return self.family.largest_step(layout)

    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> PyTree:
        location = jnp.asarray(location)
        apart, inner = jax.random.split(key)
        offsets = _STARTING_SPREAD * jax.random.normal(apart, (self.components, location.size), location.dtype)
        offsets = scale * (offsets - offsets.mean(axis=0))
        make = lambda at, key: self.family.init(layout, at, key, scale)
        stacked = jax.vmap(make)(location + offsets, jax.random.split(inner, self.components))
        return {"components": stacked, "log_weights": jnp.zeros(self.components, location.dtype)}

    def noise(self, layout: Layout, key: Key, num_draws: int) -> PyTree:
        which, inner = jax.random.split(key)
        return {"inner": self.family.noise(layout, inner, num_draws), "which": jax.random.normal(which, (num_draws,))}

    def transport(self, layout: Layout, params: PyTree, noise: PyTree) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        reached = jnp.cumsum(jax.nn.softmax(params["log_weights"]))[:-1]
        which = jnp.sum(jax.scipy.special.ndtr(noise["which"]) > reached)
        chosen = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, which, keepdims=False), params["components"])
        z, _ = self.family.transport(layout, chosen, noise["inner"])
        return z, self.log_prob(layout, params, z)

    def log_prob(self, layout: Layout, params: PyTree, z: Float[Array, " dim"]) -> Float[Array, ""]:
        each = jax.vmap(lambda component: self.family.log_prob(layout, component, z))(params["components"])
        return logsumexp(jax.nn.log_softmax(params["log_weights"]) + each)

    def affine(
        self,
        layout: Layout,
        params: PyTree,
        shift: Float[Array, " dim"],
        scale: Float[Array, " dim"] | Float[Array, "dim dim"],
    ) -> PyTree:
        moved = jax.vmap(lambda component: self.family.affine(layout, component, shift, scale))(params["components"])
        return {"components": moved, "log_weights": params["log_weights"]}
