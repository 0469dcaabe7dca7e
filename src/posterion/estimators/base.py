"""What all estimators share: scikit-learn's contract for data in, and for the two kinds of prediction out."""

import numbers
import os
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    _get_feature_names,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from posterion.errors import DataError, OptionError
from posterion.estimators import files
from posterion.estimators.classes import Logits, probability_intervals

SMALLEST = 1e-300


class AbstractEstimator(BaseEstimator):
    """Data in, files, and what does not depend on the kind of outcome."""

    _state: Any

    def _inputs(self, X: Any, *, reset: bool) -> np.ndarray:
        """The table as float64, with its columns checked or, with ``reset``, taken note of."""
        x: Any = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=False, ensure_min_samples=1)
        _refuse_missing(X, x, type(self).__name__)
        return x

    def _row_weights(self, sample_weight: Any, x: np.ndarray) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weights.sum() > 0:
            raise DataError("all of sample_weight is zero, which leaves no rows to learn from")
        return weights

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


class AbstractRegressor(RegressorMixin, AbstractEstimator):
    """Predictions of a numeric outcome, from `_predictive`."""

    def _predictive(self, X: Any) -> Any:
        raise NotImplementedError

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
        return self.predict_quantiles(X, quantiles=_tails(coverage))

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

    def log_score(self, X, y, sample_weight=None):
        """Mean log predictive density of outcomes, on their original scale. More is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Their outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the mean.

        Returns
        -------
        score : float
            In nats.
        """
        return float(np.average(self.log_scores(X, y), weights=sample_weight))

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
        predictive = self._predictive(X)
        aleatoric, epistemic = predictive.aleatoric_variance(), predictive.epistemic_variance()
        return {"total": aleatoric + epistemic, "aleatoric": aleatoric, "epistemic": epistemic}

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
        low, high = _tails(coverage)
        predictive = self._predictive(X)
        aleatoric, epistemic = predictive.aleatoric_variance(), predictive.epistemic_variance()
        return {
            "mean": predictive.mean(),
            "std": np.sqrt(aleatoric + epistemic),
            "low": predictive.quantile(low),
            "high": predictive.quantile(high),
            "total": aleatoric + epistemic,
            "aleatoric": aleatoric,
            "epistemic": epistemic,
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
        rng = _generator(random_state)
        return self._predictive(X).sample(rng, int(n_samples))


class AbstractClassifier(ClassifierMixin, AbstractEstimator):
    """Predictions of a class, from `_members`."""

    classes_: np.ndarray
    class_weight: Any

    def _members(self, X: Any) -> tuple[np.ndarray, list[Logits]]:
        raise NotImplementedError

    def _labelled(self, x: np.ndarray, y: Any, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that count: a class that only rows of no weight have is no class."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_consistent_length(x, y)
        present = weights > 0
        return x[present], y[present], weights[present]

    def _codes(self, y: Any, x: np.ndarray, classes: Any = None) -> np.ndarray:
        """Numbers of the classes; ``classes_`` is set from ``y``, or to ``classes`` if given."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_consistent_length(x, y)
        if y.dtype.kind == "f" and not np.all(np.isfinite(y)):
            raise DataError("Input y contains NaN or infinity; leave out the rows without a label")
        check_classification_targets(y)
        self.classes_ = np.unique(y if classes is None else np.asarray(classes))
        return self._numbers_of(y)

    def _numbers_of(self, y: np.ndarray) -> np.ndarray:
        try:
            place = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
            known = self.classes_[place] == y
        except TypeError:
            known = np.zeros(len(y), bool)
        if not np.all(known):
            strange = np.unique(np.asarray(y, object)[~known].astype(str))[:5].tolist()
            raise DataError(
                f"y has labels that were not seen in training: {strange}; the classes are {self.classes_.tolist()}. "
                "Leave these rows out, or fit with examples of them"
            )
        return place

    def _class_weights(self, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Row weights times those of the rows' classes."""
        chosen = self.class_weight
        if chosen is None:
            return weights
        labels = self.classes_[codes]
        present = np.unique(labels)
        factors = np.ones(len(self.classes_))
        usable = {k: v for k, v in chosen.items() if k in present} if isinstance(chosen, dict) else chosen
        factors[np.searchsorted(self.classes_, present)] = compute_class_weight(usable, classes=present, y=labels)
        return weights * factors[codes]

    def _require_two_classes(self) -> None:
        if len(self.classes_) < 2:
            raise DataError(
                f"y holds one class only, {self.classes_.tolist()}; a classifier needs examples of at least two classes"
            )

    def _expectations(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predictive probabilities, and the expected entropy."""
        return _expectations_of(*self._members(X))

    def predict_proba(self, X):
        """Probabilities of the classes, averaged over the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns as in ``classes_``.
        """
        return self._expectations(X)[0]

    def predict_log_proba(self, X):
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Columns as in ``classes_``.
        """
        return np.log(np.maximum(self.predict_proba(X), SMALLEST))

    def predict(self, X):
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Out of ``classes_``.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def log_score(self, X, y, sample_weight=None):
        """Mean log predictive probability of labels. More is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the mean.

        Returns
        -------
        score : float
            In nats.
        """
        return float(np.average(self.log_scores(X, y), weights=sample_weight))

    def log_scores(self, X, y):
        """Log predictive probability of each label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats.
        """
        log = self.predict_log_proba(X)
        y = column_or_1d(np.asarray(y))
        check_consistent_length(log, y)
        return log[np.arange(len(y)), self._numbers_of(y)]

    def uncertainty(self, X):
        """Entropy of the predicted class, split into what more data could and could not take away.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.

        Returns
        -------
        uncertainty : dict of str to ndarray of shape (n_samples,)
            Entropies in nats: ``total``, ``aleatoric`` (expected under the posterior) and ``epistemic``, their
            difference: the mutual information between the class and the function.
        """
        return _entropies(*self._expectations(X))

    def predict_proba_interval(self, X, *, coverage=0.9):
        """Central credible intervals of each class's probability: what it might be if the function were known.

        They say how far more data could move a probability; the outcome of a row is one class all the same. Where the
        posterior is so skewed that its mean lies beyond a quantile, the interval reaches to the mean.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        coverage : float, default=0.9
            Posterior probability of each interval.

        Returns
        -------
        interval : ndarray of shape (n_samples, n_classes, 2)
            Lower and upper ends; classes as in ``classes_``.
        """
        tails = _tails(coverage)
        weights, members = self._members(X)
        return _around(_expectations_of(weights, members)[0], probability_intervals(weights, members, tails))

    def predict_summary(self, X, *, coverage=0.9):
        """All that is usually asked of a prediction, for the price of one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        coverage : float, default=0.9
            Posterior probability between the bounds of a class's probability.

        Returns
        -------
        summary : dict of str to ndarray
            ``probabilities``, ``low`` and ``high`` of shape (n_samples, n_classes), as of ``predict_proba`` and
            ``predict_proba_interval``; ``total``, ``aleatoric`` and ``epistemic`` of shape (n_samples,), as of
            ``uncertainty``.
        """
        tails = _tails(coverage)
        weights, members = self._members(X)
        probabilities, entropy = _expectations_of(weights, members)
        interval = _around(probabilities, probability_intervals(weights, members, tails))
        bounds = {"low": interval[..., 0], "high": interval[..., 1]}
        return {"probabilities": probabilities} | bounds | _entropies(probabilities, entropy)

    def sample_y(self, X, n_samples=1, random_state=0):
        """Random labels of new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
            New rows.
        n_samples : int, default=1
            Labels of each row, independent of each other.
        random_state : int, RandomState instance or None, default=0
            Of the draws.

        Returns
        -------
        y_samples : ndarray of shape (n_samples_X, n_samples)
            Out of ``classes_``.
        """
        cumulative = self.predict_proba(X).cumsum(axis=1)
        uniform = _generator(random_state).random((len(cumulative), int(n_samples)))
        codes = (uniform[:, :, None] > cumulative[:, None, :]).sum(axis=2)
        return self.classes_[np.minimum(codes, len(self.classes_) - 1)]


def _tails(coverage: Any) -> tuple[float, float]:
    """The levels between which a central interval lies."""
    if not (isinstance(coverage, numbers.Real) and 0 < float(coverage) < 1):
        raise OptionError(f"coverage must be a number between 0 and 1, not {coverage!r}")
    tail = (1 - float(coverage)) / 2
    return tail, 1 - tail


def _expectations_of(weights: np.ndarray, members: list[Logits]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and entropy, both expected over members and their functions."""
    probabilities, entropy = 0.0, 0.0
    for weight, logits in zip(weights, members, strict=True):
        p, h = logits.expectations()
        probabilities, entropy = probabilities + weight * p, entropy + weight * h
    probabilities = np.asarray(probabilities)
    return probabilities / probabilities.sum(axis=1, keepdims=True), np.asarray(entropy)


def _around(probabilities: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Intervals that hold their probabilities."""
    return np.stack([np.minimum(intervals[..., 0], probabilities), np.maximum(intervals[..., 1], probabilities)], -1)


def _entropies(probabilities: np.ndarray, expected: np.ndarray) -> dict[str, np.ndarray]:
    """Total, aleatoric and epistemic, from the probabilities and the expected entropy."""
    total = -(probabilities * np.log(np.maximum(probabilities, SMALLEST))).sum(axis=1)
    epistemic = np.maximum(total - expected, 0)
    return {"total": total, "aleatoric": total - epistemic, "epistemic": epistemic}


def _generator(random_state: Any) -> np.random.Generator:
    """A generator from whatever scikit-learn accepts."""
    return np.random.default_rng(check_random_state(random_state).randint(0, 2**31 - 1, size=4))


def _refuse_missing(X: Any, x: np.ndarray, who: str) -> None:
    """Name the first column with a missing or infinite value."""
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
