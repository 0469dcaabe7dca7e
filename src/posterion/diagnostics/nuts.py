r"""A short run of NUTS on any target, started from an approximation's draws.

The approximation does two things for the sampler: each chain starts at one of its draws, and the sampler moves in the
coordinates in which the approximation is standard normal, :math:`z = m + L u` with L Lᵀ the covariance of its draws.
What those coordinates get wrong the sampler's own adaptation mends. One path for every target: NumPyro's NUTS on the
log density over one flat vector.

References
----------
.. [1] Hoffman and Gelman (2014), The No-U-Turn sampler. JMLR 15.
.. [2] Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization: an
   improved R-hat. Bayesian Analysis 16.
"""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Data
from posterion.compilation.cache import persistent_cache
from posterion.compilation.minor_axis import batch_minor
from posterion.target import AbstractTarget

_DENSE = 60
"""Dimensions up to which the sampler adapts a full mass matrix."""


@dataclass(frozen=True, eq=False)
class NutsRun:
    """Draws of NUTS in unconstrained space, and what the sampler said.

    Parameters
    ----------
    z
        Draws by chain.
    divergences
        Transitions after the warm-up that diverged: any of them casts doubt on the run itself.
    seconds
        Wall time, compilation included.
    """

    z: Float[np.ndarray, "chains draws dim"]
    divergences: int
    seconds: float


def run_nuts(
    target: AbstractTarget,
    data: Data,
    starts: Float[np.ndarray, "starts dim"],
    *,
    draws: int,
    warmup: int,
    chains: int,
    seed: int,
    x64: bool,
) -> NutsRun:
    """Sample the target's posterior.

    Parameters
    ----------
    target, data
        What is sampled.
    starts
        Draws of an approximation, at least as many as chains; their covariance scales the coordinates.
    draws, warmup, chains
        Kept draws per chain, draws before them, and chains, which run one after the other.
    seed
        Of the sampler.
    x64
        Whether to compute in double precision.
    """
    import numpyro
    from numpyro.distributions import ImproperUniform, constraints
    from numpyro.infer import MCMC, NUTS

    location, factor = _coordinates(starts)
    dim = starts.shape[1]
    begin = time.perf_counter()
    with jax.enable_x64(x64), persistent_cache():
        dtype = jnp.result_type(float)
        density = batch_minor(target.log_density)

        def model(data: Data, location: Any, factor: Any) -> None:
            u = numpyro.sample("u", ImproperUniform(constraints.real_vector, (), (dim,)))
            numpyro.factor("log density", density(location + (factor @ u if factor.ndim == 2 else factor * u), data))

        kernel = NUTS(model, dense_mass=dim <= _DENSE)
        sampler = MCMC(
            kernel,
            num_warmup=warmup,
            num_samples=draws,
            num_chains=chains,
            chain_method="sequential",
            progress_bar=False,
            jit_model_args=True,
        )
        places = np.random.default_rng(seed).choice(len(starts), size=chains, replace=False)
        centred = starts[places] - location
        initial = np.linalg.solve(factor, centred.T).T if factor.ndim == 2 else centred / factor
        first = initial.astype(dtype)
        sampler.run(
            jax.random.key(seed),
            target.as_arrays(data),
            location.astype(dtype),
            factor.astype(dtype),
            init_params={"u": first if chains > 1 else first[0]},
            extra_fields=("diverging",),
        )
        u = np.asarray(sampler.get_samples(group_by_chain=True)["u"], np.float64)
        divergences = int(np.sum(np.asarray(sampler.get_extra_fields()["diverging"])))
    z = location + (u @ factor.T if factor.ndim == 2 else u * factor)
    return NutsRun(z, divergences, time.perf_counter() - begin)


def _coordinates(starts: Float[np.ndarray, "starts dim"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and a factor of the covariance of the draws; standard deviations alone where draws are too few."""
    location, spread = starts.mean(axis=0), starts.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    draws, dim = starts.shape
    if not 1 < dim <= _DENSE or draws < 10 * dim:
        return location, spread
    try:
        return location, spread[:, None] * np.linalg.cholesky(np.cov(((starts - location) / spread).T))
    except np.linalg.LinAlgError:
        return location, spread
