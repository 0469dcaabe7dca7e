"""A posterior judged with its model at hand: fresh draws, importance ratios, gradients, and draws picked by them."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from posterion._typing import Array, Data
from posterion.compilation.cache import Program
from posterion.diagnostics.collapse import Collapse, collapse
from posterion.diagnostics.corrections import Corrections, correct, pick
from posterion.diagnostics.psis import MINIMUM_DRAWS, pareto_smooth, told_apart
from posterion.diagnostics.score_regression import LARGEST, local_gaussian
from posterion.diagnostics.verdict import (
    Verdict,
    null_scores,
    with_collapse,
    with_corrections,
    with_held_out,
    with_scores,
)
from posterion.errors import NOTHING_OBSERVED, DataError, OptionError, UnsupportedModelError
from posterion.families import AbstractEmpirical, AbstractGaussian
from posterion.posterior.datatree import constrained_draws
from posterion.posterior.importance import WeightedDraws, affordable_draws, weighted_draws
from posterion.target import AbstractRowTarget, AbstractTarget

if TYPE_CHECKING:
    from posterion.posterior.posterior import Posterior

_DRAWS, _MANY_DRAWS = 4096, 16_384
"""Fresh draws that corrections are made of; many where it is not plain on which side of its limit k-hat is."""
_PLAIN = (0.5, 0.9)
"""One estimate of k-hat scatters by 0.1 or more: below and above these it is plain."""
LEAST_ROWS = 10
"""Held-out rows."""


def whole_verdict(posterior: "Posterior", quick: Verdict) -> Verdict:
    """The quick verdict with what importance weights and gradients add to it, where they can be had."""
    no_numbers = not np.all(np.isfinite([quick.elbo, quick.khat]))
    corrected_already = isinstance(posterior.family, AbstractEmpirical)
    if posterior.record.is_network:
        found = _collapse(posterior)
        return quick if found is None else with_collapse(quick, found)
    if not posterior.has_data or no_numbers or corrected_already:
        return quick
    draws, corrected = posterior.verdict_draws, posterior.corrections
    pooled = np.inf
    if quick.trustworthy and not corrected.reliable:  # the two looks disagree
        pooled = _pooled_khat(posterior.log_weights, draws.log_weights)
    verdict = with_corrections(quick, corrected, pooled)
    if draws.scores is None:
        return verdict
    gaussian = local_gaussian(draws.z, draws.scores, posterior.layout.entry_names())
    return verdict if gaussian is None else with_scores(verdict, gaussian)


def _pooled_khat(*log_weights: np.ndarray) -> float:
    """Of several sets of draws together; infinite if they are too few, or some have no ratio."""
    together = np.concatenate(log_weights)
    usable = len(together) >= MINIMUM_DRAWS and not np.any(np.isnan(together) | np.isposinf(together))
    return pareto_smooth(together).khat if usable else np.inf


def judge_held_out(
    posterior: "Posterior", verdict: Verdict, inputs: Mapping[str, Any], outcomes: Any, name: str | None
) -> Verdict:
    """The verdict with what the posterior says of rows it was not fitted to."""
    name, target = observed_name(posterior.target, name), posterior.target
    assert isinstance(target, AbstractRowTarget)  # others observe nothing that has a name  # noqa: S101
    observed = target.observed[name]
    scores = np.asarray(posterior.predict(inputs).log_score(name, outcomes), np.float64)
    if len(scores) < LEAST_ROWS:
        raise DataError(f"{len(scores)} held-out rows say too little; give at least {LEAST_ROWS}")
    seen = posterior.fitted_data.get(observed.slot or "", outcomes)  # a loaded posterior does not keep those it saw
    return with_held_out(verdict, scores, null_scores(seen, outcomes, observed.kind))


def observed_name(target: AbstractTarget, name: str | None) -> str:
    """The observed variable meant by a name, or by None if there is one.

    Raises
    ------
    OptionError
        If there is no such variable, or there are several to choose from.
    """
    there = list(getattr(target, "observed", ()))
    if not there:
        raise OptionError(NOTHING_OBSERVED)
    if name is None and len(there) == 1:
        return there[0]
    if name not in there:
        raise OptionError(f"name one of the observed variables {there}, whose outcomes are held out: name='...'")
    return name


def _collapse(posterior: "Posterior") -> Collapse | None:
    """How much of a network has its prior for a posterior; None where that cannot be told."""
    target, family, layout = posterior.target, posterior.family, posterior.layout
    matrices = {v.name: v.shape for v in layout.variables if len(v.shape) == 2 and min(v.shape) > 0}
    if not isinstance(family, AbstractGaussian) or not isinstance(target, AbstractRowTarget):
        return None
    if not matrices or not posterior.has_data or posterior.record.weights_by_batches:
        return None
    params = np.asarray(posterior.params, np.float64)
    mean, sd = np.asarray(family.mean(params)), np.asarray(family.standard_deviations(params))
    directions = np.zeros((len(matrices), layout.size))
    for row, name in zip(directions, matrices, strict=True):
        row[layout.slices[name]] = 1.0  # priors independent within a variable: the sum of a row is its diagonal

    def curvatures(z: Array, directions: Array, data: Data) -> tuple[Array, Array]:
        slope = jax.grad(lambda z: target.joint_terms(z, data).log_prior)
        return slope(z), jax.lax.map(lambda one: -jax.jvp(slope, (z,), (one,))[1], directions)

    with jax.enable_x64(posterior.record.x64):
        program = target.compiled.setdefault(("curvature of the prior",), Program(curvatures))
        dtype, data = np.result_type(float) if posterior.record.x64 else np.float32, posterior.fitted_data
        found = program(mean.astype(dtype), directions.astype(dtype), target.as_arrays(data))
        slope, products = (np.asarray(x, np.float64) for x in jax.device_get(found))
    curvature = np.sum(products * directions, axis=0)
    return collapse(matrices, layout.slices, sd, slope, curvature)


def verdict_draws(posterior: "Posterior") -> WeightedDraws:
    """The draws the verdict rests on."""
    few, many = _PLAIN
    wanted = _MANY_DRAWS if few < _pooled_khat(posterior.log_weights) < many else _DRAWS
    draws = affordable_draws(posterior.target, wanted)
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
        khat, limit = told_apart(smoothed.khat, smoothed.threshold)
        warnings.warn(
            f"k-hat {khat} is above {limit}: the resampled draws, worth "
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
