"""BridgeStan's models: what `StanModel` promises is honoured by a stand-in, and by the package itself where it is."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posterion as po
from posterion.frontends import target_of
from posterion.frontends.stan.bridge import BridgeStanTarget, shapes_of

Y = np.array([1.2, 0.4, 2.2, 0.8, 1.4])


class StanModel:
    """BridgeStan's interface around a normal mean and a log-normal scale, in NumPy: y ~ normal(mu, sigma).

    ``sigma`` has a flat prior on log sigma times exp(-sigma). A matrix and a generated quantity come along.
    """

    def name(self):
        return "stand-in"

    def param_names(self, *, include_tp=False, include_gq=False):
        names = ["mu", "sigma"]
        names += ["m.1.1", "m.2.1", "m.1.2", "m.2.2", "m.1.3", "m.2.3"] if include_tp else []
        return names + (["y_rep"] if include_gq else [])

    def param_unc_names(self):
        return ["mu", "sigma"]

    def log_density_gradient(self, theta_unc, *, propto=True, jacobian=True):
        assert theta_unc.dtype == np.float64 and not propto and jacobian
        mu, log_sigma = theta_unc
        if mu > 10:
            raise RuntimeError("Exception: mu is too large\n (in 'model.stan', line 3)")
        sigma = np.exp(log_sigma)
        r = (Y - mu) / sigma
        value = -0.5 * mu**2 - sigma + log_sigma - len(Y) * log_sigma - 0.5 * r @ r
        return value, np.array([-mu + r.sum() / sigma, -sigma + 1 - len(Y) + r @ r])

    def param_constrain(self, theta_unc, *, include_tp=False, include_gq=False, rng=None):
        mu, sigma = theta_unc[0], np.exp(theta_unc[1])
        if mu < -10:
            raise RuntimeError("generated quantities failed")
        return np.array([mu, sigma, *range(6), rng.normal(mu, sigma)])

    def new_rng(self, seed):
        return np.random.default_rng(seed)


@pytest.fixture
def bridgestan(monkeypatch):
    module = types.ModuleType("bridgestan")
    module.StanModel = StanModel
    monkeypatch.setitem(sys.modules, "bridgestan", module)


def exact_means():
    """Posterior means on a grid of mu and log sigma."""
    mu, log_sigma = np.meshgrid(np.linspace(-3, 4, 400), np.linspace(-3, 3, 400), indexing="ij")
    sigma = np.exp(log_sigma)
    squares = ((Y[:, None, None] - mu) ** 2).sum(0)
    log_density = -0.5 * mu**2 - sigma + (1 - len(Y)) * log_sigma - 0.5 * squares / sigma**2
    weight = np.exp(log_density - log_density.max())
    return (weight * mu).sum() / weight.sum(), (weight * sigma).sum() / weight.sum()


@pytest.mark.slow
def test_a_model_is_fitted(bridgestan):
    approx = po.fit(StanModel(), "fullrank_advi", n=3000, progress=False, random_seed=1)
    draws = approx.sample(4000)["posterior"]
    mean, scale = exact_means()
    np.testing.assert_allclose(draws["mu"].mean(), mean, atol=0.06)  # sd 0.3; a Gaussian in log sigma is close
    np.testing.assert_allclose(draws["sigma"].mean(), scale, rtol=0.08)
    np.testing.assert_array_equal(draws["m"].values[0, 0], np.arange(6).reshape(3, 2).T)  # the first index runs fastest
    np.testing.assert_allclose(draws["y_rep"].std() ** 2, draws["mu"].var() + (draws["sigma"] ** 2).mean(), rtol=0.15)
    assert "called on the host" in " ".join(target_of(StanModel()).notes)
    again = [approx.sample(20, random_seed=2)["posterior"]["y_rep"] for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_gradients_and_second_derivatives():
    target = BridgeStanTarget(StanModel())
    with jax.enable_x64(True):
        z = jnp.array([0.3, -0.2])
        value, gradient = jax.value_and_grad(target.log_density)(z, {})
        expected, expected_gradient = StanModel().log_density_gradient(np.asarray(z), propto=False)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-14)
        curvature = jax.hessian(target.log_density)(z, {})
        sigma, r = np.exp(-0.2), (Y - 0.3) / np.exp(-0.2)
        by_hand = [[-1 - 5 / sigma**2, -2 * r.sum() / sigma], [-2 * r.sum() / sigma, -sigma - 2 * r @ r]]
        np.testing.assert_allclose(curvature, by_hand, rtol=1e-8)
        many = jax.vmap(lambda z: target.log_density(z, {}))(jnp.stack([z, z + 1]))
        np.testing.assert_allclose(many[0], expected, rtol=1e-14)


def test_a_rejected_point_has_no_density_and_a_reason():
    target = BridgeStanTarget(StanModel())
    z = jnp.array([11.0, 0.0])
    assert target.log_density(z, {}) == -np.inf
    assert target.rejections == 1
    [name] = target.named_terms(z, {})
    assert "mu is too large (in 'model.stan', line 3)" in name
    assert np.isnan(target.constrain(jnp.array([-11.0, 0.0]), {})["mu"])


def test_shapes_are_read_off_the_names():
    names = ["a", "b.1", "b.2", "c.1.1", "c.2.1", "c.1.2", "c.2.2", "t:1", "t:2.1", "z.real", "z.imag"]
    assert shapes_of(names) == {"a": (), "b": (2,), "c": (2, 2), "t": (2,), "z": (2,)}


def test_what_cannot_be_fitted(bridgestan):
    class Empty(StanModel):
        def param_unc_names(self):
            return []

    with pytest.raises(po.errors.UnsupportedModelError, match="stand-in has no parameters"):
        po.fit(Empty(), progress=False)

    class Old(StanModel):
        new_rng = property()

    with pytest.raises(po.errors.UnsupportedModelError, match=r"before 2\.0"):
        po.fit(Old(), progress=False)
