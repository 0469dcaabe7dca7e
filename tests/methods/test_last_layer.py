"""The variational last layer: exact on fixed features, its bound on classes, features found with it, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import posterion as po
from posterion.errors import OptionError, UnsupportedModelError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
BELOW = RNG.normal(size=(2, 5))
Y = np.sin(2 * X[:, 0]) + 0.3 * RNG.normal(size=60)
NET = (
    {"w": BELOW, "u": RNG.normal(size=(5, 1)), "c": np.zeros(1)},
    lambda p, x: jnp.tanh(x @ p["w"]) @ p["u"] + p["c"],
)
FEATURES = np.c_[np.tanh(X @ BELOW), np.ones(60)]


def fitted(target, **options):
    return po.fit(target, "variational_last_layer", random_seed=0, progress=False, **options)


@pytest.fixture(scope="module")
def exact():
    prior = {"w": "fixed", "*": dist.Normal(0, 1.5)}
    known = lambda f: dist.Normal(f, 0.3)
    target = po.network(NET, data={"x": X, "y": Y}, prior=prior, likelihood=known)
    return fitted(target, precision="float64")


def test_on_fixed_features_it_is_bayesian_linear_regression(exact):
    covariance = np.linalg.inv(FEATURES.T @ FEATURES / 0.3**2 + np.eye(6) / 1.5**2)
    order = [slice(*exact.layout.slices[n].indices(6)) for n in ("u", "c")]
    where = np.concatenate([np.arange(6)[s] for s in order])
    with jax.enable_x64(True):
        params = jnp.asarray(exact.params)
        mean, found = np.asarray(exact.family.mean(params)), np.asarray(exact.family.covariance(params))
    np.testing.assert_allclose(mean[where], covariance @ FEATURES.T @ Y / 0.3**2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[np.ix_(where, where)], covariance, rtol=1e-6, atol=1e-9)
    evidence = stats.multivariate_normal.logpdf(Y, np.zeros(60), 1.5**2 * FEATURES @ FEATURES.T + 0.3**2 * np.eye(60))
    np.testing.assert_allclose(exact.record.extras["bound"], evidence, atol=1e-4)
    np.testing.assert_allclose(exact.elbo, evidence, atol=1e-3)


@pytest.mark.slow
def test_features_noise_and_scale_are_found_with_it():
    """The fit is close, the noise the data's, and the bound that of the engine's draws."""
    target = po.network(NET, data={"x": X, "y": Y})
    free = fitted(target)
    np.testing.assert_allclose(free.predict({"x": X}).mean["y"], np.sin(2 * X[:, 0]), atol=0.6)
    noise = np.exp(free.sample_unconstrained(500)[:, free.layout.slices["y_noise"]].mean())
    assert 0.2 < noise < 0.4
    # The draws' ELBO also counts the spread of noise and scale, worth some tenths of a nat.
    assert abs(free.elbo - free.record.extras["bound"]) < 8
    # The tanh of other units than those the network was given.
    assert np.abs(free.target.mode[free.target.network.layout.slices["w"]] - BELOW.ravel()).max() > 0.1


@pytest.mark.parametrize(
    ("classes", "likelihood", "behind"),
    # Three classes as well off with all logits moved leave a direction to the prior in which outputs depend.
    [(1, "bernoulli", 0.05), pytest.param(3, "categorical", 4.5, marks=pytest.mark.slow)],
)
def test_of_classes_the_bound_is_one_and_near_the_best_gaussians(classes, likelihood, behind):
    y = (X[:, 0] > 0).astype(int) if classes == 1 else np.digitize(X[:, 0], [-0.5, 0.5])
    net = ({"u": np.zeros((2, classes)), "c": np.zeros(classes)}, lambda p, x: x @ p["u"] + p["c"])
    target = po.network(net, data={"x": X, "y": y}, likelihood=likelihood, prior=dist.Normal(0, 1.0))
    found = fitted(target)
    bound = float(found.record.extras["bound"])
    assert found.elbo - 3.0 < bound < found.elbo + 4 * found.elbo_se + 1e-3
    best = po.fit(target, "gaussian", random_seed=0, progress=False)
    assert best.elbo - found.elbo < behind


def test_what_is_refused():
    with pytest.raises(OptionError, match="turns must be a whole number"):
        po.VariationalLastLayer(turns=0)
    with pytest.raises(UnsupportedModelError, match="posterion.network"):
        fitted(po.log_density(lambda z: -0.5 * jnp.sum(z**2), initial=np.zeros(2)))
    net = ({"u": np.zeros((2, 3))}, lambda p, x: x @ p["u"])
    target = po.network(net, data={"x": X, "y": X @ np.ones((2, 3))})
    with pytest.raises(UnsupportedModelError, match="3 outputs of another kind"):
        fitted(target)
