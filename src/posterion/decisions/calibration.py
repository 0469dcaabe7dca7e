"""Calibration: whether what is said to happen with probability p happens in a share p of cases. Pure NumPy.

Probabilities are shaped (rows,) for a binary outcome, with labels 0 and 1, or (rows, classes), with labels 0..K-1. No
number tells it all: calibration can be had by predicting the base rate for everyone, so read it beside the log score
and the Brier score (`posterion.decisions.scores`), which are proper.

References
----------
.. [1] Naeini, Cooper and Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian binning. AAAI.
.. [2] Nixon et al. (2019), Measuring calibration in deep learning. CVPR workshops.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray

from posterion.decisions._checks import checked_probabilities
from posterion.errors import OptionError

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

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Wilson bounds of each frequency, which keep their coverage in bins of few rows; NaN for an empty bin.

        Parameters
        ----------
        level
            Probability that an interval covers.
        """
        return wilson_interval(self.frequency * self.count, self.count, level=level)

    def to_dataset(self) -> xarray.Dataset:
        """The table with the 95 % bounds of each frequency, along the dim ``bin``."""
        low, high = self.interval()
        columns = {
            "low_edge": self.edges[:-1],
            "high_edge": self.edges[1:],
            "count": self.count,
            "probability": self.probability,
            "frequency": self.frequency,
            "frequency_low": low,
            "frequency_high": high,
        }
        return xarray.Dataset({name: ("bin", np.asarray(values)) for name, values in columns.items()})


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
    p, y = checked_probabilities(probabilities, outcomes)
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


def wilson_interval(successes: np.ndarray, trials: np.ndarray, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a proportion's interval: (p + z^2/2n ± z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).

    Parameters
    ----------
    successes, trials
        Counts; n is the number of trials. No trials, no bounds: NaN.
    level
        Probability that an interval covers; z is the half width of its normal counterpart.

    References
    ----------
    .. [1] Wilson (1927), Probable inference, the law of succession, and statistical inference. JASA 22.
    """
    from scipy.special import ndtri  # a tenth of a second to import

    if not 0 < level < 1:
        raise OptionError(f"level must lie between 0 and 1; found {level}")
    z = float(ndtri(0.5 + level / 2))
    trials = np.where(np.asarray(trials) > 0, trials, np.nan)
    proportion = successes / trials
    scale = 1 + z**2 / trials
    centre = (proportion + z**2 / (2 * trials)) / scale
    half = z * np.sqrt(proportion * (1 - proportion) / trials + z**2 / (4 * trials**2)) / scale
    # At 0 and 1 the bounds are exactly there; rounding must not put the frequency outside its interval.
    return np.minimum(np.clip(centre - half, 0, 1), proportion), np.maximum(np.clip(centre + half, 0, 1), proportion)
