"""Networks in the verdict: held-out rows, and weights that stayed at their prior."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import stats

import posterion as po
from posterion.diagnostics import judge
from posterion.diagnostics.collapse import collapse
from posterion.diagnostics.verdict import null_scores, with_held_out
from posterion.errors import DataError, OptionError
from tests.methods.targets import fit

RNG = np.random.default_rng(0)
GOOD = judge(np.zeros(1000), status="converged")


def test_a_prediction_has_to_beat_one_without_inputs():
    null = null_scores(np.repeat([0, 1], 50), RNG.integers(0, 2, 200), "binary")
    np.testing.assert_allclose(null, np.log(0.5))
    better = with_held_out(GOOD, null + 0.3 + 0.1 * RNG.normal(size=200), null)
    assert better.trustworthy
    assert "the log score of 200 held-out rows" in better.reasons[-1]
    same = with_held_out(GOOD, null + 0.001 + 0.1 * RNG.normal(size=200), null)
    assert not same.trustworthy
    assert "not clearly worse" in same.reasons[0]
    assert same.held_out == pytest.approx(np.log(0.5), abs=0.05)


def test_null_scores_are_those_of_a_normal_and_a_poisson():
    from scipy import stats as exact

    seen, y = RNG.normal(2.0, 3.0, 100), RNG.normal(size=7)
    np.testing.assert_allclose(null_scores(seen, y, "numeric"), exact.norm.logpdf(y, seen.mean(), seen.std()))
    counts = RNG.poisson(4.0, 100)
    np.testing.assert_allclose(null_scores(counts, counts, "numeric"), exact.poisson.logpmf(counts, counts.mean()))


def test_weights_at_their_prior_are_counted():
    """Four units of two weights with prior N(0, 2): two untouched, one narrow, one moved."""
    sd = np.array([[2.0, 2.0, 0.1, 2.0], [2.0, 2.0, 0.1, 2.0]])
    mean = np.array([[0.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 3.0]])
    found = collapse({"w": (2, 4)}, {"w": slice(0, 8)}, sd.ravel(), -mean.ravel() / 4, np.full(8, 0.25))
    assert (found.weights, found.units, found.num_weights, found.num_units) == (0.5, 0.5, 8, 4)
    assert collapse({"w": (2, 4)}, {"w": slice(0, 8)}, sd.ravel(), mean.ravel(), np.zeros(8)) is None


def network(noise):
    """Three inputs, ten hidden units; only if the noise is small is there something to learn."""
    x = np.random.default_rng(3).normal(size=(120, 3))
    y = np.sin(2 * x[:, 0]) + noise * np.random.default_rng(4).normal(size=120)

    def output(p, d):
        return jnp.tanh(d["x"] @ p["first"]) @ p["second"][:, 0]

    return po.log_density(
        log_prior=lambda p: sum(jnp.sum(stats.norm.logpdf(p[name])) for name in ("first", "second")),
        log_likelihood=lambda p, d: stats.norm.logpdf(d["y"], output(p, d), noise),
        predict_mean=output,
        predict_variance=lambda p, d: jnp.full(len(d["x"]), noise**2),
        initial={
            "first": 0.5 * np.random.default_rng(5).normal(size=(3, 10)),
            "second": 0.5 * np.random.default_rng(6).normal(size=(10, 1)),
        },
        data={"x": x, "y": y},
    )


def test_a_network_is_judged_by_rows_it_has_not_seen():
    rng = np.random.default_rng(9)
    x = rng.normal(size=(100, 3))
    y = np.sin(2 * x[:, 0]) + 0.2 * rng.normal(size=100)
    learned = fit(network(0.2), "advi", n=4000)
    assert learned.record.is_network
    verdict = learned.diagnose({"x": x}, y)
    assert any("held-out rows" in reason for reason in verdict.reasons)
    assert verdict.held_out > null_scores(y, y, "numeric").mean() + 0.3
    assert 0 <= verdict.collapse.weights < 0.9
    assert verdict.collapse.num_weights == 40
    drowned = fit(network(30.0), "advi", n=4000).diagnose()
    assert drowned.collapse.weights > 0.9  # noise of 30 says nothing of any weight
    assert any("weights and" in reason for reason in drowned.reasons)
    assert any("kl_weight" in advice for advice in drowned.advice)
    with pytest.raises(DataError, match="too little"):
        learned.diagnose({"x": x[:3]}, y[:3])
    with pytest.raises(OptionError, match="inputs and outcomes"):
        learned.diagnose({"x": x})
