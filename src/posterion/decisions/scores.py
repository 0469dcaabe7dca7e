"""Scores of predicted probabilities and densities against what came true. Pure NumPy.

Probabilities are shaped (rows,) for a binary outcome, with labels 0 and 1, or (rows, classes), with labels 0..K-1. The
log score, the Brier score and the CRPS are proper: in expectation nothing beats the true distribution [1]_.

References
----------
.. [1] Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation. JASA 102.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from posterion.decisions._checks import checked_draws, checked_probabilities, of_outcome
from posterion.decisions.calibration import Binning, reliability
from posterion.errors import DataError


def accuracy(probabilities: Any, outcomes: Any) -> float:
    """Share of rows whose most probable label came true; for a binary outcome 1 is predicted from 0.5 upwards.

    Parameters
    ----------
    probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    outcomes
        What came true: 0, 1, ... per row.
    """
    p, y = checked_probabilities(probabilities, outcomes)
    predicted = p >= 0.5 if p.ndim == 1 else np.argmax(p, axis=1)
    return float(np.mean(predicted == y))


def log_score(probabilities: Any, outcomes: Any) -> float:
    """Mean log probability of what came true, in nats; higher is better, 0 is perfect, -inf an excluded outcome.

    Parameters
    ----------
    probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    outcomes
        What came true: 0, 1, ... per row.
    """
    p, y = checked_probabilities(probabilities, outcomes)
    with np.errstate(divide="ignore"):
        return float(np.mean(np.log(of_outcome(p, y))))


def brier_score(probabilities: Any, outcomes: Any) -> float:
    """Mean squared error of the probabilities; lower is better.

    For a binary outcome mean (p - y)^2, from 0 to 1. For K classes the sum over classes, mean sum_k (p_k - [y = k])^2,
    from 0 to 2: with K = 2 it is twice the binary one.

    Parameters
    ----------
    probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    outcomes
        What came true: 0, 1, ... per row.
    """
    p, y = checked_probabilities(probabilities, outcomes)
    if p.ndim == 1:
        return float(np.mean((p - y) ** 2))
    hot = y[:, None] == np.arange(p.shape[1])
    return float(np.mean(np.sum((p - hot) ** 2, axis=1)))


class BrierParts(NamedTuple):
    """A Brier score taken apart: ``score = calibration - resolution + uncertainty + remainder``.

    Parameters
    ----------
    score
        The Brier score itself.
    calibration
        Mean squared distance of forecast and frequency over bins; 0 is perfect.
    resolution
        How far the bins' frequencies lie from the base rate; higher is better.
    uncertainty
        Of the outcome, had one only its base rate: base x (1 - base).
    remainder
        What the forecasts vary by within bins; it vanishes with bins narrow enough [1]_.

    References
    ----------
    .. [1] Stephenson, Coelho and Jolliffe (2008), Two extra components in the Brier score decomposition. Weather and
       Forecasting 23.
    """

    score: float
    calibration: float
    resolution: float
    uncertainty: float
    remainder: float


def brier_decomposition(
    probabilities: Any, outcomes: Any, *, bins: int = 10, binning: Binning = "equal_mass"
) -> BrierParts:
    """Murphy's decomposition of the Brier score into calibration, resolution and uncertainty [1]_.

    For classes the parts are summed over the classes, as the score is.

    Parameters
    ----------
    probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    outcomes
        What came true: 0, 1, ... per row.
    bins, binning
        As in `reliability`.

    References
    ----------
    .. [1] Murphy (1973), A new vector partition of the probability score. Journal of Applied Meteorology 12.
    """
    p, y = checked_probabilities(probabilities, outcomes)
    pairs = [(p, y)] if p.ndim == 1 else [(p[:, k], (y == k).astype(int)) for k in range(p.shape[1])]
    parts = np.zeros(4)
    for claimed, happened in pairs:
        table = reliability(claimed, happened, bins=bins, binning=binning)
        filled = table.count > 0
        weight, base = table.count[filled] / len(y), float(np.mean(happened))
        calibration = weight @ (table.probability[filled] - table.frequency[filled]) ** 2
        resolution = weight @ (table.frequency[filled] - base) ** 2
        parts += [np.mean((claimed - happened) ** 2), calibration, resolution, base * (1 - base)]
    score, calibration, resolution, uncertainty = map(float, parts)
    return BrierParts(score, calibration, resolution, uncertainty, score - calibration + resolution - uncertainty)


def crps(draws: Any, outcomes: Any) -> Float[np.ndarray, " rows"]:
    """Continuous ranked probability score per row, from predictive draws: E|X - y| - E|X - X'| / 2.

    In the unit of the outcome; lower is better; for a prediction without spread it is the absolute error. Estimated
    without the bias that few draws bring (every pair of different draws once).

    Parameters
    ----------
    draws
        Of the outcome, (draws, rows), as ``prediction.sample()[name]`` gives them; at least two.
    outcomes
        What came true, (rows,).

    References
    ----------
    .. [1] Gneiting and Raftery (2007), JASA 102, section 4.2.
    .. [2] Zamo and Naveau (2018), Estimation of the CRPS with limited information. Mathematical Geosciences 50.
    """
    x, y = checked_draws(draws, outcomes)
    if len(x) < 2:
        raise DataError("the CRPS needs at least two draws; found one")
    error = np.mean(np.abs(x - y), axis=0)
    ranks = 2 * np.arange(1, len(x) + 1) - len(x) - 1  # sum over pairs |x_i - x_j| = sum_i (2 i - n - 1) x_(i)
    spread = np.tensordot(ranks, np.sort(x, axis=0), axes=1) / (len(x) * (len(x) - 1))
    return error - spread
