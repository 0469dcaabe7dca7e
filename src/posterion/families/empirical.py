r"""Families on finitely many points: one point, or a set of equally likely ones.

.. math:: q(z) = \frac1K \sum_k \delta(z - z_k)

They have draws and no density, so neither an ELBO nor importance ratios exist for them, and no method that needs
log q can fit them. The type says so: `AbstractEmpirical`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float

from posterion._typing import Array, Key
from posterion.errors import OptionError
from posterion.families.base import AbstractFamily
from posterion.target.layout import Layout


@dataclass(frozen=True)
class AbstractEmpirical(AbstractFamily):
    """A family without a density: its members are finite sets of points."""

    def log_prob(self, layout: Layout, params: Float[Array, "points dim"], z: Float[Array, " dim"]) -> Float[Array, ""]:
        raise OptionError(f"{type(self).__name__} has draws and no density; a Gaussian family has both")

    def affine(
        self,
        layout: Layout,
        params: Float[Array, "points dim"],
        shift: Float[Array, " dim"],
        scale: Float[Array, " dim"],
    ) -> Float[Array, "points dim"]:
        return shift + scale * params


@dataclass(frozen=True)
class Point(AbstractEmpirical):
    """One point: every draw is the same. What `MAP` finds."""

    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> Float[Array, "1 dim"]:
        return jnp.asarray(location)[None]

    def noise(self, layout: Layout, key: Key, num_draws: int) -> Float[Array, "draws 0"]:
        return jnp.zeros((num_draws, 0))

    def transport(
        self, layout: Layout, params: Float[Array, "1 dim"], noise: Float[Array, " 0"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        return params[0], jnp.full((), jnp.nan, params.dtype)


@dataclass(frozen=True)
class Particles(AbstractEmpirical):
    """Equally likely points, from which draws are taken at random.

    `sample` goes through all of them in random order before any comes a second time, so that as many draws as there
    are points have the points' own moments.

    Parameters
    ----------
    count
        How many points.

    Raises
    ------
    OptionError
        If ``count`` is not a positive whole number.
    """

    count: int

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise OptionError(f"count must be a whole number from 1 on, not {self.count!r}")

    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> Float[Array, "points dim"]:
        location = jnp.asarray(location)
        return location + scale * jax.random.normal(key, (self.count, location.size), location.dtype)

    def noise(self, layout: Layout, key: Key, num_draws: int) -> Float[Array, "draws 1"]:
        return jax.random.normal(key, (num_draws, 1))  # of a normal, as for all families, so that noise can be fixed

    def transport(
        self, layout: Layout, params: Float[Array, "points dim"], noise: Float[Array, " 1"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        share = jax.scipy.special.ndtr(noise[0])
        which = jnp.minimum((share * self.count).astype(jnp.int32), self.count - 1)
        return params[which], jnp.full((), jnp.nan, params.dtype)

    def sample(
        self, layout: Layout, params: Float[Array, "points dim"], key: Key, num_draws: int
    ) -> Float[Array, "draws dim"]:
        keys = jax.random.split(key, -(-num_draws // self.count))
        order = jax.vmap(lambda one: jax.random.permutation(one, self.count))(keys).ravel()[:num_draws]
        return params[order]
