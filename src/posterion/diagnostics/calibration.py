"""How good predicted probabilities are, against outcomes that were not used to fit them. Pure NumPy.

Probabilities are shaped (rows,) for a binary outcome, with labels 0 and 1, or (rows, classes), with labels 0..K-1. No
number tells it all: calibration can be had by predicting the base rate for everyone, so read it beside the log score
and the Brier score, which are proper: in expectation nothing beats the true probabilities.

References
----------
.. [1] Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation. JASA 102.
.. [2] Naeini, Cooper and Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian binning. AAAI.
.. [3] Nixon et al. (2019), Measuring calibration in deep learning. CVPR workshops.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from posterion.errors import DataError, OptionError

Binning = Literal["fixed", "equal_mass"]


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability table: per bin of predicted probability, how often it came true.

    Parameters
    ----------
    edges
        Of the bins, one more than there are bins; a bin holds its upper edge, the first one its lower edge too.
    count
        Rows in each bin.
    probability
        Mean predicted probability in each bin; NaN for an empty one.
    frequency
        How often it came true in each bin; NaN for an empty one.
    """

    edges: np.ndarray
    count: np.ndarray
    probability: np.ndarray
    frequency: np.ndarray

    @property
    def expected_error(self) -> float:
        """Mean of |frequency - probability| over rows: the expected calibration error."""
        filled = self.count > 0
        gaps = np.abs(self.frequency[filled] - self.probability[filled])
        return float(np.average(gaps, weights=self.count[filled]))

    @property
    def frequency_error(self) -> np.ndarray:
        """Binomial standard error of each frequency if the predictions were calibrated; NaN for an empty bin."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self.probability * (1 - self.probability) / self.count)


def accuracy(probabilities: Any, outcomes: Any) -> float:
    """Share of rows whose most probable label came true; for a binary outcome 1 is predicted from 0.5 upwards.

    Parameters
    ----------
    probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    outcomes
        What came true: 0, 1, ... per row.
    """
    p, y = _checked(probabilities, outcomes)
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
    p, y = _checked(probabilities, outcomes)
    with np.errstate(divide="ignore"):
        return float(np.mean(np.log(_of_outcome(p, y))))


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
    p, y = _checked(probabilities, outcomes)
    if p.ndim == 1:
        return float(np.mean((p - y) ** 2))
    hot = y[:, None] == np.arange(p.shape[1])
    return float(np.mean(np.sum((p - hot) ** 2, axis=1)))


def reliability(probabilities: Any, outcomes: Any, *, bins: int = 10, binning: Binning = "fixed") -> Reliability:
    """Reliability table of a binary outcome's probability, or of the probability of the predicted class.

    Parameters
    ----------
    probabilities, outcomes
        Predicted probabilities and what came true.
    bins
        How many.
    binning
        "fixed" for bins of equal width on [0, 1], "equal_mass" for bins of equally many rows (fewer if probabilities
        are tied).
    """
    p, y = _checked(probabilities, outcomes)
    if bins < 1:
        raise OptionError(f"bins must be at least 1; found {bins}")
    if binning not in ("fixed", "equal_mass"):
        raise OptionError(f"binning must be 'fixed' or 'equal_mass'; found {binning!r}")
    if p.ndim == 1:
        claimed, happened = p, y.astype(float)
    else:
        predicted = np.argmax(p, axis=1)
        claimed, happened = p.max(axis=1), (predicted == y).astype(float)
    if binning == "fixed":
        edges = np.linspace(0.0, 1.0, bins + 1)
    else:
        edges = np.unique(np.quantile(claimed, np.linspace(0.0, 1.0, bins + 1)))
        if len(edges) == 1:
            edges = np.array([edges[0], edges[0]])
    bin_of = np.clip(np.searchsorted(edges[1:-1], claimed, side="left"), 0, len(edges) - 2)
    count = np.bincount(bin_of, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        probability = np.bincount(bin_of, claimed, minlength=len(count)) / count
        frequency = np.bincount(bin_of, happened, minlength=len(count)) / count
    return Reliability(edges, count, probability, frequency)


def expected_calibration_error(
    probabilities: Any, outcomes: Any, *, bins: int = 10, binning: Binning = "fixed"
) -> float:
    """Mean over rows of |frequency - probability| in their bin of `reliability`; 0 is perfect.

    It depends on the bins, and grows by chance alone as they get smaller: compare only equal bins on equal data.

    Parameters
    ----------
    probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    outcomes
        What came true: 0, 1, ... per row.
    bins
        How many.
    binning
        As in `reliability`.
    """
    return reliability(probabilities, outcomes, bins=bins, binning=binning).expected_error


def _of_outcome(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(y == 1, p, 1.0 - p) if p.ndim == 1 else np.take_along_axis(p, y[:, None].astype(int), axis=1)[:, 0]


def _checked(probabilities: Any, outcomes: Any) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(outcomes)
    if p.ndim not in (1, 2) or y.shape != p.shape[:1] or len(y) == 0:
        raise DataError(
            "probabilities must be shaped (rows,) or (rows, classes) and outcomes (rows,) with at least one row; "
            f"found {p.shape} and {y.shape}"
        )
    if not (np.all(p >= -1e-6) and np.all(p <= 1 + 1e-6)):  # NaN fails both
        raise DataError("probabilities must lie between 0 and 1; some are outside or missing")
    if p.ndim == 2 and not np.allclose(p.sum(axis=1), 1.0, atol=1e-3):
        raise DataError("the probabilities of each row must sum to 1 over the classes")
    labels = 2 if p.ndim == 1 else p.shape[1]
    wrong = ~np.isin(y, np.arange(labels))
    if wrong.any():
        raise DataError(f"outcomes must be labels 0 to {labels - 1}; found {y[wrong][0]!r}")
    return np.clip(p, 0.0, 1.0), y
