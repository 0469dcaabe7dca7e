r"""The full-rank Gaussian: every pair of entries of ``z`` may be correlated.

.. math:: z = \mu + L \epsilon, \qquad
          L = \mathrm{diag}(e^{\rho})\,\bigl(I + \mathrm{tril}(B, -1) / \sqrt D\bigr)

The off-diagonal entries are relative to their row's scale and divided by :math:`\sqrt D`: a row has up to D of them, so
that one step of the optimiser, which moves every parameter by about the same amount, moves ``z`` by about the same
through them all together as through the location. Without it the step size would have to fall with the dimension.

Parameters are one array of shape (dim + 1, dim): the location above a matrix with :math:`\rho` on its diagonal and B
below it. What is above the diagonal is not used and stays zero.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from posterion._typing import Array, ArrayLike, Key
from posterion.families.base import AbstractGaussian
from posterion.target.layout import Layout

_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class FullRank(AbstractGaussian):
    """A normal distribution with a full covariance matrix, by its Cholesky factor.

    Parameters and time of a step grow with the square of the dimension: for up to some hundred dimensions.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference, JMLR 18(14), eq. 5.
    """

    @property
    def linear(self) -> bool:
        return True

    def largest_step(self, layout: Layout) -> float:
        # Measured on networks: 0.01 to 0.03 are best for 40 dimensions, 0.03 for 242, where 0.1 diverges.
        return 0.1 / math.sqrt(1 + layout.size / 10)

    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> Float[Array, "rows dim"]:
        location = jnp.asarray(location)
        log_scale = jnp.broadcast_to(jnp.log(jnp.asarray(scale, location.dtype)), location.shape)
        return jnp.concatenate([location[None], jnp.diag(log_scale)])

    def from_cholesky(
        self, location: Float[ArrayLike, " dim"], cholesky: Float[ArrayLike, "dim dim"]
    ) -> Float[ArrayLike, "rows dim"]:
        """Parameters of the normal distribution with this mean and this lower-triangular factor of its covariance."""
        xp = cholesky.__array_namespace__()
        diagonal = xp.diagonal(cholesky)
        below = xp.tril(cholesky / diagonal[:, None], -1) * math.sqrt(len(location))
        return xp.concatenate([location[None], below + xp.diag(xp.log(diagonal))])

    def cholesky(self, params: Float[ArrayLike, "rows dim"]) -> Float[ArrayLike, "dim dim"]:
        """The lower-triangular factor of the covariance."""
        xp = params.__array_namespace__()
        scale = xp.exp(xp.diagonal(params[1:]))
        return scale[:, None] * self._unit_factor(params)

    def noise(self, layout: Layout, key: Key, num_draws: int) -> Float[Array, "draws dim"]:
        return jax.random.normal(key, (num_draws, layout.size))

    def transport(
        self, layout: Layout, params: Float[Array, "rows dim"], noise: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        log_scale = jnp.diagonal(params[1:])
        z = params[0] + jnp.exp(log_scale) * (self._unit_factor(params) @ noise)
        return z, _log_normal(noise) - jnp.sum(log_scale)

    def log_prob(self, layout: Layout, params: Float[Array, "rows dim"], z: Float[Array, " dim"]) -> Float[Array, ""]:
        log_scale = jnp.diagonal(params[1:])
        standardised = (z - params[0]) * jnp.exp(-log_scale)
        noise = jax.scipy.linalg.solve_triangular(
            self._unit_factor(params), standardised, lower=True, unit_diagonal=True
        )
        return _log_normal(noise) - jnp.sum(log_scale)

    def affine(
        self,
        layout: Layout,
        params: Float[Array, "rows dim"],
        shift: Float[Array, " dim"],
        scale: Float[Array, " dim"] | Float[Array, "dim dim"],
    ) -> Float[Array, "rows dim"]:
        if scale.ndim == 2:
            return jnp.asarray(self.from_cholesky(shift + scale @ params[0], scale @ self.cholesky(params)))
        moved = params.at[0].set(shift + scale * params[0])
        return moved.at[1:].add(jnp.diag(jnp.log(scale)))

    def mean(self, params: Float[ArrayLike, "rows dim"]) -> Float[ArrayLike, " dim"]:
        return params[0]

    def standard_deviations(self, params: Float[ArrayLike, "rows dim"]) -> Float[ArrayLike, " dim"]:
        xp = params.__array_namespace__()
        return xp.sqrt(xp.sum(self.cholesky(params) ** 2, axis=1))

    def covariance(self, params: Float[ArrayLike, "rows dim"]) -> Float[ArrayLike, "dim dim"]:
        factor = self.cholesky(params)
        return factor @ factor.T

    def _unit_factor(self, params: Float[ArrayLike, "rows dim"]) -> Any:
        xp, dim = params.__array_namespace__(), params.shape[1]
        return xp.tril(params[1:], -1) / math.sqrt(dim) + xp.eye(dim, dtype=params.dtype)


def _log_normal(noise: Float[Array, " dim"]) -> Float[Array, ""]:
    return -0.5 * jnp.sum(noise**2) - noise.size * _LOG_ROOT_TWO_PI
