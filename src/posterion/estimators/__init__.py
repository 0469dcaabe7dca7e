"""Estimators with scikit-learn's interface: Bayesian networks and linear models that need no tuning."""

from posterion._optional import import_optional

import_optional("sklearn", "sklearn", "Estimators")

from posterion.estimators.linear_models import (  # noqa: E402
    BayesianLinearRegression,
    BayesianLogisticRegression,
    BayesianPoissonRegressor,
)
from posterion.estimators.mlp import BayesianMLPClassifier, BayesianMLPRegressor  # noqa: E402

__all__ = [
    "BayesianLinearRegression",
    "BayesianLogisticRegression",
    "BayesianMLPClassifier",
    "BayesianMLPRegressor",
    "BayesianPoissonRegressor",
]
