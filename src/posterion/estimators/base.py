"""What all estimators share: scikit-learn's contract for data in, files, and what does not depend on the outcome."""

import numbers
import os
import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    _get_feature_names,
    check_is_fitted,
    validate_data,
)

from posterion.errors import DataError, OptionError
from posterion.estimators import files
from posterion.estimators.columns import Columns

SMALLEST = 1e-300
FEWEST_SHARES = 10
"""Rows from which on weights whose sum is one are taken for shares: nobody means that all rows count as one."""
LARGEST_WHOLE = 2.0**53
"""From here on float64 cannot tell all whole numbers apart."""


class AbstractEstimator(BaseEstimator):
    """Data in, files, and what does not depend on the kind of outcome."""

    _state: Any

    def fit(self, X, y, sample_weight=None):
        """Fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Outcomes or labels.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts. Weights of ten rows or more whose sum is one are taken for shares: they are
            multiplied by the effective number of rows, one over the sum of their squares, and a warning says so.

        Returns
        -------
        self
            Fitted.
        """
        return self._learn_rows(X, y, sample_weight, continued=False)

    def _learn_rows(self, X: Any, y: Any, sample_weight: Any, *, continued: bool) -> Any:
        """Check rows and outcomes, and learn from those that count."""
        raise NotImplementedError

    def _learn(self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, continued: bool) -> None:
        """Set ``_state`` from checked rows; with ``continued`` the posterior so far is the prior."""
        raise NotImplementedError

    def log_scores(self, X: Any, y: Any) -> np.ndarray:
        """Log predictive density of each outcome, or log probability of each label."""
        raise NotImplementedError

    def log_score(self, X, y, sample_weight=None):
        """Mean log predictive density of outcomes on their original scale, or log probability of labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Their outcomes or labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the mean.

        Returns
        -------
        score : float
            In nats; more is better.
        """
        return float(np.average(self.log_scores(X, y), weights=sample_weight))

    def _inputs(self, X: Any, *, reset: bool) -> np.ndarray:
        """The table as float64, with its columns checked or, with ``reset``, taken note of."""
        x: Any = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=False, ensure_min_samples=1)
        _refuse_missing(X, x, type(self).__name__)
        return x

    def _row_weights(self, sample_weight: Any, x: np.ndarray) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weights.sum() > 0:
            raise DataError("all of sample_weight is zero, which leaves no rows to learn from")
        if abs(weights.sum() - 1) < 1e-6 and np.count_nonzero(weights) >= FEWEST_SHARES:
            rows = float(weights.sum() ** 2 / (weights @ weights))
            warnings.warn(
                f"sample_weight sums to 1, as if all {len(weights)} rows counted as one; taken for shares, and "
                f"multiplied by the effective number of rows, {rows:.6g}. Give counts, or weights whose mean is 1",
                UserWarning,
                stacklevel=4,
            )
            weights = weights * rows
        return weights

    def _columns_of(self, x: np.ndarray, weights: np.ndarray, *, codes: bool, compress: bool = True) -> Columns:
        """Columns as inputs, and a word about those that are left out although they may vary."""
        columns = Columns.of(x, weights, codes=codes, compress=compress)
        out = np.setdiff1d(np.arange(x.shape[1]), columns.kept)
        part = x[weights > 0][:, out]
        may_vary = (part.max(axis=0) > part.min(axis=0)) | (np.abs(part).max(axis=0) >= LARGEST_WHOLE)
        if np.any(may_vary):
            names = getattr(self, "feature_names_in_", np.arange(x.shape[1]))[out[may_vary]].tolist()
            warnings.warn(
                f"columns {names} are left out: their values differ by less than 1e-10 of their size, where float64 "
                "can hardly tell them apart. Identifiers say nothing of new rows; of others subtract the smallest",
                UserWarning,
                stacklevel=5,
            )
        return columns

    def _table(self, X: Any) -> np.ndarray:
        """New rows, for a fitted estimator."""
        check_is_fitted(self, "_state")
        return self._inputs(X, reset=False)

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted estimator to one file of arrays and JSON, without pickle.

        Parameters
        ----------
        path : str or path-like
            Replaced if it exists.
        """
        check_is_fitted(self, "_state")
        files.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Any:
        """The estimator that `save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path-like
            A file written by ``save`` of the same class.

        Returns
        -------
        estimator
            Fitted.
        """
        return files.load(cls, path)


def tails_of(coverage: Any) -> tuple[float, float]:
    """The levels between which a central interval lies."""
    if not (isinstance(coverage, numbers.Real) and 0 < float(coverage) < 1):
        raise OptionError(f"coverage must be a number between 0 and 1, not {coverage!r}")
    tail = (1 - float(coverage)) / 2
    return tail, 1 - tail


def generator(random_state: Any) -> np.random.Generator:
    """A generator from whatever scikit-learn accepts."""
    return np.random.default_rng(check_random_state(random_state).randint(0, 2**31 - 1, size=4))


def _refuse_missing(X: Any, x: np.ndarray, who: str) -> None:
    """Name the first column with a missing or infinite value."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(x.sum()) or np.all(np.isfinite(x)):
            return
    rows, columns = np.nonzero(~np.isfinite(x))
    names = _get_feature_names(X)
    column = columns[0] if names is None else repr(str(names[columns[0]]))
    missing = bool(np.isnan(x[rows[0], columns[0]]))
    what = "NaN" if missing else "infinity"
    advice = (
        "Fill them in first, e.g. make_pipeline(SimpleImputer(), ...) with sklearn.impute.SimpleImputer"
        if missing
        else "Clip or leave out these values"
    )
    count = np.unique(columns).size
    more = f" and in {count - 1} other columns" if count > 1 else ""
    raise DataError(
        f"Input X contains {what} in column {column} (first in row {rows[0]}){more}; "
        f"{who} needs finite numbers. {advice}"
    )
