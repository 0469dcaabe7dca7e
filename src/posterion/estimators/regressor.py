"""What all estimators of numbers share: predictions, intervals, scores and uncertainty."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import (
    check_consistent_length,
    column_or_1d,
)

from posterion.errors import DataError, OptionError
from posterion.estimators.base import AbstractEstimator, generator, tails_of
from posterion.estimators.columns import moments


class AbstractRegressor(RegressorMixin, AbstractEstimator):
    """Predictions of a numeric outcome, from `_predictive`."""

    def _predictive(self, X: Any) -> Any:
        raise NotImplementedError

    def partial_fit(self, X, y, sample_weight=None):
        """Learn from more rows: the posterior so far is the prior. Scales are those of the first rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        self
            Fitted.
        """
        return self._learn_rows(X, y, sample_weight, continued=hasattr(self, "_state"))

    def _learn_rows(self, X: Any, y: Any, sample_weight: Any, *, continued: bool) -> Any:
        x = self._inputs(X, reset=not continued)
        targets = self._targets(y, x)
        weights = self._row_weights(sample_weight, x)
        present = weights > 0
        self._learn(x[present], targets[present], weights[present], continued=continued)
        return self

    def _targets(self, y: Any, x: np.ndarray) -> np.ndarray:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_consistent_length(x, y)
        try:
            y = np.asarray(y, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"y must be numbers to predict a numeric outcome: {error}") from error
        if not np.all(np.isfinite(y)):
            raise DataError("Input y contains NaN or infinity; leave out the rows without an outcome")
        return y

    def predict(self, X, *, return_std=False):
        """Predictive mean, and the standard deviation of new outcomes if asked for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        return_std : bool, default=False
            Whether to give the standard deviation as well.

        Returns
        -------
        y_mean : ndarray of shape (n_samples,)
            In the target's own units.
        y_std : ndarray of shape (n_samples,)
            Only with ``return_std``; noise included.
        """
        predictive = self._predictive(X)
        return (predictive.mean(), predictive.std()) if return_std else predictive.mean()

    def predict_interval(self, X, *, coverage=0.9):
        """Central intervals that hold new outcomes with a given probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        coverage : float, default=0.9
            Probability of each interval.

        Returns
        -------
        interval : ndarray of shape (n_samples, 2)
            Lower and upper ends.
        """
        return self.predict_quantiles(X, quantiles=tails_of(coverage))

    def predict_quantiles(self, X, *, quantiles=(0.05, 0.5, 0.95)):
        """Quantiles of new outcomes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        quantiles : sequence of float, default=(0.05, 0.5, 0.95)
            Probabilities between 0 and 1.

        Returns
        -------
        values : ndarray of shape (n_samples, n_quantiles)
            One column for each probability.
        """
        levels = np.atleast_1d(np.asarray(quantiles, float))
        if not np.all((levels > 0) & (levels < 1)):
            raise OptionError(f"quantiles must be probabilities between 0 and 1, not {quantiles!r}")
        predictive = self._predictive(X)
        return np.stack([predictive.quantile(float(level)) for level in levels], axis=1)

    def log_scores(self, X, y):
        """Log predictive density of each outcome, on its original scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Their outcomes.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats.
        """
        predictive = self._predictive(X)
        x = np.empty((len(predictive.mean()), 0))
        return predictive.log_density(self._targets(y, x))

    def uncertainty(self, X):
        """Variance of new outcomes, split into what more data could and could not take away.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.

        Returns
        -------
        uncertainty : dict of str to ndarray of shape (n_samples,)
            Variances ``total``, ``aleatoric`` (the noise) and ``epistemic`` (not knowing the function).
        """
        return _variances(self._predictive(X))

    def predict_summary(self, X, *, coverage=0.9):
        """All that is usually asked of a prediction, for the price of one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        coverage : float, default=0.9
            Probability with which new outcomes lie between the bounds.

        Returns
        -------
        summary : dict of str to ndarray of shape (n_samples,)
            ``mean`` and ``std`` as of ``predict``, ``low`` and ``high`` as of ``predict_interval``, and the variances
            ``total``, ``aleatoric`` and ``epistemic`` as of ``uncertainty``.
        """
        low, high = tails_of(coverage)
        predictive = self._predictive(X)
        variances = _variances(predictive)
        return {
            "mean": predictive.mean(),
            "std": np.sqrt(variances["total"]),
            "low": predictive.quantile(low),
            "high": predictive.quantile(high),
            **variances,
        }

    def sample_y(self, X, n_samples=1, random_state=0):
        """Random outcomes of new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
            New rows.
        n_samples : int, default=1
            Outcomes of each row, independent of each other.
        random_state : int, RandomState instance or None, default=0
            Of the draws.

        Returns
        -------
        y_samples : ndarray of shape (n_samples_X, n_samples)
            In the target's own units.
        """
        rng = generator(random_state)
        return self._predictive(X).sample(rng, int(n_samples))


LEAST_SPREAD = 1e-150
"""Of outcomes; below, and above its inverse, there are no variances."""


def units_of(targets: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of outcomes; a constant has the unit one."""
    if len(targets) < 2:
        raise DataError("n_samples=1: one sample says nothing about noise; give at least 2 rows")
    offset, scale = (float(found[0]) for found in moments(targets[:, None], weights))
    if scale <= 1e-12 * abs(offset):
        return offset, 1.0
    if scale and not LEAST_SPREAD < scale < 1 / LEAST_SPREAD:
        raise DataError(
            f"y has a standard deviation of {scale:.3g}, whose square no float64 holds: give y in other units"
        )
    return offset, scale or 1.0


def _variances(predictive: Any) -> dict[str, np.ndarray]:
    """Total, aleatoric and epistemic."""
    aleatoric, epistemic = predictive.aleatoric_variance(), predictive.epistemic_variance()
    return {"total": aleatoric + epistemic, "aleatoric": aleatoric, "epistemic": epistemic}
