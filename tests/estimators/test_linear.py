"""Linear models against closed forms, quadrature and each other."""

import numpy as np
import pytest
from scipy import integrate, special, stats

from posterion.estimators import BayesianLinearRegression, BayesianLogisticRegression, BayesianPoissonRegressor
from posterion.estimators.linear import RATE, RATIOS, SHAPE, LinearGaussian


def line(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    return x, 2 * x[:, 0] - x[:, 1] + 3 + 0.5 * rng.normal(size=rows)


def test_the_posterior_of_one_ratio_is_the_conjugate_one():
    """Against the textbook's normal inverse gamma update, with a nearly flat proper prior for the intercept."""
    x, y = line()
    posterior = LinearGaussian.of(x, y, np.ones(len(x))).posterior()
    k = int(np.argmax(posterior.weights))
    ratio = (1 / posterior.inverse_values[k] - np.linalg.eigvalsh(np.cov(x.T, bias=True) * len(x)))[0]
    assert np.isclose(RATIOS, ratio, rtol=1e-6).any()
    design = np.column_stack([x, np.ones(len(x))])
    prior = np.diag([ratio, ratio, 1e-10])
    precision = design.T @ design + prior
    mean = np.linalg.solve(precision, design.T @ y)
    rate = RATE + 0.5 * (y @ y - mean @ precision @ mean)
    shape = SHAPE + 0.5 * (len(x) - 1)
    np.testing.assert_allclose(posterior.coefficients[k], mean[:2], rtol=1e-6)
    np.testing.assert_allclose(posterior.intercepts[k], mean[2], rtol=1e-6)
    np.testing.assert_allclose(posterior.scales[k], rate / shape, rtol=1e-6)
    new = np.array([[0.3, -2.0]])
    row = np.append(new[0], 1.0)
    function = rate / shape * row @ np.linalg.solve(precision, row)
    np.testing.assert_allclose(posterior.predict(new).function[k], function, rtol=1e-6)


def test_weights_of_the_grid_are_the_evidence():
    """The ratio of two grid weights against the marginal likelihood by numerical integration over the noise."""
    x, y = line(12)
    y = y - y.mean()
    x = x - x.mean(0)
    n = len(y)

    def log_marginal(ratio):
        covariance = np.eye(n) + x @ x.T / ratio

        def integrand(log_s2):  # p(y | s2) p(s2), with the mean projected out
            s2 = np.exp(log_s2)
            values = np.linalg.eigvalsh(covariance)
            quadratic = y @ np.linalg.solve(covariance, y)
            log = -0.5 * (np.log(values).sum() + (n - 1) * np.log(s2) + quadratic / s2)
            return np.exp(log - (SHAPE + 1) * log_s2 - RATE / s2 + log_s2 + 0.5 * n)

        return np.log(integrate.quad(integrand, -12, 6, limit=200)[0])

    posterior = LinearGaussian.of(x, y, np.ones(n)).posterior()
    order = np.argsort(posterior.weights)[-2:]
    base = np.linalg.eigvalsh(x.T @ x)[0]
    ratios = 1 / posterior.inverse_values[order, 0] - base
    prior = 0.5 * np.log(ratios) - np.log1p(ratios)
    expected = np.array([log_marginal(r) for r in ratios]) + prior
    np.testing.assert_allclose(np.diff(np.log(posterior.weights[order])), np.diff(expected), atol=1e-4)


def test_rows_in_parts_give_the_same_posterior():
    x, y = line(60)
    whole = BayesianLinearRegression().fit(x, y)
    parts = BayesianLinearRegression().partial_fit(x[:20], y[:20])
    for begin in (20, 40):
        parts.partial_fit(x[begin : begin + 20], y[begin : begin + 20])
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=2e-2)  # the scales are the first rows', so is the prior
    sums = LinearGaussian.of(x[:30], y[:30], np.ones(30)).plus(LinearGaussian.of(x[30:], y[30:], np.ones(30)))
    together = LinearGaussian.of(x, y, np.ones(60)).posterior()
    np.testing.assert_allclose(sums.posterior().coefficients, together.coefficients, rtol=1e-10)
    np.testing.assert_allclose(sums.posterior().scales, together.scales, rtol=1e-10)


@pytest.mark.slow
def test_the_predictive_density_is_one_and_agrees_with_its_quantiles_and_draws():
    x, y = line()
    fitted = BayesianLinearRegression().fit(x, y)
    new = np.array([[0.0, 1.0]])
    predictive = fitted._predictive(new)
    grid = np.linspace(-6, 10, 4001)
    density = np.exp([predictive.log_density(np.array([v]))[0] for v in grid])
    assert abs(integrate.trapezoid(density, grid) - 1) < 1e-3
    mean, std = fitted.predict(new, return_std=True)
    np.testing.assert_allclose(integrate.trapezoid(grid * density, grid), mean[0], atol=1e-3)
    np.testing.assert_allclose(integrate.trapezoid((grid - mean[0]) ** 2 * density, grid), std[0] ** 2, rtol=2e-2)
    low, high = fitted.predict_interval(new, coverage=0.5)[0]
    inside = (grid >= low) & (grid <= high)
    assert abs(integrate.trapezoid(density[inside], grid[inside]) - 0.5) < 5e-3
    draws = fitted.sample_y(new, 20_000)[0]
    assert abs(draws.mean() - mean[0]) < 5 * std[0] / np.sqrt(20_000)
    assert stats.kstest(draws, lambda v: predictive.cumulative(np.asarray(v))).pvalue > 1e-3
    parts = fitted.uncertainty(new)
    np.testing.assert_allclose(parts["total"], parts["aleatoric"] + parts["epistemic"])


def test_logistic_probabilities_are_the_posterior_averages():
    """One coefficient, so that the average over the exact posterior is an integral that can be done."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 1))
    x = (x - x.mean()) / x.std()
    y = (rng.random(30) < special.expit(1.5 * x[:, 0])).astype(int)
    fitted = BayesianLogisticRegression().fit(x, y)
    grid = np.linspace(-8, 8, 161)
    slope, intercept = np.meshgrid(grid, grid, indexing="ij")
    logits = slope[..., None] * x[:, 0] + intercept[..., None]
    log_likelihood = (y * logits - np.logaddexp(0, logits)).sum(-1) - 0.005 * intercept**2
    total, expected = 0.0, 0.0
    new = np.array([-2.0, 0.0, 2.0])
    for precision in np.logspace(-2, 3, 11):
        prior = 0.5 * np.log(precision) - 0.5 * precision * slope**2 + 0.5 * np.log(precision) - np.log1p(precision)
        weight = np.exp(log_likelihood + prior + 20)
        total += weight.sum()
        expected += np.array([(weight * special.expit(slope * v + intercept)).sum() for v in new])
    np.testing.assert_allclose(fitted.predict_proba(new[:, None])[:, 1], expected / total, atol=0.03)


def test_more_rows_sharpen_a_logistic_posterior_as_if_they_had_come_at_once():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 2))
    y = (rng.random(400) < special.expit(x[:, 0] - x[:, 1])).astype(int)
    parts = BayesianLogisticRegression().partial_fit(x[:200], y[:200], classes=[0, 1]).partial_fit(x[200:], y[200:])
    whole = BayesianLogisticRegression().fit(x, y)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=0.1)
    first = BayesianLogisticRegression().fit(x[:200], y[:200])
    assert parts.uncertainty(x)["epistemic"].mean() < 0.7 * first.uncertainty(x)["epistemic"].mean()


def test_poisson_rates_and_probabilities():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 2))
    y = rng.poisson(np.exp(0.7 * x[:, 0] + 1.2))
    fitted = BayesianPoissonRegressor().fit(x, y)
    np.testing.assert_allclose(fitted.coef_, [0.7, 0.0], atol=0.1)
    assert abs(fitted.intercept_ - 1.2) < 0.1
    predictive = fitted._predictive(x[:5])
    counts = np.arange(200.0)
    pmf = np.exp([predictive.log_density(np.full(5, c)) for c in counts])
    np.testing.assert_allclose(pmf.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose((counts[:, None] * pmf).sum(0), predictive.mean(), rtol=1e-4)
    quantile = fitted.predict_quantiles(x[:5], quantiles=[0.9])[:, 0]
    cumulative = pmf.cumsum(0)
    np.testing.assert_array_equal(quantile, [np.argmax(column >= 0.9) for column in cumulative.T])


@pytest.mark.parametrize(
    "estimator", [BayesianLinearRegression(), BayesianPoissonRegressor()], ids=lambda e: type(e).__name__
)
def test_weights_are_repetitions(estimator):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(30, 2))
    y = rng.poisson(3, size=30).astype(float)
    times = rng.integers(0, 4, size=30)
    weighted = estimator.fit(x, y, sample_weight=times).predict(x, return_std=True)
    repeated = estimator.fit(x.repeat(times, axis=0), y.repeat(times)).predict(x, return_std=True)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-6)
