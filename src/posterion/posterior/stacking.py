r"""Stacking: a mixture's weights by how well its components together predict rows that none of them has seen.

.. math:: w = \arg\max_w \sum_i \log \sum_k w_k\, p_k(y_i \mid x_i)

over the simplex, with :math:`p_k` the predictive density of component k. Weights by the ELBO ask which mode holds the
posterior's mass if the model is right; where it is not, or components are copies of each other, one of them takes
all. Stacking asks what predicts best, and gives weight to components that know different things [1]_. The objective is
concave, and the update :math:`w_k \leftarrow \frac1n \sum_i w_k p_{ik} / \sum_j w_j p_{ij}` never lowers it.

References
----------
.. [1] Yao, Vehtari, Simpson and Gelman (2018), Using stacking to average Bayesian predictive distributions. Bayesian
   Analysis 13(3).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.families import Mixture
from posterion.posterior.importance import affordable_draws, weighted_draws
from posterion.posterior.judging import LEAST_ROWS, observed_name

if TYPE_CHECKING:
    from posterion.posterior.posterior import Posterior

_UPDATES = 10_000
_TOLERANCE = 1e-8
_SMALLEST_WEIGHT = 1e-6
_DRAWS = 4096


def stacking_weights(log_scores: Float[np.ndarray, "components rows"]) -> Float[np.ndarray, " components"]:
    """Weights that maximise the log score of the mixture of these predictions.

    Parameters
    ----------
    log_scores
        Log predictive density of every row under every component, in nats.
    """
    relative = np.exp(log_scores - log_scores.max(axis=0))
    weights = np.full(len(relative), 1 / len(relative))
    for _ in range(_UPDATES):
        shares = weights[:, None] * relative
        new = np.mean(shares / shares.sum(axis=0), axis=1)
        done = np.abs(new - weights).max() < _TOLERANCE
        weights = new
        if done:
            break
    return weights


def stack(
    posterior: "Posterior",
    inputs: Mapping[str, Any],
    outcomes: Any,
    *,
    name: str | None,
    draws: int,
    random_seed: int | None,
) -> "Posterior":
    """The same mixture with other weights; see `Posterior.stack`."""
    from posterion.posterior.posterior import Posterior

    mixture = posterior.family
    if not isinstance(mixture, Mixture):
        raise OptionError(
            f"only mixtures have weights, and this is a {type(mixture).__name__}: fit ADVI(family=Mixture(4)) first"
        )
    if not posterior.has_data:
        raise UnsupportedModelError("a loaded posterior cannot be weighted anew: po.load(path, model=...) binds it")
    name = observed_name(posterior.target, name)
    params = jax.device_get(posterior.params)
    scores = []
    for k in range(mixture.components):
        component = jax.tree.map(lambda leaf, k=k: leaf[k], params["components"])
        alone = Posterior(
            posterior.target, mixture.family, component, posterior.record, np.empty(0), data=posterior.fitted_data
        )
        predicted = alone.predict(inputs, draws, random_seed)
        scores.append(np.asarray(predicted.log_score(name, outcomes), np.float64))
    log_scores = np.stack(scores)
    if log_scores.shape[1] < LEAST_ROWS:
        raise DataError(f"{log_scores.shape[1]} held-out rows say too little of weights; give at least {LEAST_ROWS}")
    weights = stacking_weights(log_scores)
    logs = np.log(np.maximum(weights, _SMALLEST_WEIGHT)).astype(params["log_weights"].dtype)
    stacked = {**params, "log_weights": logs}
    note = f"components weighted by stacking on {log_scores.shape[1]:,} held-out rows: {_listed(weights)}"
    record = replace(posterior.record, notes=(*posterior.record.notes, note), weights_by_batches=False)

    def log_weights() -> np.ndarray:
        found = weighted_draws(
            posterior.target,
            mixture,
            stacked,
            posterior.fitted_data,
            draws=affordable_draws(posterior.target, _DRAWS),
            seed=int(posterior.key("verdict", None)[1]),
            x64=posterior.record.x64,
        )
        return found.log_weights

    return Posterior(posterior.target, mixture, stacked, record, log_weights, data=posterior.fitted_data)


def _listed(weights: np.ndarray) -> str:
    return ", ".join(f"{weight:.2f}" for weight in weights)
