"""Bayesian multilayer perceptrons with scikit-learn's interface."""

from typing import Any

import numpy as np

from posterion.estimators import ensemble
from posterion.estimators.classes import Logits
from posterion.estimators.classifier import AbstractClassifier
from posterion.estimators.ensemble import Calibration, HeldOut
from posterion.estimators.fitting import AbstractMLP
from posterion.estimators.gauss_newton import PATIENCE
from posterion.estimators.likelihoods import Bernoulli, Categorical, Likelihood, StudentT
from posterion.estimators.predictive import NumericPrediction
from posterion.estimators.regressor import AbstractRegressor, units_of


class BayesianMLPRegressor(AbstractRegressor, AbstractMLP):
    """Bayesian neural networks for a numeric outcome: calibrated distributions, nothing to tune.

    An ensemble of networks, each with a posterior of its own around its mode. Inputs and target are scaled inside;
    scales of the priors and the noise are learned; noise may have long tails.

    Parameters
    ----------
    hidden_layer_sizes : 'auto', int or tuple of int, default='auto'
        Units of the hidden layers. By default what the number of rows and columns suggests (see Notes).
    n_members : 'auto' or int, default='auto'
        Networks, each from random weights of its own: 10 small ones or 5 larger ones by default.
    early_stopping : bool, default=True
        Whether each network leaves out some rows, to stop by and to calibrate with. Never done below 60 different rows.
    validation_fraction : 'auto' or float, default='auto'
        Share of the rows that each network leaves out; by default one over the number of networks, or a tenth that all
        leave out where larger networks meet 4,000 rows.
    batch_size : 'auto' or int, default='auto'
        Rows per step of larger networks.
    max_iter : 'auto' or int, default='auto'
        Gauss-Newton iterations of small networks, 60 by default; epochs of larger ones.
    learning_rate : float, default=0.005
        Largest step size of larger networks.
    tol : float, default=1e-4
        Change of the log evidence per row at which small networks have settled.
    warm_start : bool, default=False
        Whether the next ``fit`` starts from the weights of the last one, where shapes are the same. The same rows are
        left out again.
    n_jobs : int, default=None
        Threads over which networks are spread; -1 means all processors.
    random_state : int, RandomState instance or None, default=None
        Of starting weights, left-out rows and the order of rows.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if they are strings.
    n_iter_ : int
        Iterations, or steps, of the longest fit.

    See Also
    --------
    BayesianLinearRegression : Where the function is linear.

    Notes
    -----
    Up to about 600 weights and a few thousand rows, each network is a mode found by Gauss-Newton steps, with prior
    scales and noise chosen by the evidence on the way and a full Laplace covariance. Otherwise one layer of 64 units is
    trained on mini-batches with a Kronecker-factored covariance; a million rows go this way by themselves. Functions
    are linearised around the modes, so that uncertainty grows where there are no data. Equal rows count as one when
    rows are left out, and neither their order nor a weight in place of a repetition changes a small network's fit.

    Examples
    --------
    >>> import numpy as np
    >>> from posterion.estimators import BayesianMLPRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-3, 3, size=(200, 1))
    >>> y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=200)
    >>> model = BayesianMLPRegressor(n_members=2, random_state=0).fit(X, y)
    >>> mean, std = model.predict([[0.0], [30.0]], return_std=True)
    >>> bool(std[1] > 2 * std[0])
    True
    """

    _small_units = ((12, 8), (10, 6), (8, 4))
    _small_members = 10
    _patience = None
    _look_for_codes = False
    _relevance = False
    _tries_inputs = False

    def _learn(self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, continued: bool) -> None:
        if continued:
            offset, scale = self._state["units"]
        else:
            offset, scale = units_of(targets, weights)
        super()._learn(x, (targets - offset) / scale, weights, continued=continued)
        self._state["units"] = (offset, scale)

    def _likelihoods(self) -> tuple[int, list[Likelihood]]:
        return 1, [StudentT(), StudentT(freedom=5.0)]

    def _calibrate(self, held: list[HeldOut], targets: np.ndarray, weights: np.ndarray) -> tuple[Calibration, float]:
        return ensemble.calibrate_numeric(held, targets, weights)

    def _predictive(self, X: Any) -> NumericPrediction:
        functions = self._functions(X)
        calibration: Calibration = self._state["calibration"]
        members = self._state["members"]
        noise = np.array([[member.mode.likelihood.variance] for member in members]) * calibration.noise
        return NumericPrediction(
            np.full(len(members), 1 / len(members)),
            np.stack([mean[:, 0] for mean, _ in functions]),
            noise,
            np.stack([np.maximum(covariance[:, 0, 0], 0) for _, covariance in functions]) * calibration.spread,
            np.full(len(members), calibration.freedom),
        ).in_units_of(*self._state["units"])


class BayesianMLPClassifier(AbstractClassifier, AbstractMLP):
    """Bayesian neural networks for classes: calibrated probabilities, nothing to tune.

    An ensemble of networks, each with a posterior of its own around its mode. Inputs are scaled inside, and columns of
    a few whole numbers are taken for categories as well as numbers; scales of the priors are learned.

    Parameters
    ----------
    hidden_layer_sizes : 'auto', int or tuple of int, default='auto'
        Units of the hidden layers. By default what the number of rows and columns suggests (see Notes).
    n_members : 'auto' or int, default='auto'
        Networks, each from random weights of its own: 5 small ones or 5 larger ones by default.
    class_weight : dict or 'balanced', default=None
        Weights of the classes.
    early_stopping : bool, default=True
        Whether each network leaves out some rows, to stop by and to calibrate with. Never done below 60 different rows.
        Without, only the first networks that choose the inputs (from 4,000 rows on) leave rows out.
    validation_fraction : 'auto' or float, default='auto'
        Share of the rows that each network leaves out; by default one over the number of networks, or a tenth that all
        leave out where larger networks meet 4,000 rows.
    batch_size : 'auto' or int, default='auto'
        Rows per step of larger networks.
    max_iter : 'auto' or int, default='auto'
        Gauss-Newton iterations of small networks, 60 by default; epochs of larger ones.
    learning_rate : float, default=0.005
        Largest step size of larger networks.
    tol : float, default=1e-4
        Change of the log evidence per row at which small networks have settled.
    warm_start : bool, default=False
        Whether the next ``fit`` starts from the weights of the last one, where shapes are the same. The same rows are
        left out again, and from 4,000 rows on a last fit that says nothing of them, as one to another target, is not
        gone on with.
    n_jobs : int, default=None
        Threads over which networks are spread; -1 means all processors.
    random_state : int, RandomState instance or None, default=None
        Of starting weights, left-out rows and the order of rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if they are strings.
    n_iter_ : int
        Iterations, or steps, of the longest fit.

    See Also
    --------
    BayesianLogisticRegression : Where the logits are linear.

    Notes
    -----
    Up to about 600 weights and a few thousand rows, each network is a mode found by Gauss-Newton steps, with prior
    scales chosen by the evidence on the way and a full Laplace covariance. Otherwise one layer of 64 units, or two of
    128 and 64, are trained on mini-batches with a Kronecker-factored covariance; a million rows go this way by
    themselves, and from 4,000 on two first networks decide whether numbers are given in pieces between quantiles
    besides, and of two classes by the log odds that each number has alone; a third one whether a single layer of 128
    units does. Functions are linearised around the modes, so that uncertainty grows where there are no data. Equal rows
    count as one when rows are left out, and neither their order nor a weight in place of a repetition changes a small
    network's fit.

    References
    ----------
    .. [1] Gorishniy, Rubachev and Babenko (2022), On embeddings for numerical features in tabular deep learning.
       NeurIPS.
    .. [2] Boullé (2006), MODL: a Bayes optimal discretization method for continuous attributes. Machine Learning 65.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from posterion.estimators import BayesianMLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BayesianMLPClassifier((5,), n_members=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _small_units = ((20,), (16,), (12,), (10,), (8,))
    _small_members = 5
    _patience = PATIENCE
    _look_for_codes = True
    _relevance = True
    _tries_inputs = True

    def __init__(
        self,
        hidden_layer_sizes="auto",
        *,
        n_members="auto",
        class_weight=None,
        early_stopping=True,
        validation_fraction="auto",
        batch_size="auto",
        max_iter="auto",
        learning_rate=0.005,
        tol=1e-4,
        warm_start=False,
        n_jobs=None,
        random_state=None,
    ):
        self.class_weight = class_weight
        super().__init__(
            hidden_layer_sizes,
            n_members=n_members,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            batch_size=batch_size,
            max_iter=max_iter,
            learning_rate=learning_rate,
            tol=tol,
            warm_start=warm_start,
            n_jobs=n_jobs,
            random_state=random_state,
        )

    def _likelihoods(self) -> tuple[int, list[Likelihood]]:
        binary = len(self.classes_) == 2
        return (1, [Bernoulli()]) if binary else (len(self.classes_), [Categorical()])

    def _calibrate(self, held: list[HeldOut], targets: np.ndarray, weights: np.ndarray) -> tuple[Calibration, float]:
        return ensemble.calibrate_classes(held, targets, weights)

    def _members(self, X: Any) -> tuple[np.ndarray, list[Logits]]:
        functions = self._functions(X)
        calibration: Calibration = self._state["calibration"]
        members = [Logits(*f).scaled(calibration.temperature, calibration.spread, calibration.shift) for f in functions]
        return np.full(len(members), 1 / len(members)), members
