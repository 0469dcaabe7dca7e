"""Importance ratios: the ELBO they average to, and the k-hat of their tail."""

import math

import numpy as np

from posterion.diagnostics.psis import MINIMUM_DRAWS, khat_threshold, pareto_smooth
from posterion.diagnostics.verdict.findings import Findings

NEARLY_CONSTANT = 0.08
"""Standard deviation of the log importance ratios below which the approximation is as good as exact."""
_DENSE = 500
"""Parameters up to which a full covariance is fitted in reasonable time."""


def numbers(log_weights: np.ndarray) -> tuple[float, float, float, float]:
    """ELBO, its standard error, k-hat and its limit."""
    draws = log_weights.size
    limit = khat_threshold(max(draws, MINIMUM_DRAWS))
    if draws == 0 or not np.all(np.isfinite(log_weights)):
        elbo = float(np.mean(log_weights)) if draws else math.nan
        return elbo, math.nan, math.nan, limit
    elbo = float(np.mean(log_weights))
    elbo_se = float(np.std(log_weights, ddof=1) / math.sqrt(draws)) if draws > 1 else math.inf
    khat = pareto_smooth(log_weights).khat if draws >= MINIMUM_DRAWS else math.nan
    return elbo, elbo_se, khat, limit


def judge_khat(khat: float, limit: float, draws: int, findings: Findings, *, method: str = "", size: int = 0) -> None:
    """Whether the importance ratios could turn the draws into the posterior's."""
    if math.isnan(khat):
        findings.against.append(f"{draws} draws are too few to tell how well the approximation covers the posterior")
        findings.advice.append(f"judge it by at least {MINIMUM_DRAWS} draws")
    elif khat <= limit:
        findings.favour.insert(0, f"k-hat {khat:.2f} (limit {limit:.2f}): the draws cover the posterior")
    else:
        findings.against.append(
            f"k-hat {khat:.2f} is above {limit:.2f}: the approximation misses part of the joint posterior, typically "
            "its correlations and tails, so intervals may be too narrow; means are often still good"
        )
        findings.advice.append(_richer(method, size))
        findings.advice.append("compare what you report with a short MCMC run: approx.compare_with_nuts()")


def _richer(method: str, size: int) -> str:
    """What to try next, after this method at this number of parameters."""
    follows_correlations = any(word in method for word in ("FullRank", "Laplace", "BatchAndMatch", "Pathfinder"))
    if follows_correlations:
        return (
            "its correlations are followed already, so the posterior is not Gaussian: write hierarchies non-centred, "
            "give heavy tails a scale, or resample: approx.sample(resample=True)"
        )
    if size > _DENSE and "LowRank" not in method:
        return "try method='lowrank_advi', which follows the strongest correlations"
    if size > _DENSE:
        return "raise the rank, ADVI(family=LowRank(rank=...)), or write correlated or hierarchical variables apart"
    return "try method='fullrank_advi', which follows correlations, or write hierarchies non-centred"
