"""scikit-learn's contract: its own checks without exceptions, and the tools that estimators are put into."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, make_regression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import posterion as po
from posterion.errors import DataError, OptionError, PosteriorFileError
from posterion.estimators import (
    BayesianLinearRegression,
    BayesianLogisticRegression,
    BayesianMLPClassifier,
    BayesianMLPRegressor,
    BayesianPoissonRegressor,
)

# Small, so that the 300 checks take seconds: sizes and budgets are options, the code is the same.
MLP = {"n_members": 1, "max_iter": 20, "random_state": 0}
CASES = [
    BayesianLinearRegression(),
    BayesianLogisticRegression(),
    BayesianPoissonRegressor(),
    BayesianMLPClassifier(**MLP),
    BayesianMLPRegressor(**MLP),
]
CLASSIFIERS = [BayesianLogisticRegression(), BayesianMLPClassifier((5,), **MLP)]
REGRESSORS = [BayesianLinearRegression(), BayesianPoissonRegressor(), BayesianMLPRegressor((5,), **MLP)]
name = lambda estimator: type(estimator).__name__


def counts(rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, 3))
    return x, rng.poisson(np.exp(0.5 * x[:, 0] + 1)).astype(float)


def labels(rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(rows, 3))
    return x, np.array(["no", "yes"])[(x[:, 0] + 0.5 * rng.normal(size=rows) > 0).astype(int)]


CHECKED = [
    pytest.param(
        case, marks=[] if name(case) in ("BayesianLinearRegression", "BayesianMLPClassifier") else pytest.mark.slow
    )
    for case in CASES
]


@pytest.mark.parametrize("estimator", CHECKED, ids=name)
def test_scikit_learn_checks_pass_without_exceptions(estimator):
    failed = []
    for instance, check in estimator_checks_generator(estimator):
        what = getattr(check, "func", check).__name__
        if what == "check_array_api_input":  # asks for an environment variable of SciPy's
            continue
        try:
            check(instance)
        except Exception as error:
            failed.append(f"{what}: {error}")
    assert not failed, "\n".join(failed)


def test_lazy_names_are_the_same_classes():
    assert po.BayesianMLPClassifier is BayesianMLPClassifier
    assert po.BayesianLinearRegression is BayesianLinearRegression


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name)
def test_classifiers_in_pipelines_searches_and_calibration(estimator):
    x, y = labels()
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).fit(x, y)
    assert pipeline.score(x, y) > 0.75
    assert cross_val_score(estimator, x, y, cv=2, scoring="neg_log_loss").mean() > -0.69
    search = GridSearchCV(estimator, {"max_iter": [10, 20]}, cv=2).fit(x, y)
    assert set(search.best_params_) == {"max_iter"}
    assert CalibratedClassifierCV(clone(estimator), cv=2).fit(x, y).predict_proba(x).shape == (len(x), 2)


def test_hidden_sizes_come_first_and_set_params_reaches_them():
    estimator = BayesianMLPClassifier((50, 50))
    assert estimator.get_params()["hidden_layer_sizes"] == (50, 50)
    assert clone(estimator).set_params(hidden_layer_sizes=(3,)).hidden_layer_sizes == (3,)


@pytest.mark.parametrize("estimator", [*CLASSIFIERS, *REGRESSORS], ids=name)
def test_files_and_pickles_predict_the_same(estimator, tmp_path):
    x, y = labels() if estimator in CLASSIFIERS else counts()
    frame = pd.DataFrame(x, columns=["age", "dose", "weight"])
    fitted = clone(estimator).fit(frame, y)
    fitted.save(tmp_path / "model.posterion")
    loaded = type(fitted).load(tmp_path / "model.posterion")
    unpickled = pickle.loads(pickle.dumps(fitted))
    for other in (loaded, unpickled):
        np.testing.assert_array_equal(other.feature_names_in_, ["age", "dose", "weight"])
        np.testing.assert_array_equal(fitted.predict(frame), other.predict(frame))
        for part, values in fitted.uncertainty(frame).items():
            np.testing.assert_array_equal(values, other.uncertainty(frame)[part])
        np.testing.assert_array_equal(fitted.sample_y(frame, 3), other.sample_y(frame, 3))
    assert loaded.get_params() == fitted.get_params()
    other_class = next(type(case) for case in CASES if type(case) is not type(fitted))
    with pytest.raises(PosteriorFileError, match=type(fitted).__name__):
        other_class.load(tmp_path / "model.posterion")


# ---- errors and odd data
@pytest.mark.parametrize("estimator", CASES, ids=name)
def test_missing_values_name_the_column_and_an_imputer(estimator):
    x, y = counts()
    frame = pd.DataFrame(x, columns=["age", "dose", "weight"])
    frame.loc[7, "dose"] = np.nan
    with pytest.raises(DataError, match=r"NaN in column 'dose' \(first in row 7\).*SimpleImputer"):
        clone(estimator).fit(frame, (y > y.mean()).astype(int))


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name)
def test_labels(estimator):
    x, y = labels()
    for kind in (lambda v: v.astype(object), lambda v: (v == "yes").astype(np.float64), lambda v: v == "yes"):
        fitted = clone(estimator).fit(x, kind(y))
        assert set(fitted.predict(x)) <= set(np.unique(kind(y)))
        assert -0.69 < fitted.log_score(x, kind(y)) < 0
    fitted = clone(estimator).fit(x, y)
    with pytest.raises(DataError, match=r"not seen in training: \['maybe'\].*'no', 'yes'"):
        fitted.log_score(x, np.where(y == "no", "maybe", y))
    with pytest.raises(DataError, match=r"one class only, \['no'\]"):
        clone(estimator).fit(x, np.full(len(x), "no"))
    with pytest.raises(ValueError, match="has 3 features|3 features as input"):
        fitted.predict(np.column_stack([x, x]))


@pytest.mark.parametrize("estimator", REGRESSORS, ids=name)
def test_odd_tables(estimator):
    x, y = counts()
    fitted = clone(estimator).fit(np.column_stack([x, np.full(len(x), 7.0)]), y)  # a column that never varies
    assert np.all(np.isfinite(fitted.predict(np.column_stack([x, np.full(len(x), 8.0)]))))
    constant = clone(estimator).fit(x, np.full(len(x), 5.0))
    mean, std = constant.predict(x, return_std=True)
    np.testing.assert_allclose(mean, 5.0, rtol=0.05)
    assert np.all(np.isfinite(std))
    if name(estimator) != "BayesianPoissonRegressor":
        with pytest.raises(ValueError, match="n_samples=1"):
            clone(estimator).fit(x[:1], y[:1])
        with pytest.raises(DataError, match="give y in other units"):
            clone(estimator).fit(x, 1e200 * y)


def test_weights_that_sum_to_one_are_shares_of_the_effective_rows():
    (rows, _), weights = counts(40), np.repeat([1.0, 3.0], 20)
    counted = BayesianLinearRegression().fit(rows, rows[:, 0], weights * weights.sum() / (weights @ weights))
    with pytest.warns(UserWarning, match="effective number of rows, 32"):
        shares = BayesianLinearRegression().fit(rows, rows[:, 0], weights / weights.sum())
    np.testing.assert_allclose(shares.coef_std_, counted.coef_std_)


def test_columns_that_float64_cannot_tell_apart_are_named():
    rows, _ = counts(40)
    table = pd.DataFrame({"size": rows[:, 0], "patient": 2**60 + np.arange(40), "one": 1.0})
    with pytest.warns(UserWarning, match=r"columns \['patient'\] are left out"):
        BayesianLinearRegression().fit(table, rows[:, 0])


def test_options_out_of_range():
    x, y = counts()
    for wrong in ({"hidden_layer_sizes": "big"}, {"hidden_layer_sizes": (0,)}, {"n_members": 0}, {"batch_size": -1}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            BayesianMLPRegressor(**wrong).fit(x, y)
    with pytest.raises(OptionError, match="validation_fraction"):
        BayesianMLPRegressor(validation_fraction=2.0).fit(x, y)
    fitted = BayesianLinearRegression().fit(x, y)
    with pytest.raises(OptionError, match="coverage"):
        fitted.predict_interval(x, coverage=90)
    with pytest.raises(DataError, match="counts"):
        BayesianPoissonRegressor().fit(x, -y)


@pytest.mark.slow
def test_a_million_rows_go_through_mini_batches():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_000_000, 4))
    p = 1 / (1 + np.exp(-(np.sin(2 * x[:, 0]) + x[:, 1])))
    y = rng.random(len(x)) < p
    fitted = BayesianMLPClassifier(n_members=1, random_state=0).fit(x, y)
    test = slice(0, 20_000)
    best = np.mean(np.where(y[test], np.log(p[test]), np.log1p(-p[test])))
    assert fitted.log_score(x[test], y[test]) > best - 0.01


def test_logistic_regression_is_no_worse_than_a_penalised_one():
    x, y = load_breast_cancer(return_X_y=True)
    x = x[:, :10]
    usual = make_pipeline(StandardScaler(), LogisticRegression(C=1.0)).fit(x[::2], y[::2])
    expected = -log_loss(y[1::2], usual.predict_proba(x[1::2]))
    assert BayesianLogisticRegression().fit(x[::2], y[::2]).log_score(x[1::2], y[1::2]) > expected - 0.02


def test_regression_intervals_hold_what_they_promise():
    x, y = make_regression(400, 4, noise=20.0, random_state=0)
    fitted = BayesianMLPRegressor(n_members=2, max_iter=25, random_state=0).fit(x[:200], y[:200])
    interval = fitted.predict_interval(x[200:], coverage=0.8)
    inside = np.mean((interval[:, 0] <= y[200:]) & (y[200:] <= interval[:, 1]))
    assert abs(inside - 0.8) < 4 * np.sqrt(0.16 / 200)
