"""What estimators say of each row: scores, intervals of probabilities, everything at once; and files of half size."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone

from posterion.errors import OptionError
from posterion.estimators import BayesianLogisticRegression, BayesianMLPClassifier, files
from posterion.estimators.classes import Logits, probability_intervals
from posterion.estimators.predictive import NumericPrediction
from posterion.estimators.roots import increasing_roots
from tests.estimators.test_contract import CLASSIFIERS, REGRESSORS, counts, labels, name


def three(rows=150):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 2))
    return x, np.digitize(x[:, 0] + 0.5 * rng.normal(size=rows), [-0.5, 0.5])


@pytest.mark.parametrize("estimator", REGRESSORS, ids=name)
def test_scores_of_rows_are_logarithms_of_the_density_between_quantiles(estimator):
    """The predicted density, summed up to a quantile, is the quantile's level."""
    x, y = counts()
    fitted = clone(estimator).fit(x, y)
    np.testing.assert_allclose(fitted.log_scores(x, y).mean(), fitted.log_score(x, y))
    row, levels = x[:1], (0.1, 0.5, 0.9)
    ends = fitted.predict_quantiles(row, quantiles=levels)[0]
    if name(estimator) == "BayesianPoissonRegressor":
        grid = np.arange(0, 400.0)
        mass = np.exp(fitted.log_scores(np.repeat(row, len(grid), axis=0), grid))
        np.testing.assert_allclose(mass.sum(), 1, atol=1e-6)
        np.testing.assert_array_equal([grid[np.cumsum(mass) >= level][0] for level in levels], ends)
        return
    mean, std = fitted.predict(row, return_std=True)
    grid = np.linspace(mean[0] - 60 * std[0], mean[0] + 60 * std[0], 60_001)
    density = np.exp(fitted.log_scores(np.repeat(row, len(grid), axis=0), grid))
    below = np.cumsum(density) * (grid[1] - grid[0])
    np.testing.assert_allclose(np.interp(ends, grid, below), levels, atol=2e-3)


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name)
def test_scores_of_rows_are_logarithms_of_their_probability(estimator):
    x, y = labels()
    fitted = clone(estimator).fit(x, y)
    p = fitted.predict_proba(x)
    np.testing.assert_allclose(fitted.log_scores(x, y), np.log(np.where(y == "yes", p[:, 1], p[:, 0])))
    np.testing.assert_allclose(fitted.log_scores(x, y).mean(), fitted.log_score(x, y))


def test_roots_are_found_wherever_they_are():
    """Flat parts, steep ones, and brackets of no width; against the inverse, which is known."""
    wanted = np.array([-30.0, -1e-9, 0.0, 0.3, 25.0, 7.0])
    low, high = np.array([-40.0, -1.0, -1.0, 0.0, -900.0, 7.0]), np.array([40.0, 1.0, 1.0, 1.0, 900.0, 7.0])
    steps = []

    def cube(x):
        steps.append(1)
        return (x - wanted) ** 3 + 0.5 * (x - wanted), 3 * (x - wanted) ** 2 + 0.5

    np.testing.assert_allclose(increasing_roots(cube, low, high), wanted, atol=1e-9)
    assert len(steps) < 30
    flat = lambda x: (np.tanh(50 * (x - 1.0)), 50 / np.cosh(np.minimum(50 * np.abs(x - 1.0), 300)) ** 2)
    np.testing.assert_allclose(increasing_roots(flat, np.array([-1e3]), np.array([2e3])), 1.0, atol=1e-9)


def test_quantiles_of_a_mixture_of_students_have_their_level():
    rng = np.random.default_rng(2)
    shape, freedoms = (3, 8), np.array([3.0, np.inf, 8.0])
    found = NumericPrediction(
        np.array([0.2, 0.5, 0.3]),
        9 * rng.normal(size=shape),
        rng.gamma(1.0, size=shape),
        rng.gamma(1.0, size=shape),
        freedoms,
    )
    for level in (1e-4, 0.05, 0.5, 0.999):
        ends = found.quantile(level)
        scales = np.sqrt(found.noise + found.function)
        below = sum(
            w * (stats.norm.cdf(z) if np.isinf(f) else stats.t.cdf(z, f))
            for w, z, f in zip(found.weights, (ends - found.locations) / scales, freedoms, strict=True)
        )
        np.testing.assert_allclose(below, level, rtol=1e-4)  # a million degrees of freedom stand for infinitely many


def test_intervals_of_two_classes_are_quantiles_of_the_mixture():
    rng = np.random.default_rng(0)
    weights = np.array([0.2, 0.5, 0.3])
    members = [Logits(rng.normal(size=(6, 1)), rng.gamma(2.0, 0.5, size=(6, 1, 1))) for _ in weights]
    interval = probability_intervals(weights, members, (0.05, 0.95))
    logit = np.log(interval[:, 1] / (1 - interval[:, 1]))
    below = sum(
        w * stats.norm.cdf(logit, m.means, np.sqrt(m.covariances[:, 0])) for w, m in zip(weights, members, strict=True)
    )
    np.testing.assert_allclose(below, np.tile([0.05, 0.95], (6, 1)), atol=1e-9)
    np.testing.assert_allclose(interval[:, 0], 1 - interval[:, 1, ::-1])


def test_intervals_of_three_classes_are_those_of_many_draws():
    rng = np.random.default_rng(1)
    weights = np.array([0.7, 0.3])
    roots = [rng.normal(size=(4, 3, 3)) * 0.6 for _ in weights]
    members = [Logits(rng.normal(size=(4, 3)), root @ root.transpose(0, 2, 1)) for root in roots]
    interval = probability_intervals(weights, members, (0.05, 0.95))
    which = rng.choice(2, p=weights, size=40_000)
    normals = rng.normal(size=(40_000, 3))
    for row in range(4):
        logits = np.stack([members[k].means[row] + normals @ roots[k][row].T for k in range(2)])[
            which, np.arange(40_000)
        ]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        levels = np.array([[np.mean(p[:, c] <= end) for end in interval[row, c]] for c in range(3)])
        # 256 draws: the level of a 5 % quantile has a standard error of 0.014 at most, quasi-random ones less
        np.testing.assert_allclose(levels, np.tile([0.05, 0.95], (3, 1)), atol=0.04)


def test_intervals_narrow_as_rows_come_in():
    x, y = labels(400)
    few, many = BayesianLogisticRegression().fit(x[:60], y[:60]), BayesianLogisticRegression().fit(x, y)
    width = lambda fitted: np.diff(fitted.predict_proba_interval(x[:50]), axis=2).mean()
    assert width(many) < 0.7 * width(few)
    p, interval = few.predict_proba(x), few.predict_proba_interval(x, coverage=0.99)
    assert np.all((interval[..., 0] <= p) & (p <= interval[..., 1]))


@pytest.mark.parametrize("estimator", REGRESSORS, ids=name)
def test_a_summary_of_numbers_is_what_each_question_answers(estimator):
    x, y = counts()
    fitted = clone(estimator).fit(x, y)
    found = fitted.predict_summary(x, coverage=0.8)
    mean, std = fitted.predict(x, return_std=True)
    np.testing.assert_array_equal(np.stack([found["low"], found["high"]], 1), fitted.predict_interval(x, coverage=0.8))
    expected = {"mean": mean, "std": std} | fitted.uncertainty(x)
    for part, values in expected.items():
        np.testing.assert_array_equal(found[part], values, err_msg=part)


@pytest.mark.parametrize("data", [labels, three])
def test_a_summary_of_classes_is_what_each_question_answers(data):
    x, y = data()
    fitted = BayesianLogisticRegression().fit(x, y)
    found = fitted.predict_summary(x, coverage=0.8)
    interval = fitted.predict_proba_interval(x, coverage=0.8)
    expected = {"probabilities": fitted.predict_proba(x), "low": interval[..., 0], "high": interval[..., 1]}
    for part, values in (expected | fitted.uncertainty(x)).items():
        np.testing.assert_array_equal(found[part], values, err_msg=part)


@pytest.mark.parametrize("coverage", [0, 1, 90, "wide", float("nan")])
def test_a_coverage_is_a_probability(coverage):
    x, y = labels()
    fitted = BayesianLogisticRegression().fit(x, y)
    for ask in (fitted.predict_summary, fitted.predict_proba_interval):
        with pytest.raises(OptionError, match="coverage"):
            ask(x, coverage=coverage)


def test_triangles_are_kept_without_their_zeros(tmp_path, monkeypatch):
    x, y = labels()
    fitted = BayesianMLPClassifier((12,), n_members=2, max_iter=5, random_state=0).fit(x, y)
    weights = fitted._state["members"][0].network.size
    fitted.save(tmp_path / "half.posterion")
    assert (tmp_path / "half.posterion").stat().st_size < 1.3 * 2 * 8 * weights**2 / 2
    again = BayesianMLPClassifier.load(tmp_path / "half.posterion")
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    # As files were written before: whole, format 1.
    monkeypatch.setattr(files, "_is_triangle", lambda value: False)
    monkeypatch.setattr(files, "FORMAT", 1)
    fitted.save(tmp_path / "whole.posterion")
    monkeypatch.undo()
    again = BayesianMLPClassifier.load(tmp_path / "whole.posterion")
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
