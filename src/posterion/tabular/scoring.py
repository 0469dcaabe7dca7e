"""How good predictions of held-out rows are, beside those of simple models that saw the same training rows."""

from typing import Any

import numpy as np

from posterion.tabular.targets import Task

_LEAST_SPREAD = 1e-12
_SEVERAL_THREADS_FROM = 50_000
"""Rows below which a baseline learns with one thread. Several gain little there, and on a processor that is busy with
something else they wait for each other longer than they work: boosting of 3,000 rows took up to 15 s, not 0.3 s."""


def score_classes(probabilities: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """Scores of class probabilities.

    Parameters
    ----------
    probabilities
        Shape (rows, classes).
    codes
        Number of each row's class.
    """
    from posterion import decisions

    p = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return {
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == codes)),
        "log_score": float(decisions.log_score(p, codes)),
        "brier": float(decisions.brier_score(p, codes)),
        "calibration_error": float(decisions.expected_calibration_error(p, codes)),
    }


def score_numbers(
    mean: np.ndarray, outcomes: np.ndarray, log_score: float, covered: np.ndarray | None = None
) -> dict[str, float]:
    """Scores of predicted numbers; ``covered`` says which outcomes lay in their 90 % interval."""
    error = outcomes - mean
    found = {
        "log_score": log_score,
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2": float(1 - np.mean(error**2) / max(float(np.var(outcomes)), _LEAST_SPREAD)),
    }
    return found if covered is None else found | {"coverage_90": float(np.mean(covered))}


def baselines(
    task: Task, train: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray], seed: int
) -> dict[str, dict[str, float]]:
    """Scores on held-out rows of a constant, a linear model and gradient boosting, each with its defaults.

    Parameters
    ----------
    task
        Of the target.
    train, held
        Features and outcomes (codes of the classes, or numbers).
    seed
        Of whatever is random in them.
    """
    from threadpoolctl import threadpool_limits

    models = _models(task, len(train[0]), seed)  # loads the libraries whose threads are limited
    with threadpool_limits(1 if len(train[0]) < _SEVERAL_THREADS_FROM else None):
        return {name: _baseline(task, model, train, held) for name, model in models.items()}


def _baseline(
    task: Task, model: Any, train: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    (x, y), (x_held, y_held) = train, held
    if task != "classification":
        return _numeric_baseline(model, x, y, x_held, y_held)
    model.fit(x, y)
    probabilities = np.zeros((len(x_held), int(max(y.max(), y_held.max())) + 1))
    probabilities[:, model.classes_.astype(int)] = model.predict_proba(x_held)
    return score_classes(_off_the_edge(probabilities), y_held)


def _models(task: Task, rows: int, seed: int) -> dict[str, Any]:
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if task == "classification":
        return {
            "constant": DummyClassifier(strategy="prior"),
            "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            "gradient boosting": HistGradientBoostingClassifier(random_state=seed),
        }
    return {
        "constant": DummyRegressor(),
        "linear regression": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))),
        "gradient boosting": HistGradientBoostingRegressor(random_state=seed),
    }


def _numeric_baseline(
    model: Any, x: np.ndarray, y: np.ndarray, x_held: np.ndarray, y_held: np.ndarray
) -> dict[str, float]:
    """A model without a spread of its own gets the one that its errors in cross-validation have."""
    from scipy.stats import norm
    from sklearn.model_selection import cross_val_predict

    folds = min(5, len(x))
    spread = max(float(np.std(y - cross_val_predict(model, x, y, cv=folds))), _LEAST_SPREAD)
    mean = model.fit(x, y).predict(x_held)
    inside = np.abs(y_held - mean) <= norm.ppf(0.95) * spread
    return score_numbers(mean, y_held, float(np.mean(norm.logpdf(y_held, mean, spread))), inside)


def _off_the_edge(probabilities: np.ndarray) -> np.ndarray:
    """No probability of exactly zero, of which a single row would make the log score infinite."""
    clipped = np.clip(probabilities, 1e-6, None)
    return clipped / clipped.sum(axis=1, keepdims=True)
