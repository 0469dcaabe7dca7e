"""Likelihoods: a NumPyro distribution of the outcome given the network's output, with what else is learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist
from numpyro.distributions import Distribution
from numpyro.distributions.transforms import OrderedTransform

from posterion._typing import Array
from posterion.errors import OptionError

Learned = Mapping[str, Distribution]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """How outcomes are distributed given the output of a network.

    Parameters
    ----------
    distribution
        ``(output, **learned) -> NumPyro distribution`` of all outcomes, rows first. The output arrives in the shape of
        the outcomes, with ``columns`` on one more axis if there are several.
    learned
        Priors of what else the distribution takes (a noise, a dispersion), by name; or a function of the observed
        outcomes that gives them, for shapes that depend on those.
    columns
        Output columns per outcome; None passes the output as it is (one column per class).

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> known_noise = Likelihood(lambda output: dist.Normal(output, 0.1))
    >>> laplace = Likelihood(lambda output, b: dist.Laplace(output, b), learned={"b": dist.HalfNormal(1.0)})
    """

    distribution: Callable[..., Distribution]
    learned: Learned | Callable[[np.ndarray], Learned] | None = None
    columns: int | None = 1

    def learned_for(self, outcomes: np.ndarray) -> Learned:
        """The priors of what is learned, for these outcomes."""
        given = self.learned(outcomes) if callable(self.learned) else self.learned or {}
        for name, prior in given.items():
            if not isinstance(prior, Distribution) or prior.support is None or prior.support.is_discrete:
                raise OptionError(
                    f"the prior of {name!r} in a likelihood must be a continuous NumPyro distribution, not {prior!r}"
                )
        return dict(given)

    def given(self, output: Array, shape: tuple[int, ...], learned: Mapping[str, Array]) -> Distribution:
        """The distribution of outcomes of a shape.

        Raises
        ------
        OptionError
            If output and outcomes do not fit each other.
        """
        if self.columns is not None:
            wanted = shape if self.columns == 1 else (*shape, self.columns)
            if output.size != np.prod(wanted, dtype=int) or output.shape[:1] != shape[:1]:
                per = "one number" if self.columns == 1 else f"{self.columns} numbers"
                raise OptionError(
                    f"the network's output has shape {output.shape}, and this likelihood needs {per} per outcome: "
                    f"{wanted} for outcomes of shape {shape}"
                )
            output = output.reshape(wanted)
        found = self.distribution(output, **learned)
        if not isinstance(found, Distribution):
            raise OptionError(f"a likelihood must return a NumPyro distribution, not {type(found).__name__}")
        if found.shape() != shape:
            raise OptionError(
                f"the likelihood is a distribution of shape {found.shape()} and the outcomes have shape {shape}; the "
                f"network's output has shape {output.shape}"
            )
        return found


def _noise() -> Learned:
    return {"noise": dist.LogNormal(-1.0, 1.0)}


def _softplus(x: Array) -> Array:
    return jax.nn.softplus(x) + 1e-4  # a scale of zero has no density


def _cutpoints(outcomes: np.ndarray) -> Learned:
    classes = int(np.max(outcomes)) + 1
    if classes < 3:
        raise OptionError(f"ordinal outcomes need at least three levels, 0, 1, 2, ...; there are {classes}")
    # The first cut, then the logarithms of the gaps.
    centre = jnp.concatenate([jnp.full(1, -(classes - 2) / 2.0), jnp.zeros(classes - 2)])
    return {"cutpoints": dist.TransformedDistribution(dist.Normal(centre, 1.5).to_event(1), OrderedTransform())}


_NAMED: dict[str, Likelihood] = {
    "normal": Likelihood(lambda output, noise: dist.Normal(output, noise), _noise()),
    "heteroscedastic": Likelihood(lambda output: dist.Normal(output[..., 0], _softplus(output[..., 1])), columns=2),
    "student_t": Likelihood(
        lambda output, noise, tail: dist.StudentT(2.0 + tail, output, noise),
        {**_noise(), "tail": dist.Gamma(2.0, 0.1)},  # two degrees of freedom and more: there is a variance
    ),
    "bernoulli": Likelihood(lambda output: dist.BernoulliLogits(output)),
    "categorical": Likelihood(lambda output: dist.CategoricalLogits(output), columns=None),
    "poisson": Likelihood(lambda output: dist.Poisson(jnp.exp(output))),
    "negative_binomial": Likelihood(
        lambda output, concentration: dist.NegativeBinomial2(jnp.exp(output), concentration),
        {"concentration": dist.LogNormal(1.0, 1.0)},
    ),
    "ordinal": Likelihood(lambda output, cutpoints: dist.OrderedLogistic(output, cutpoints), _cutpoints),
}


def likelihood_of(given: Any) -> Likelihood:
    """A likelihood from a name, a `Likelihood`, or a function of the output alone.

    Raises
    ------
    OptionError
        For anything else; the message lists the names.
    """
    if isinstance(given, Likelihood):
        return given
    if isinstance(given, str) and given in _NAMED:
        return _NAMED[given]
    if callable(given) and not isinstance(given, Distribution):
        return Likelihood(given)  # pyright: ignore[reportArgumentType] - what it returns is checked when it does
    names = ", ".join(map(repr, _NAMED))
    raise OptionError(
        f"likelihood={given!r} is not known: expected one of {names}, a function from the output to a NumPyro "
        "distribution, Likelihood(...), or a dict of these by outcome for a network of several heads"
    )
