"""What all estimators of classes share: labels in, probabilities with bounds, scores and uncertainty out."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    column_or_1d,
)

from posterion.errors import DataError
from posterion.estimators.base import SMALLEST, AbstractEstimator, generator, tails_of
from posterion.estimators.classes import Logits, probability_intervals


class AbstractClassifier(ClassifierMixin, AbstractEstimator):
    """Predictions of a class, from `_members`."""

    classes_: np.ndarray
    class_weight: Any

    def _members(self, X: Any) -> tuple[np.ndarray, list[Logits]]:
        raise NotImplementedError

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Learn from more rows: the posterior so far is the prior. Inputs and their scales are those of the first rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be; needed at the first call if the first rows do not show them all.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        self
            Fitted.
        """
        continued = hasattr(self, "_state")
        classes = self.classes_ if continued else classes
        return self._learn_rows(X, y, sample_weight, continued=continued, classes=classes)

    def _learn_rows(self, X: Any, y: Any, sample_weight: Any, *, continued: bool, classes: Any = None) -> Any:
        x = self._inputs(X, reset=not continued)
        x, y, weights = self._labelled(x, y, self._row_weights(sample_weight, x))
        codes = self._codes(y, classes)
        if len(self.classes_) < 2:
            raise DataError(
                f"y holds one class only, {self.classes_.tolist()}; a classifier needs examples of at least two classes"
            )
        self._learn(x, codes.astype(float), self._class_weights(codes, weights), continued=continued)
        return self

    def _labelled(self, x: np.ndarray, y: Any, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that count: a class that only rows of no weight have is no class."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_consistent_length(x, y)
        present = weights > 0
        return x[present], y[present], weights[present]

    def _codes(self, y: np.ndarray, classes: Any) -> np.ndarray:
        """Numbers of the classes; ``classes_`` is set from ``y``, or to ``classes`` if given."""
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

    def _expectations(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predictive probabilities, and the expected entropy."""
        return _expectations_of(*self._members(X))

    def _bounded(self, X: Any, coverage: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same, and intervals of the probabilities."""
        tails = tails_of(coverage)
        weights, members = self._members(X)
        probabilities, entropy = _expectations_of(weights, members)
        return probabilities, entropy, _around(probabilities, probability_intervals(weights, members, tails))

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
        return self._bounded(X, coverage)[2]

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
        probabilities, entropy, interval = self._bounded(X, coverage)
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
        uniform = generator(random_state).random((len(cumulative), int(n_samples)))
        codes = (uniform[:, :, None] > cumulative[:, None, :]).sum(axis=2)
        return self.classes_[np.minimum(codes, len(self.classes_) - 1)]


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
