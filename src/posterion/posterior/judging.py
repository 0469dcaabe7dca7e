"""A posterior judged with its model at hand: fresh draws, importance ratios, gradients, and draws picked by them."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from posterion.diagnostics.corrections import Corrections, correct, pick
from posterion.diagnostics.score_regression import LARGEST, local_gaussian
from posterion.diagnostics.verdict import Verdict, with_corrections, with_scores
from posterion.errors import UnsupportedModelError
from posterion.families import AbstractEmpirical
from posterion.posterior.datatree import constrained_draws
from posterion.posterior.importance import WeightedDraws, affordable_draws, weighted_draws

if TYPE_CHECKING:
    from posterion.posterior.posterior import Posterior

_DRAWS = 4096
"""Fresh draws that corrections are made of."""


def whole_verdict(posterior: "Posterior", quick: Verdict) -> Verdict:
    """The quick verdict with what importance weights and gradients add to it, where they can be had."""
    no_numbers = not np.all(np.isfinite([quick.elbo, quick.khat]))
    corrected_already = isinstance(posterior.family, AbstractEmpirical)
    if posterior.record.is_network or not posterior.has_data or no_numbers or corrected_already:
        return quick
    verdict, draws = with_corrections(quick, posterior.corrections), posterior.verdict_draws
    if draws.scores is None:
        return verdict
    gaussian = local_gaussian(draws.z, draws.scores, posterior.layout.entry_names())
    return verdict if gaussian is None else with_scores(verdict, gaussian)


def verdict_draws(posterior: "Posterior") -> WeightedDraws:
    """The draws the verdict rests on."""
    draws = affordable_draws(posterior.target, _DRAWS)
    return _weighted(posterior, draws, "verdict", None, with_scores=posterior.layout.size <= LARGEST)


def corrections(posterior: "Posterior") -> Corrections:
    """Means and sds of the free variables on their own scale, weighted."""
    found = posterior.verdict_draws
    free = [variable.name for variable in posterior.layout.variables]
    values = constrained_draws(posterior.target, found.z, posterior.fitted_data, x64=posterior.record.x64, names=free)
    return correct(values, found.log_weights)


def resampled(posterior: "Posterior", draws: int, random_seed: int | None) -> dict[str, np.ndarray]:
    """Draws picked by their importance weights from four times as many, by variable."""
    found = _weighted(posterior, max(4 * draws, _DRAWS), "resample", random_seed)
    places, smoothed = pick(found.log_weights, draws, int(posterior.key("resample", random_seed)[1]))
    if smoothed.khat > smoothed.threshold:
        warnings.warn(
            f"k-hat {smoothed.khat:.2f} is above {smoothed.threshold:.2f}: the resampled draws, worth "
            f"{smoothed.effective_draws:,.0f}, are nearer to the posterior than plain ones but do not cover it",
            stacklevel=4,
        )
    return constrained_draws(posterior.target, found.z[places], posterior.fitted_data, x64=posterior.record.x64)


def _weighted(
    posterior: "Posterior", draws: int, purpose: str, random_seed: int | None, *, with_scores: bool = False
) -> WeightedDraws:
    if isinstance(posterior.family, AbstractEmpirical) and posterior.log_weights.size:
        raise UnsupportedModelError("the draws have been resampled by their importance already, when they were fitted")
    if not posterior.log_weights.size:
        raise UnsupportedModelError("the approximation has no density, so its draws have no importance ratios")
    if not posterior.has_data:
        raise UnsupportedModelError(
            "importance ratios need the model's density, which a loaded posterior does not have: "
            "po.load(path, model=...) binds it to the model again"
        )
    return weighted_draws(
        posterior.target,
        posterior.family,
        posterior.params,
        posterior.fitted_data,
        draws=draws,
        seed=int(posterior.key(purpose, random_seed)[0]),
        x64=posterior.record.x64,
        with_scores=with_scores,
    )
