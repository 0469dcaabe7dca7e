"""Importance ratios: the ELBO they average to, and the k-hat of their tail."""

import math

import numpy as np

from posterion.diagnostics.psis import MINIMUM_DRAWS, khat_threshold, pareto_smooth, told_apart
from posterion.diagnostics.verdict.findings import Findings

NEARLY_CONSTANT = 0.08
"""Standard deviation of the log importance ratios below which the approximation is as good as exact."""
_OF_FULL_COVARIANCE = ("FullRank", "Laplace", "BatchAndMatch", "Pathfinder", "GaussianVI", "linear_response")
"""Of methods' descriptions, the words that say that correlations are followed."""
_BENT = 100
"""Parameters up to which a flow is worth its time."""
_DENSE = 500
"""Parameters up to which a full covariance is fitted in reasonable time."""


def bound(log_weights: np.ndarray, *, resampled: bool = False) -> tuple[float, float]:
    r"""The evidence lower bound and its Monte Carlo standard error; NaN of no draws.

    The mean of the log weights, or of draws that were resampled by these weights the importance-weighted bound [1]_

    .. math:: \log \frac1S \sum_s \frac{p(z_s)}{q(z_s)}.

    What the draws were resampled from has its tails wider than the posterior's on purpose, and the mean of the log
    ratio to it says nothing of them: of a Student-t against a tail that falls like exp(-exp(z)) it is minus infinity.

    Parameters
    ----------
    log_weights
        log p(z) - log q(z) at independent draws from q.
    resampled
        Whether the approximation is draws from q picked by these weights.

    References
    ----------
    .. [1] Cremer, Morris and Duvenaud (2017), Reinterpreting importance-weighted autoencoders. arXiv:1704.02916.
    """
    draws = log_weights.size
    if draws == 0:
        return math.nan, math.nan
    if not resampled:
        value = float(np.mean(log_weights))
        if not np.all(np.isfinite(log_weights)):
            return value, math.nan
        return value, float(np.std(log_weights, ddof=1) / math.sqrt(draws)) if draws > 1 else math.inf
    largest = float(np.max(log_weights))
    if not math.isfinite(largest):
        return largest, math.nan
    weights = np.exp(log_weights - largest)
    mean = float(np.mean(weights))
    error = float(np.std(weights, ddof=1) / mean / math.sqrt(draws)) if draws > 1 else math.inf
    return largest + math.log(mean), error


def numbers(log_weights: np.ndarray, *, resampled: bool = False) -> tuple[float, float, float, float]:
    """ELBO, its standard error, k-hat and its limit."""
    draws = log_weights.size
    limit = khat_threshold(max(draws, MINIMUM_DRAWS))
    elbo, elbo_se = bound(log_weights, resampled=resampled)
    usable = draws >= MINIMUM_DRAWS and np.isfinite(elbo) and not np.any(np.isnan(log_weights))
    return elbo, elbo_se, pareto_smooth(log_weights).khat if usable else math.nan, limit


def judge_khat(khat: float, limit: float, draws: int, findings: Findings, *, method: str = "", size: int = 0) -> None:
    """Whether the importance ratios could turn the draws into the posterior's."""
    said, limit_said = told_apart(khat, limit)
    if math.isnan(khat):
        findings.against.append(f"{draws} draws are too few to tell how well the approximation covers the posterior")
        findings.advice.append(f"judge it by at least {MINIMUM_DRAWS} draws")
    elif khat <= limit:
        findings.favour.insert(0, f"k-hat {said} (limit {limit_said}): the draws cover the posterior")
    else:
        findings.against.append(
            f"k-hat {said} is above {limit_said}: the approximation misses part of the joint posterior, typically "
            "its correlations and tails, so intervals may be too narrow; means are often still good"
        )
        findings.advice.append(_richer(method, size))
        findings.advice.append("compare what you report with a short MCMC run: approx.compare_with_nuts()")


def _richer(method: str, size: int) -> str:
    """What to try next, after this method at this number of parameters."""
    if "NormalizingFlow" in method:
        return "a flow missed it too: give it more steps (approx.refine()), or write hierarchies non-centred"
    if any(word in method for word in _OF_FULL_COVARIANCE):
        bend = "" if size > _BENT else ", take method=ADVI(family=NormalizingFlow()), which bends a Gaussian,"
        return (
            "its correlations are followed already, so the posterior is not Gaussian: write hierarchies non-centred, "
            f"give heavy tails a scale{bend} or resample: approx.sample(resample=True)"
        )
    if size > _DENSE and "LowRank" not in method:
        return "try method='lowrank_advi', which follows the strongest correlations"
    if size > _DENSE:
        return "raise the rank, ADVI(family=LowRank(rank=...)), or write correlated or hierarchical variables apart"
    return "try method='gaussian' or 'fullrank_advi', which follow correlations, or write hierarchies non-centred"
