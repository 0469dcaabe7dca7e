"""Networks of the estimators: derivatives, curvature and evidence against closed forms, and what fits do with them."""

from unittest import mock

import numpy as np
import pytest
from scipy import special, stats

from posterion.estimators import BayesianMLPClassifier, fitting
from posterion.estimators.ensemble import Calibration
from posterion.estimators.gauss_newton import _Problem, find_mode
from posterion.estimators.kronecker import curvature
from posterion.estimators.likelihoods import Bernoulli, Categorical, Poisson, StudentT
from posterion.estimators.network import Network

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_jacobians_are_the_derivatives(hidden):
    network = Network(3, hidden, 2)
    weights, x = network.initial(RNG) + 0.1, RNG.normal(size=(5, 3))
    values, jacobian = network.jacobian(weights, x)
    np.testing.assert_allclose(values, network.apply(weights, x))
    step = 1e-6
    for k in range(network.size):
        up, down = (network.apply(weights + sign * step * np.eye(network.size)[k], x) for sign in (1, -1))
        np.testing.assert_allclose(jacobian[:, :, k], (up - down) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("likelihood", [StudentT(0.3, 5.0), Bernoulli(), Categorical(), Poisson()], ids=str)
def test_slopes_are_derivatives_and_whitened_is_their_covariance(likelihood):
    outputs = 3 if isinstance(likelihood, Categorical) else 1
    f = RNG.normal(size=(1, outputs))
    y = np.array([1.0])
    step = 1e-6
    for c in range(outputs):
        shift = step * np.eye(outputs)[[c]]
        slope = (likelihood.log_density(f + shift, y) - likelihood.log_density(f - shift, y)) / (2 * step)
        np.testing.assert_allclose(likelihood.slope(f, y)[0, c], slope[0], atol=1e-7)
    white = likelihood.whitened(f, np.eye(outputs)[None])[0]
    outcomes, p = {
        StudentT: lambda: ((g := f[0, 0] + np.linspace(-60, 60, 200_001)), np.exp(likelihood.log_density(f, g))),
        Bernoulli: lambda: (np.array([0.0, 1.0]), np.array([1 - special.expit(f[0, 0]), special.expit(f[0, 0])])),
        Categorical: lambda: (np.arange(3.0), special.softmax(f[0])),
        Poisson: lambda: (np.arange(60.0), stats.poisson.pmf(np.arange(60), np.exp(f[0, 0]))),
    }[type(likelihood)]()
    p = p / p.sum()
    slopes = np.stack([likelihood.slope(f, np.array([v]))[0] for v in outcomes[:: 1 if len(outcomes) < 100 else 40]])
    p = p[:: 1 if len(p) < 100 else 40]
    np.testing.assert_allclose(white.T @ white, (slopes * (p / p.sum())[:, None]).T @ slopes, rtol=1e-3)


def test_curvature_of_linear_classes_is_that_of_their_jacobian():
    network, rows = Network(3, (), 4), np.array([1.0, 0.5, 2.0, 1.0, 1.0, 3.0])
    weights, x, y = RNG.normal(size=network.size), RNG.normal(size=(6, 3)), np.array([0.0, 1, 2, 3, 1, 1])
    f, jacobian = network.jacobian(weights, x)
    white = (Categorical().whitened(f, jacobian) * np.sqrt(rows)[:, None, None]).reshape(-1, network.size)
    slope = (rows[:, None, None] * Categorical().slope(f, y)[:, :, None] * jacobian).sum((0, 1))
    with mock.patch("posterion.estimators.gauss_newton.BLOCK_BYTES", 8 * 4 * 4 * 4):  # four rows at a time
        found = _Problem(network, x, y, rows, np.zeros(network.size), None).evaluated(weights, Categorical())
    np.testing.assert_allclose(found[0], slope, atol=1e-12)
    np.testing.assert_allclose(found[1], np.tril(white.T @ white), atol=1e-12)


def test_evidence_of_a_linear_network_is_the_marginal_likelihood():
    x, noise = RNG.normal(size=(15, 2)), 0.4
    y = x[:, 0] + np.sqrt(noise) * RNG.normal(size=15)
    network = Network(2)
    precisions = np.array([2.0, 0.5])
    found = find_mode(
        network,
        StudentT(noise),
        np.zeros(3),
        x,
        y,
        np.ones(15),
        max_iter=20,
        tol=1e-12,
        precisions=precisions,
        learn_precisions=False,
        keep_noise=True,
    )
    design = np.column_stack([x, np.ones(15)])
    covariance = noise * np.eye(15) + design @ np.diag(1 / np.array([2.0, 2.0, 0.5])) @ design.T
    expected = stats.multivariate_normal(np.zeros(15), covariance).logpdf(y)
    np.testing.assert_allclose(found.last.log_evidence, expected, rtol=1e-8)
    f, v = found.last.predict(network, np.array([[1.0, 2.0]]))
    row = np.array([1.0, 2.0, 1.0])
    precision = design.T @ design / noise + np.diag([2.0, 2.0, 0.5])
    np.testing.assert_allclose(v[0, 0, 0], row @ np.linalg.solve(precision, row))
    np.testing.assert_allclose(f[0, 0], row @ np.linalg.solve(precision, design.T @ y / noise))


def test_kronecker_factors_of_one_linear_layer_are_exact():
    x = RNG.normal(size=(30, 2))
    network, weights = Network(2, (), 1), RNG.normal(size=3)
    mode = curvature(network, StudentT(0.5), weights, x, np.ones(30), rows=30.0, precisions=np.array([2.0]))
    design = np.column_stack([x, np.ones(30)])
    precision = design.T @ design / 0.5 + 2 * np.eye(3)
    new = RNG.normal(size=(4, 2))
    rows = np.column_stack([new, np.ones(4)])
    expected = np.einsum("np,np->n", rows, np.linalg.solve(precision, rows.T).T)
    np.testing.assert_allclose(mode.predict(network, new)[1][:, 0, 0], expected)
    determined = 3 - 2 * np.trace(np.linalg.inv(precision))
    np.testing.assert_allclose(mode.effective, [determined])


@pytest.mark.parametrize("hidden", ["auto", (64,)])
def test_more_rows_sharpen_networks(hidden):
    """With a full covariance and with Kronecker factors."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 20))
    y = x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=600) > 0
    options = {"n_members": 1, "max_iter": 15, "random_state": 0}
    fitted = BayesianMLPClassifier(hidden, **options).fit(x[:300], y[:300])
    before = fitted.log_score(x[300:], y[300:])
    kind = type(fitted._state["members"][0].mode).__name__
    assert kind == ("Mode" if hidden == "auto" else "KroneckerMode")
    fitted.partial_fit(x[300:], y[300:])
    assert fitted.log_score(x[300:], y[300:]) > before
    assert fitted.log_score(x[:300], y[:300]) > np.log(0.5)


@pytest.mark.parametrize(
    ("given", "scores", "layers", "pieced"),
    [
        ("auto", (0, 1, 2), (8,), True),
        ("auto", (0, 2, 1), (8, 4), True),
        ("auto", (1, 0, 2), (8,), False),
        ("auto", (0.01, 0, -1), (8, 4), True),
        ((8, 4), (0, 1), (8, 4), True),
    ],
)
def test_large_networks_have_the_inputs_and_layers_that_a_first_one_does_best_with(
    monkeypatch, given, scores, layers, pieced
):
    monkeypatch.setattr(fitting, "MOST_WEIGHTS", 0)
    monkeypatch.setattr(fitting, "LARGE_UNITS", ((np.inf, (8, 4)),))
    monkeypatch.setattr(fitting, "FEWEST_FOR_TRIALS", 200)
    said = iter([*scores, 0.0])

    class Scripted(BayesianMLPClassifier):
        def _large_member(self, network, likelihood, start, shared, hold, rng, continued):
            inputs, precisions = shared[1][:200, : network.features].astype(float), np.ones(len(network.shapes))
            mode = curvature(
                network, likelihood, network.initial(rng), inputs, np.ones(200), rows=200.0, precisions=precisions
            )
            return fitting._Fitted(mode, mode, 1, fitting._held_out(network, mode, inputs, hold), None)

        def _calibrate(self, held, targets, weights):
            return Calibration(), float(next(said))

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    model = Scripted(given, n_members=2).fit(x, (x[:, 0] > 0).astype(int))
    assert next(said, None) is None
    assert {member.network.hidden for member in model._state["members"]} == {layers}
    assert bool(model._state["columns"].pieced) == pieced
