"""Bayesian linear, logistic and Poisson regression with scikit-learn's interface."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from posterion.errors import DataError
from posterion.estimators.base import AbstractEstimator
from posterion.estimators.classes import Logits
from posterion.estimators.classifier import AbstractClassifier
from posterion.estimators.counts import CountPrediction
from posterion.estimators.likelihoods import Bernoulli, Categorical, Likelihood, Poisson
from posterion.estimators.linear import GridPosterior, LinearGaussian, LinearPosterior
from posterion.estimators.network import Network
from posterion.estimators.predictive import NumericPrediction
from posterion.estimators.regressor import AbstractRegressor, units_of
from posterion.estimators.threads import one_thread


class BayesianLinearRegression(AbstractRegressor):
    """Linear regression whose posterior is exact: coefficients, noise and the prior's scale are integrated out.

    Inputs and target are scaled inside. Coefficients have a normal prior whose scale relative to the noise has a
    half-Cauchy prior, the noise a weak inverse gamma prior, and the intercept a flat one. There is nothing to tune.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Posterior mean of the coefficients, in the units of the columns and the target.
    coef_std_ : ndarray of shape (n_features,)
        Their posterior standard deviations.
    intercept_ : float
        Posterior mean of the intercept.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if they are strings.

    See Also
    --------
    BayesianMLPRegressor : Where the function is not linear.

    Examples
    --------
    >>> import numpy as np
    >>> from posterion.estimators import BayesianLinearRegression
    >>> X = np.arange(20.0)[:, None]
    >>> model = BayesianLinearRegression().fit(X, 3 * X[:, 0] + 1)
    >>> model.predict([[10.0]]).round(1)
    array([31.])
    """

    def _learn(self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, continued: bool) -> None:
        if continued:
            columns, offset, scale = (self._state[name] for name in ("columns", "offset", "scale"))
        else:
            columns = self._columns_of(x, weights, codes=False, compress=False)
            offset, scale = units_of(targets, weights)
        sums = LinearGaussian.of(columns.inputs(x), (targets - offset) / scale, weights)
        if continued:
            sums = self._state["sums"].plus(sums)
        posterior = sums.posterior()
        self._state = {"columns": columns, "offset": offset, "scale": scale, "sums": sums, "posterior": posterior}
        deviations = np.sqrt(np.diag(posterior.covariance()))
        self.coef_, self.coef_std_ = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        self.coef_[columns.kept] = scale * (posterior.weights @ posterior.coefficients) / columns.scale
        self.coef_std_[columns.kept] = scale * deviations / columns.scale
        middle = offset + scale * float(posterior.weights @ posterior.intercepts)
        self.intercept_ = float(middle - self.coef_[columns.kept] @ columns.mean)

    def _predictive(self, X: Any) -> NumericPrediction:
        x = self._table(X)
        posterior: LinearPosterior = self._state["posterior"]
        return posterior.predict(self._state["columns"].inputs(x)).in_units_of(
            self._state["offset"], self._state["scale"]
        )


class _AbstractGeneralised(AbstractEstimator):
    """Fits of models whose posterior is Laplace's on a grid of prior precisions."""

    max_iter: int
    tol: float
    coef_: Any
    intercept_: Any

    def _likelihood(self) -> tuple[int, Likelihood]:
        """Number of outputs, and the likelihood."""
        raise NotImplementedError

    def _learn(self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, continued: bool) -> None:
        with one_thread():
            if continued:
                columns, network = self._state["columns"], self._state["network"]
                posterior, self.n_iter_ = self._state["posterior"].updated(
                    network, columns.inputs(x), targets, weights, max_iter=self.max_iter, tol=self.tol
                )
            else:
                outputs, likelihood = self._likelihood()
                columns = self._columns_of(x, weights, codes=False, compress=False)
                network = Network(columns.features, (), outputs)
                start = np.zeros(network.size)
                if isinstance(likelihood, Poisson):
                    start[-1] = np.log(max(np.average(targets, weights=weights), 1e-3))
                posterior, self.n_iter_ = GridPosterior.of(
                    network,
                    likelihood,
                    start,
                    columns.inputs(x),
                    targets,
                    weights,
                    max_iter=self.max_iter,
                    tol=self.tol,
                )
        self._state = {"columns": columns, "network": network, "posterior": posterior}
        self._set_coefficients(x.shape[1])

    def _set_coefficients(self, columns_in: int) -> None:
        columns, network = self._state["columns"], self._state["network"]
        mean = self._state["posterior"].mean().reshape(network.shapes[0])
        coefficients = np.zeros((network.outputs, columns_in))
        coefficients[:, columns.kept] = (mean[:-1] / columns.scale[:, None]).T
        self.intercept_ = mean[-1] - coefficients[:, columns.kept] @ columns.mean
        self.coef_ = coefficients

    def _functions(self, X: Any) -> tuple[np.ndarray, list[Logits]]:
        x = self._table(X)
        posterior, inputs = self._state["posterior"], self._state["columns"].inputs(x)
        with one_thread():
            members = [Logits(*mode.predict(self._state["network"], inputs)) for mode in posterior.modes]
        return posterior.weights, members


class BayesianLogisticRegression(AbstractClassifier, _AbstractGeneralised):
    """Logistic regression, binary or multinomial, averaged over its posterior.

    Inputs are scaled inside. The posterior is Laplace's approximation at each of a grid of prior scales, weighted by
    its evidence, so there is no regularisation to tune; probabilities are averaged over it.

    Parameters
    ----------
    class_weight : dict or 'balanced', default=None
        Weights of the classes.
    max_iter : int, default=100
        Newton steps at most, for each prior scale.
    tol : float, default=1e-10
        Change of the log evidence per row at which they end.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    coef_ : ndarray of shape (1 or n_classes, n_features)
        Posterior means of the coefficients.
    intercept_ : ndarray of shape (1 or n_classes,)
        Posterior means of the intercepts.
    n_features_in_ : int
        Number of columns.
    n_iter_ : int
        Newton steps of the slowest fit.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from posterion.estimators import BayesianLogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(BayesianLogisticRegression().fit(X, y).score(X, y) > 0.95)
    True
    """

    def __init__(self, *, class_weight=None, max_iter=100, tol=1e-10):
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol

    def _likelihood(self) -> tuple[int, Likelihood]:
        return (1, Bernoulli()) if len(self.classes_) == 2 else (len(self.classes_), Categorical())

    def _members(self, X: Any) -> tuple[np.ndarray, list[Logits]]:
        return self._functions(X)


class BayesianPoissonRegressor(AbstractRegressor, _AbstractGeneralised):
    """Regression of counts with a log-linear rate, averaged over its posterior.

    Inputs are scaled inside. The posterior is Laplace's approximation at each of a grid of prior scales, weighted by
    its evidence, so there is no regularisation to tune.

    Parameters
    ----------
    max_iter : int, default=100
        Newton steps at most, for each prior scale.
    tol : float, default=1e-10
        Change of the log evidence per row at which they end.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Posterior means of the coefficients of the log rate.
    intercept_ : float
        Posterior mean of the intercept.
    n_features_in_ : int
        Number of columns.
    n_iter_ : int
        Newton steps of the slowest fit.

    Examples
    --------
    >>> import numpy as np
    >>> from posterion.estimators import BayesianPoissonRegressor
    >>> X = np.linspace(0, 2, 200)[:, None]
    >>> y = np.random.default_rng(0).poisson(np.exp(X[:, 0]))
    >>> model = BayesianPoissonRegressor().fit(X, y)
    >>> bool(abs(model.coef_[0] - 1) < 0.3)
    True
    """

    def __init__(self, *, max_iter=100, tol=1e-10):
        self.max_iter = max_iter
        self.tol = tol

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def _likelihood(self) -> tuple[int, Likelihood]:
        return 1, Poisson()

    def _learn(self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, continued: bool) -> None:
        if np.any(targets < 0):
            raise DataError(f"y must be counts, from 0 on; the smallest is {targets.min():g}")
        super()._learn(x, targets, weights, continued=continued)
        self.coef_, self.intercept_ = self.coef_[0], self.intercept_.item()

    def _predictive(self, X: Any) -> CountPrediction:
        check_is_fitted(self, "_state")
        weights, members = self._functions(X)
        means = np.stack([logits.means[:, 0] for logits in members])
        variances = np.stack([logits.covariances[:, 0, 0] for logits in members])
        return CountPrediction(weights, means, np.maximum(variances, 0))
