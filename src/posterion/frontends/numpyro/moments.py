"""What kind of thing an observed site is, and its mean and variance where NumPyro's distributions know them."""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from numpyro import distributions as dist
from numpyro.distributions import Distribution, constraints

from posterion._typing import Array
from posterion.target import Moments

Kind = Literal["binary", "categorical", "numeric"]

_CATEGORICAL = (dist.CategoricalProbs, dist.CategoricalLogits)  # ordered and zero-sum forms are among them
_WITHOUT_MOMENTS = (
    *(dist.Cauchy, dist.HalfCauchy, dist.Levy),  # NumPyro says NaN or infinity, which no summary can use
    *(dist.VonMises, dist.SineBivariateVonMises, dist.SineSkewed, dist.ProjectedNormal),  # moments on the circle
)
_WRAPPERS = (dist.ExpandedDistribution, dist.Independent, dist.MaskedDistribution)


def inner(distribution: Distribution) -> Distribution:
    """The distribution under those that only reshape or mask it."""
    while isinstance(distribution, _WRAPPERS):
        distribution = distribution.base_dist
    return distribution


def kind_of(distribution: Distribution) -> tuple[Kind, int]:
    """The kind of an observed variable, and the number of classes of a categorical one (else 0)."""
    core = inner(distribution)
    if isinstance(core, _CATEGORICAL):
        return "categorical", _probabilities(core).shape[-1]
    support = distribution.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return ("binary", 0) if support is constraints.boolean else ("numeric", 0)


def moments_of(site: Mapping[str, Any], shape: tuple[int, ...]) -> Moments | None:
    """Mean and variance of an observed site in closed form, or None.

    Parameters
    ----------
    site
        As NumPyro's trace has it.
    shape
        Of the site's value. A categorical site's moments have the classes on one more axis.
    """
    core = inner(site["fn"])
    if isinstance(core, _WITHOUT_MOMENTS):
        return None
    if isinstance(core, _CATEGORICAL):
        probabilities = _probabilities(core)
        mean = jnp.broadcast_to(probabilities, (*shape, probabilities.shape[-1]))
        return Moments(mean, mean * (1 - mean))
    try:
        mean, variance = site["fn"].mean, site["fn"].variance
    except (NotImplementedError, AttributeError, TypeError, ValueError, ImportError):  # not all distributions have them
        return None
    return Moments(_as_float(mean, shape), _as_float(variance, shape))


def _probabilities(distribution: Any) -> Array:
    return jnp.asarray(distribution.probs)


def _as_float(values: Any, shape: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(jnp.asarray(values, jnp.result_type(float)), shape)
