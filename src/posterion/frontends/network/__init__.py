"""Networks of any JAX library as targets: priors on their weights, a likelihood on their output."""

from collections.abc import Mapping
from typing import Any

from posterion._typing import PyTree
from posterion.errors import DataError, OptionError
from posterion.frontends.arrays import as_numbers
from posterion.frontends.network.likelihoods import Likelihood, likelihood_of
from posterion.frontends.network.modules import weights_of
from posterion.frontends.network.priors import FanInPrior, HorseshoePrior, InformedPrior, LearnedScalePrior
from posterion.frontends.network.target import NetworkTarget

__all__ = [
    "FanInPrior",
    "HorseshoePrior",
    "InformedPrior",
    "LearnedScalePrior",
    "Likelihood",
    "network",
]

_ROWS_SEEN_AT_START = 2


def network(
    module: Any,
    *,
    data: Mapping[str, Any],
    prior: Any = None,
    likelihood: Any = "normal",
    outcome: str = "y",
    weights: PyTree = None,
    row_weight: str | None = None,
) -> NetworkTarget:
    """A network with a prior on its weights and a likelihood on its output, as a target for `fit`.

    Parameters
    ----------
    module
        A Flax module (NNX or Linen), an Equinox module (of one example, mapped over the rows), or a pair
        ``(init, apply)`` with ``init(key, *inputs) -> weights`` and ``apply(weights, *inputs) -> output``. It is not
        changed. It runs as after training: Dropout is off, and BatchNorm is refused unless it has been trained.
    data
        Arrays by name, rows first: the inputs in the order in which the network takes them, and the outcomes.
    prior
        "learned_scale" (the default: normals whose scale is learned per matrix of weights), "fan_in" (standard
        deviation 1 / sqrt(fan-in)), "horseshoe", "fixed" (no posterior: the module's own values); one of
        `LearnedScalePrior`, `FanInPrior`, `HorseshoePrior`, `InformedPrior` with options; a NumPyro distribution for
        every entry; or a dict of these by path, beginning of a path, or pattern (``{"layers.0": ..., "*.bias": ...}``),
        of which the first that fits counts.
    likelihood
        "normal" (one learned noise), "heteroscedastic" (two outputs: mean, and standard deviation before softplus),
        "student_t", "bernoulli", "categorical" (one output per class), "poisson", "negative_binomial" (outputs are
        logarithms), "ordinal"; a function from the output to a NumPyro distribution; a `Likelihood`, which may learn
        something; or a dict of these by outcome for a network of several heads, whose output is a dict or tuple.
    outcome
        Name of the outcome in ``data``, where ``likelihood`` is not a dict.
    weights
        Where a fit starts, for networks that hold no weights themselves (Linen's variables, those of a pair).
    row_weight
        Name of an entry of ``data`` that says how many rows each row counts for.

    Returns
    -------
    AbstractTarget
        For ``posterion.fit(target)``. Its variables are named by their paths in the network; what the likelihood
        learns by the outcome: ``y_noise``.

    Raises
    ------
    UnsupportedModelError
        If the module is of no kind that is known, or has something that cannot be taken over; it is named.
    OptionError
        If prior, likelihood and network do not go together.
    DataError
        If inputs and outcomes are not the same rows, or outcomes lie outside of what the likelihood can give.
    """
    heads = likelihood if isinstance(likelihood, Mapping) else {outcome: likelihood}
    likelihoods = {str(name): likelihood_of(given) for name, given in heads.items()}
    arrays = {name: as_numbers(name, value) for name, value in data.items()}
    lacking = [name for name in likelihoods if name not in arrays]
    if lacking:
        raise DataError(f"the data lack the outcomes {lacking}; they hold {sorted(arrays)}")
    if row_weight is not None and row_weight not in arrays:
        raise OptionError(f"row_weight={row_weight!r} is not in the data, which hold {sorted(arrays)}")
    flat = [name for name, array in arrays.items() if not array.ndim or not len(array)]
    if flat:
        raise DataError(f"{flat} must hold rows along their first axis")
    inputs = tuple(a for name, a in arrays.items() if name not in likelihoods and name != row_weight)
    if not inputs:
        raise DataError(f"the data hold outcomes only ({sorted(arrays)}); add the network's inputs, such as 'x'")
    found = weights_of(module, tuple(a[:_ROWS_SEEN_AT_START] for a in inputs), weights)
    return NetworkTarget(found, prior, likelihoods, arrays, row_weight)
