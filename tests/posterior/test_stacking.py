"""Weights of a mixture by stacking, against the optimum found another way."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import stats
from scipy import optimize

import posterion as po
from posterion.errors import DataError, OptionError
from posterion.posterior.stacking import stacking_weights
from tests.methods.targets import fit


def test_weights_are_the_optimum_of_the_simplex():
    scores = np.random.default_rng(0).normal(-1.0, 1.0, size=(3, 200))
    weights = stacking_weights(scores)

    def loss(logits):
        w = np.exp(logits - logits.max())
        return -np.mean(np.log(w / w.sum() @ np.exp(scores)))

    best = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
    best = np.exp(best - best.max()) / np.exp(best - best.max()).sum()
    np.testing.assert_allclose(weights, best, atol=1e-4)
    assert stacking_weights(np.array([np.zeros(50), np.full(50, -800.0)])) == pytest.approx([1.0, 0.0])


def two_slopes():
    """y = |w| x: two modes that predict the same training rows, of which the held-out rows know one by its sign."""
    x = np.random.default_rng(0).normal(size=60)
    y = x + 0.5 * np.random.default_rng(1).normal(size=60)
    return po.log_density(
        log_prior=lambda p: jnp.sum(stats.norm.logpdf(p["w"], 0.0, 2.0)),
        log_likelihood=lambda p, d: stats.norm.logpdf(
            d["y"], jnp.where(d["known"] > 0, p["w"], jnp.abs(p["w"])) * d["x"], 0.5
        ),
        predict_mean=lambda p, d: jnp.where(d["known"] > 0, p["w"], jnp.abs(p["w"])) * d["x"],
        predict_variance=lambda p, d: jnp.full(len(d["x"]), 0.25),
        initial={"w": 0.1},
        data={"x": x, "y": y, "known": np.zeros(60)},
    )


@pytest.fixture(scope="module")
def mixture():
    return fit(two_slopes(), po.ADVI(family=po.Mixture(2)), restarts=6)


def test_held_out_rows_weigh_the_components(mixture, tmp_path):
    means = np.asarray(mixture.params["components"])[:, 0, 0]
    assert means.min() == pytest.approx(-1, abs=0.3)
    assert means.max() == pytest.approx(1, abs=0.3)
    x = np.random.default_rng(5).normal(size=40)
    stacked = mixture.stack({"x": x, "known": np.ones(40)}, -x)
    weights = np.exp(np.asarray(stacked.params["log_weights"]))
    assert weights[means.argmin()] > 0.99
    assert "stacking on 40 held-out rows" in repr(stacked)
    assert float(stacked.sample(500)["posterior"]["w"].mean()) == pytest.approx(means.min(), abs=0.05)
    assert stacked.elbo < mixture.elbo  # half of the posterior is left out
    assert mixture.elbo - stacked.elbo == pytest.approx(np.log(2), abs=0.1)
    stacked.save(tmp_path / "stacked.posterion")
    again = po.load(tmp_path / "stacked.posterion")
    np.testing.assert_array_equal(again.params["log_weights"], stacked.params["log_weights"])


def test_what_cannot_be_stacked_is_refused(mixture):
    with pytest.raises(DataError, match="too little"):
        mixture.stack({"x": np.zeros(3), "known": np.zeros(3)}, np.zeros(3))
    with pytest.raises(OptionError, match="only mixtures"):
        fit(two_slopes(), "advi", n=100).stack({"x": np.zeros(20), "known": np.zeros(20)}, np.zeros(20))
