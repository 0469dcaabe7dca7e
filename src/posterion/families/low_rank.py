r"""The low-rank Gaussian: independent normals plus a few directions along which everything moves together.

.. math:: z = \mu + e^{\rho} \circ (\epsilon + B \eta / \sqrt r), \qquad
          \mathrm{Cov}(z) = S\,(I + B B^\top / r)\,S, \quad S = \mathrm{diag}(e^{\rho})

with :math:`\epsilon \in R^D` and :math:`\eta \in R^r` standard normal. The density needs no matrix of size D: by
Woodbury's identity and the determinant lemma it takes the Cholesky factor of :math:`I + B^\top B / r`, of size r.

B starts small and not zero. At B = 0 a draw does not depend on :math:`\eta`, so the expected gradient with respect to B
is exactly zero: a saddle that only noise leaves.

Parameters are one array of shape (rank + 2, dim): location, log scales, and the columns of B.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from posterion._typing import Array, ArrayLike, Key
from posterion.errors import OptionError
from posterion.families.base import AbstractDiagonalPlus
from posterion.target.layout import Layout

_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
_STARTING_FACTOR = 0.1


@dataclass(frozen=True)
class LowRank(AbstractDiagonalPlus):
    """A normal distribution whose covariance is a diagonal plus a matrix of low rank.

    Time and memory grow with ``rank * dim``: the family for correlations in thousands of dimensions.

    Parameters
    ----------
    rank
        Number of common directions. From the dimension on, `FullRank` is cheaper and as good.

    Raises
    ------
    OptionError
        If ``rank`` is not a whole number from 1 on.

    References
    ----------
    Ong, Nott, Smith (2018), Gaussian Variational Approximation with a Factor Covariance Structure, Journal of
    Computational and Graphical Statistics 27(3), section 2.
    """

    rank: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise OptionError(f"rank must be a whole number from 1 on, not {self.rank!r}")

    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> Float[Array, "rows dim"]:
        location = jnp.asarray(location)
        log_scale = jnp.broadcast_to(jnp.log(jnp.asarray(scale, location.dtype)), location.shape)
        factor = _STARTING_FACTOR * jax.random.normal(key, (self.rank, location.size), location.dtype)
        return jnp.concatenate([location[None], log_scale[None], factor])

    def noise(self, layout: Layout, key: Key, num_draws: int) -> Float[Array, "draws values"]:
        return jax.random.normal(key, (num_draws, layout.size + self.rank))

    def transport(
        self, layout: Layout, params: Float[Array, "rows dim"], noise: Float[Array, " values"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        location, log_scale, factor = self._parts(params)
        standardised = noise[: layout.size] + noise[layout.size :] @ factor
        return location + jnp.exp(log_scale) * standardised, self._log_density(log_scale, factor, standardised)

    def log_prob(self, layout: Layout, params: Float[Array, "rows dim"], z: Float[Array, " dim"]) -> Float[Array, ""]:
        location, log_scale, factor = self._parts(params)
        return self._log_density(log_scale, factor, (z - location) * jnp.exp(-log_scale))

    def affine(
        self,
        layout: Layout,
        params: Float[Array, "rows dim"],
        shift: Float[Array, " dim"],
        scale: Float[Array, " dim"],
    ) -> Float[Array, "rows dim"]:
        return params.at[0].set(shift + scale * params[0]).at[1].add(jnp.log(scale))

    def mean(self, params: Float[ArrayLike, "rows dim"]) -> Float[ArrayLike, " dim"]:
        return params[0]

    def standard_deviations(self, params: Float[ArrayLike, "rows dim"]) -> Float[ArrayLike, " dim"]:
        _, log_scale, factor = self._parts(params)
        xp = params.__array_namespace__()
        return xp.exp(log_scale) * xp.sqrt(1 + xp.sum(factor**2, axis=0))

    def covariance(self, params: Float[ArrayLike, "rows dim"]) -> Float[ArrayLike, "dim dim"]:
        _, log_scale, factor = self._parts(params)
        xp = params.__array_namespace__()
        scale = xp.exp(log_scale)
        return scale[:, None] * (xp.eye(scale.size, dtype=scale.dtype) + factor.T @ factor) * scale

    @property
    def num_common(self) -> int:
        return self.rank

    def given_common(
        self, params: Float[Array, "rows dim"], common: Float[Array, " common"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        location, log_scale, factor = self._parts(params)
        return location + jnp.exp(log_scale) * (common @ factor), log_scale

    def entropy(self, params: Float[Array, "rows dim"]) -> Float[Array, ""]:
        _, log_scale, factor = self._parts(params)
        log_volume = jnp.sum(log_scale) + jnp.sum(jnp.log(jnp.diagonal(self._cholesky(factor))))
        return log_volume + params.shape[1] * (0.5 + _LOG_ROOT_TWO_PI)

    def _cholesky(self, factor: Float[Array, "rank dim"]) -> Float[Array, "rank rank"]:
        return jnp.linalg.cholesky(jnp.eye(self.rank, dtype=factor.dtype) + factor @ factor.T)

    def _parts(self, params: Float[ArrayLike, "rows dim"]) -> tuple[Any, Any, Any]:
        """Location, log scales and factor (rank, dim), arrays of the same kind as ``params``."""
        return params[0], params[1], params[2:] / math.sqrt(self.rank)

    def _log_density(
        self,
        log_scale: Float[Array, " dim"],
        factor: Float[Array, "rank dim"],
        standardised: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """Of ``standardised`` under N(0, I + factor' factor), and the scales' volume."""
        cholesky = self._cholesky(factor)
        projected = jax.scipy.linalg.solve_triangular(cholesky, factor @ standardised, lower=True)
        square = jnp.sum(standardised**2) - jnp.sum(projected**2)
        log_volume = jnp.sum(log_scale) + jnp.sum(jnp.log(jnp.diagonal(cholesky)))
        return -0.5 * square - log_volume - standardised.size * _LOG_ROOT_TWO_PI
