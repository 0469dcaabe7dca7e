"""Recalibration: probabilities put right by how earlier ones came true, on rows apart from all others.

Fit on a held-out part, apply to the rows that count, and score on those: the rows a map was fitted on say nothing about
how good it is. Temperature has one number to fit and keeps the order of rows; isotonic regression has many, mends any
monotone distortion, and wants some hundreds of rows.

References
----------
.. [1] Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks. ICML.
.. [2] Zadrozny and Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates. KDD.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from posterion._optional import import_optional
from posterion.decisions._checks import as_classes, checked_probabilities
from posterion.errors import DataError

_TINY = 1e-12
"""Probabilities are held this far from 0 and 1 where their logarithm is taken."""


@dataclass(frozen=True)
class Temperature:
    """Probabilities raised to the power 1/T and normalised again: T above 1 makes them more modest.

    Parameters
    ----------
    temperature
        T.
    """

    temperature: float

    def __call__(self, probabilities: Any) -> np.ndarray:
        """Recalibrated probabilities, shaped as those given."""
        binary = np.ndim(probabilities) == 1
        p = _tempered(as_classes(probabilities), 1.0 / self.temperature)
        return p[:, 1] if binary else p


def fit_temperature(held_out_probabilities: Any, held_out_outcomes: Any) -> Temperature:
    """Find the temperature with the best log score on held-out rows; the search is one-dimensional and convex in 1/T.

    Parameters
    ----------
    held_out_probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    held_out_outcomes
        What came true: 0, 1, ... per row.

    Raises
    ------
    DataError
        If every row's most probable label came true or fell to chance so that no temperature is best.
    """
    p, y = checked_probabilities(held_out_probabilities, held_out_outcomes)
    classes, y = as_classes(p), y.astype(int)
    logs = np.log(np.maximum(classes, _TINY))
    happened = np.mean(np.take_along_axis(logs, y[:, None], axis=1))

    def slope(inverse: float) -> float:
        """Derivative of the log score by 1/T; it falls as 1/T grows."""
        return happened - float(np.mean(np.sum(_tempered(classes, inverse) * logs, axis=1)))

    from scipy.optimize import brentq

    low, high = 1e-3, 1e3
    if slope(low) <= 0 or slope(high) >= 0:
        which = "no better than chance" if slope(low) <= 0 else "all right, so that no boldness is too bold"
        raise DataError(f"no temperature is best: on these {len(y)} rows the predictions are {which}; use more rows")
    root: Any = brentq(slope, low, high, xtol=1e-10)
    return Temperature(1.0 / float(root))


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A rising step function per label, from predicted to observed frequency, normalised over the labels.

    Parameters
    ----------
    curves
        Per label, the predicted probabilities and the frequencies they are mapped to; one curve for a binary outcome.
    """

    curves: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, probabilities: Any) -> np.ndarray:
        """Recalibrated probabilities, shaped as those given.

        Raises
        ------
        DataError
            If there are not as many labels as the map was fitted for.
        """
        columns = as_classes(probabilities)
        binary = np.ndim(probabilities) == 1
        wanted = 2 if len(self.curves) == 1 else len(self.curves)
        if columns.shape[1] != wanted or binary != (len(self.curves) == 1):
            raise DataError(f"fitted for {wanted} labels; found probabilities shaped {np.shape(probabilities)}")
        if binary:
            return np.interp(columns[:, 1], *self.curves[0])
        p = np.column_stack([np.interp(columns[:, k], *curve) for k, curve in enumerate(self.curves)])
        total = p.sum(axis=1, keepdims=True)
        return np.where(total > 0, p / np.where(total > 0, total, 1.0), 1.0 / wanted)


def fit_isotonic(held_out_probabilities: Any, held_out_outcomes: Any) -> Isotonic:
    """Fit a rising map from predicted probability to frequency on held-out rows, by scikit-learn's isotonic regression.

    It may map to exactly 0 and 1, which costs an infinite log score where it is wrong; frequencies are therefore held
    1 / (n + 2) away from both, as if two more rows had been seen.

    Parameters
    ----------
    held_out_probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    held_out_outcomes
        What came true: 0, 1, ... per row.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    p, y = checked_probabilities(held_out_probabilities, held_out_outcomes)
    isotonic = import_optional("sklearn.isotonic", "sklearn", "Isotonic maps")
    edge = 1.0 / (len(y) + 2)
    pairs = [(p, y)] if p.ndim == 1 else [(p[:, k], y == k) for k in range(p.shape[1])]
    curves = []
    for claimed, happened in pairs:
        fitted = isotonic.IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(claimed, happened)
        curves.append((np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_)))
    return Isotonic(tuple(curves))


def _tempered(classes: np.ndarray, inverse: float) -> np.ndarray:
    logs = inverse * np.log(np.maximum(classes, _TINY))
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
