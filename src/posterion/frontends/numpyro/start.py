"""Where a fit of a NumPyro model starts: at one of NumPyro's own strategies, or in the middle of the priors.

The middle of a prior is its mean, for heavy tails its location or median, carried through the transformations of the
distribution; zero in unconstrained space where NumPyro knows none. It may depend on the variables before it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from numpyro import distributions as dist
from numpyro.distributions import Distribution

from posterion._typing import Array, Data, Key
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.run import Setting, is_latent, run, transform_of

Strategy = Callable[..., Any]
"""``numpyro.infer.init_to_uniform`` and its like, with or without options."""

_NO_MEAN = (NotImplementedError, AttributeError, TypeError, ValueError, ImportError)


def starting_values(call: Call, data: Data, key: Key, setting: Setting, strategy: Strategy | None) -> dict[str, Array]:
    """Values of all latent sites in unconstrained space.

    Parameters
    ----------
    call, data, setting
        The model and how it is run.
    key
        For strategies that draw.
    strategy
        One of NumPyro's, or None for the middle of the priors.
    """
    choose = _middle if strategy is None else _with_options(strategy)
    traced = run(call, data, choose, setting, key=key, keys_inside=strategy is not None)
    latent = {name: site for name, site in traced.of_type("sample").items() if is_latent(site)}
    return {name: _freed(site) for name, site in latent.items() if not site["fn"].support.is_discrete}


def _with_options(strategy: Strategy) -> Strategy:
    """NumPyro's strategies come as functions of a site, or of options that give such a function."""
    if hasattr(strategy, "func"):
        return strategy
    try:
        chosen = strategy()
    except TypeError:
        return strategy
    return chosen if callable(chosen) else strategy


def _middle(site: Mapping[str, Any]) -> Array | None:
    if not is_latent(site) or site["value"] is not None or site["fn"].support.is_discrete:
        return None
    shape = tuple(site["kwargs"].get("sample_shape", ())) + site["fn"].shape()
    transform = transform_of(site)
    zeros = jnp.zeros(transform.inverse_shape(shape))
    centre = _centre(site["fn"])
    if centre is None:
        return transform(zeros)
    free = transform.inv(jnp.broadcast_to(jnp.asarray(centre, zeros.dtype), shape))
    return transform(jnp.where(jnp.isfinite(free), free, zeros))


def _freed(site: Mapping[str, Any]) -> Array:
    """Not finite only at the edge of the support, which any start must leave."""
    free = transform_of(site).inv(site["value"])
    return jnp.where(jnp.isfinite(free), free, 0.0)


def _centre(distribution: Distribution) -> Any:
    if isinstance(distribution, dist.ExpandedDistribution | dist.Independent | dist.MaskedDistribution):
        inner = _centre(distribution.base_dist)
        return inner if inner is None else jnp.broadcast_to(inner, distribution.shape())
    if isinstance(distribution, dist.Cauchy | dist.StudentT | dist.Gumbel):
        return distribution.loc
    if isinstance(distribution, dist.HalfCauchy):
        return distribution.scale
    if isinstance(distribution, dist.TransformedDistribution):
        value = _centre(distribution.base_dist)
        if value is not None:
            for transform in distribution.transforms:
                value = transform(value)
            return value
    try:
        return distribution.mean
    except _NO_MEAN:
        return None
