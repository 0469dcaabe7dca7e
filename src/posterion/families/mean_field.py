r"""The mean-field Gaussian: independent normals, one per entry of ``z``.

.. math:: q(z) = \prod_d \mathcal N(z_d;\, \mu_d,\, \exp(\rho_d)^2)

Parameters are one array of shape (2, dim), locations above log scales: packed, because one array of moments in the
optimiser costs half of what a tree of arrays does.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float

from posterion._typing import Array, ArrayLike, Key
from posterion.families.base import AbstractDiagonalPlus
from posterion.target.layout import Layout

_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class MeanField(AbstractDiagonalPlus):
    """Independent normals, one per entry of ``z``.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference, JMLR 18(14), eq. 4.
    """

    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> Float[Array, "2 dim"]:
        location = jnp.asarray(location)
        return jnp.stack([location, jnp.broadcast_to(jnp.log(jnp.asarray(scale, location.dtype)), location.shape)])

    def noise(self, layout: Layout, key: Key, num_draws: int) -> Float[Array, "draws dim"]:
        return jax.random.normal(key, (num_draws, layout.size))

    def transport(
        self, layout: Layout, params: Float[Array, "2 dim"], noise: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        location, log_scale = params
        log_q = -0.5 * jnp.sum(noise**2) - jnp.sum(log_scale) - layout.size * _LOG_ROOT_TWO_PI
        return location + jnp.exp(log_scale) * noise, log_q

    def log_prob(self, layout: Layout, params: Float[Array, "2 dim"], z: Float[Array, " dim"]) -> Float[Array, ""]:
        location, log_scale = params
        standardised = (z - location) * jnp.exp(-log_scale)
        return -0.5 * jnp.sum(standardised**2) - jnp.sum(log_scale) - layout.size * _LOG_ROOT_TWO_PI

    def affine(
        self,
        layout: Layout,
        params: Float[Array, "2 dim"],
        shift: Float[Array, " dim"],
        scale: Float[Array, " dim"],
    ) -> Float[Array, "2 dim"]:
        location, log_scale = params
        return jnp.stack([shift + scale * location, log_scale + jnp.log(scale)])

    def mean(self, params: Float[ArrayLike, "2 dim"]) -> Float[ArrayLike, " dim"]:
        return params[0]

    def standard_deviations(self, params: Float[ArrayLike, "2 dim"]) -> Float[ArrayLike, " dim"]:
        return params.__array_namespace__().exp(params[1])

    def covariance(self, params: Float[ArrayLike, "2 dim"]) -> Float[ArrayLike, "dim dim"]:
        xp = params.__array_namespace__()
        return xp.diag(xp.exp(2 * params[1]))

    @property
    def num_common(self) -> int:
        return 0

    def given_common(
        self, params: Float[Array, "2 dim"], common: Float[Array, " common"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        return params[0], params[1]

    def entropy(self, params: Float[Array, "2 dim"]) -> Float[Array, ""]:
        return jnp.sum(params[1]) + params.shape[1] * (0.5 + _LOG_ROOT_TWO_PI)
