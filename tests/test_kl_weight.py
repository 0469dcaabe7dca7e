"""Tempering: against the closed form, in mini-batches as for all rows, and never without saying so."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import posterion as po
from posterion._typing import Batch
from posterion.errors import OptionError, UnsupportedModelError
from posterion.objectives.bounds import log_joint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
Y = X @ [1.0, -0.5] + 0.5 * RNG.normal(size=40)


def target():
    linear = ({"w": np.zeros((2, 1))}, lambda p, x: x @ p["w"])
    return po.network(
        linear, data={"x": X, "y": Y}, prior=dist.Normal(0, 1.0), likelihood=lambda f: dist.Normal(f, 0.5)
    )


def test_the_tempered_posterior_of_a_linear_network(tmp_path):
    approx = po.fit(target(), "laplace", kl_weight=0.2, random_seed=0, progress=False)
    covariance = np.linalg.inv(X.T @ X / 0.5**2 / 0.2 + np.eye(2))
    draws = approx.sample_unconstrained(4000)
    np.testing.assert_allclose(draws.mean(axis=0), covariance @ X.T @ Y / 0.5**2 / 0.2, atol=5 * 0.05 / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=5 * np.sqrt(2 / 4000) * covariance.max())
    assert "tempered (kl_weight=0.2)" in repr(approx)
    verdict = approx.diagnose()
    assert not verdict.trustworthy
    assert "tempered: with kl_weight=0.2 likelihoods count 5 times" in str(verdict).replace("\n    ", " ")
    approx.save(tmp_path / "tempered.posterion")
    assert po.load(tmp_path / "tempered.posterion").record.kl_weight == 0.2


def test_only_likelihoods_are_weighed_whole_or_in_batches():
    network = target()
    z, data = jnp.asarray([0.3, -0.2]), {"x": jnp.asarray(X, jnp.float32), "y": jnp.asarray(Y, jnp.float32)}
    batch = Batch({name: values[:10] for name, values in data.items()}, jnp.arange(10) < 8)
    for rows in (Batch(data), batch):
        value = lambda weight, rows=rows: jax.jit(log_joint(network, ("y",), weight))(z, rows)
        prior = jax.jit(network.log_prior)(z)
        np.testing.assert_allclose(value(0.25) - prior, 4 * (value(1.0) - prior), rtol=1e-4)


def test_errors():
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="kl_weight must be a positive number"):
            po.fit(target(), kl_weight=wrong, progress=False)
    with pytest.raises(UnsupportedModelError, match="tells its likelihood from its prior"):
        po.fit(po.log_density(lambda p: -(p**2), initial=0.0), kl_weight=0.5, progress=False)
    for name in ("linearised_laplace", "variational_last_layer"):
        with pytest.raises(OptionError, match="no tempered form"):
            po.fit(target(), name, kl_weight=0.5, progress=False)
