"""Draws of an approximation turned into draws of the posterior, by Pareto smoothed importance resampling."""

import numpy as np
from jaxtyping import Float

from posterion.diagnostics.psis import ParetoSmoothed, pareto_smooth

_FEW = 400
"""Independent draws below which the error of a mean is above a twentieth of a posterior standard deviation."""


def smooth(log_weights: Float[np.ndarray, " draws"]) -> ParetoSmoothed:
    """Smoothed importance weights; draws at which the log joint is not finite get none."""
    return pareto_smooth(np.where(np.isfinite(log_weights), log_weights, -np.inf))


def resample(
    points: Float[np.ndarray, "draws dim"], smoothed: ParetoSmoothed, count: int, seed: int
) -> Float[np.ndarray, "count dim"]:
    """``count`` equally likely points: systematic resampling, which repeats a point as often as its weight says.

    Its error is far below that of independent choices: a weight of 1 / count gives exactly one copy.
    """
    share = np.cumsum(np.exp(smoothed.log_weights))
    offset = np.random.default_rng(seed).random()
    chosen = np.searchsorted(share / share[-1], (np.arange(count) + offset) / count)
    return points[np.minimum(chosen, len(points) - 1)]


def caveats(smoothed: ParetoSmoothed) -> tuple[str, ...]:
    """What speaks against resampled draws: that few of them carry the weight."""
    worth = smoothed.effective_draws
    if worth >= _FEW:
        return ()
    return (
        f"the resampled draws are worth {worth:,.0f} independent ones only: a mean carries an error of about "
        f"{1 / np.sqrt(worth):.2f} posterior standard deviations",
    )
