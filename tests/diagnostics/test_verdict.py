import numpy as np
import pytest
from scipy import stats

from posterion.diagnostics import judge
from posterion.diagnostics.verdict import null_elbo, still_improving

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((4000, 2))


def ratios(scale):
    """log p - log q for p = N(0, I), q = N(0, scale^2 I), at draws from q; their mean is -KL(q, p)."""
    z = scale * Z
    return (stats.norm.logpdf(z) - stats.norm.logpdf(z, scale=scale)).sum(axis=1)


GOOD, BAD = ratios(0.95), ratios(0.3)
SETTLED = {"status": "converged", "sentence": "Another 2,000 steps gained less than 0.1 nat."}


def test_a_good_fit_is_trusted():
    verdict = judge(GOOD, **SETTLED)
    assert verdict.trustworthy
    assert verdict.advice == ()
    assert verdict.khat < verdict.khat_threshold == 0.7
    assert verdict.summary.startswith("trustworthy: k-hat 0.")
    assert "less than 0.1 nat" in str(verdict)
    kl = 2 * (np.log(1 / 0.95) + 0.95**2 / 2 - 0.5)
    assert verdict.elbo == pytest.approx(-kl, abs=5 * verdict.elbo_se)
    assert verdict.elbo_se == pytest.approx(GOOD.std() / np.sqrt(4000), rel=1e-3)


def test_a_narrow_approximation_is_not():
    verdict = judge(BAD, **SETTLED)
    assert not verdict.trustworthy
    assert "k-hat" in verdict.reasons[0]
    assert any("MCMC" in sentence for sentence in verdict.advice)
    assert verdict.summary.startswith("not trustworthy")


def test_a_network_is_judged_by_its_functions():
    above = judge(BAD, **SETTLED, is_network=True, null_elbo=-100.0)
    assert above.trustworthy
    assert "nats above a prediction that ignores the inputs" in " ".join(above.reasons)
    assert "k-hat says nothing here" in " ".join(above.reasons)
    below = judge(BAD, **SETTLED, is_network=True, null_elbo=float(BAD.mean()) - 0.5)
    assert not below.trustworthy
    assert "learned little or nothing" in below.reasons[0]
    assert any("narrower priors" in sentence for sentence in below.advice)


@pytest.mark.parametrize("status", ["diverged", "non_finite", "max_steps", "interrupted", "callback"])
def test_a_fit_that_did_not_settle_is_not_trusted(status):
    verdict = judge(GOOD, status=status, sentence="Stopped by hand.")
    assert not verdict.trustworthy
    assert "Stopped by hand" in verdict.reasons[0]
    assert verdict.advice


def losses(drop):
    """A loss that falls by ``drop`` over the last tenth, with noise of 5 nats."""
    steps = np.arange(20_000)
    return 100 + 5 * np.random.default_rng(1).standard_normal(20_000) - drop * (steps - 18_000) / 2000


def test_a_fixed_number_of_steps_is_checked_by_its_trace():
    assert judge(GOOD, status="fixed_steps", losses=losses(0.0)).trustworthy
    verdict = judge(GOOD, status="fixed_steps", losses=losses(5.0))
    assert not verdict.trustworthy
    assert "still rose by 5." in verdict.reasons[0]
    assert judge(GOOD, status="fixed_steps").trustworthy  # k-hat says enough
    assert not judge(BAD, status="fixed_steps", is_network=True).trustworthy  # nothing was checked


def test_improvement_is_only_seen_where_it_is_clear():
    assert still_improving(losses(0.0)) == 0
    assert still_improving(losses(3.0)) == pytest.approx(3.0, abs=1.0)
    assert still_improving(losses(-3.0)) == 0
    assert still_improving(np.full(50, 3.0)) == np.inf  # too short to tell


def test_skipped_steps():
    few = judge(GOOD, **SETTLED, skipped_steps=3, steps=10_000)
    assert few.trustworthy
    assert "3 of 10,000 steps were skipped" in " ".join(few.reasons)
    many = judge(GOOD, **SETTLED, skipped_steps=3000, steps=10_000)
    assert not many.trustworthy
    assert any("float64" in sentence for sentence in many.advice)


def test_weights_that_are_not_numbers():
    for weights in (np.full(2, np.nan), np.r_[GOOD, -np.inf], np.empty(0)):
        verdict = judge(weights, **SETTLED)
        assert not verdict.trustworthy
        assert np.isnan(verdict.khat)
        assert str(verdict)


def test_too_few_draws_to_tell():
    verdict = judge(GOOD[:50], **SETTLED)
    assert not verdict.trustworthy
    assert "50 draws are too few" in verdict.reasons[0]


def test_it_fits_on_one_screen():
    troubled = {"status": "max_steps", "sentence": "x" * 60, "skipped_steps": 900, "steps": 1000}
    lines = str(judge(BAD, **troubled, is_network=True, null_elbo=0.0)).splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 100
    assert "NOT trustworthy" in lines[0]
    assert lines[-1].startswith("ELBO")


def test_the_null_model_of_labels_is_their_frequency():
    y = np.repeat([0, 1], [178, 106])
    expected = stats.bernoulli.logpmf(y, 106 / 284).sum() - 0.5 * np.log(284)
    assert null_elbo(y, "binary") == pytest.approx(expected)
    classes = np.repeat([0, 1, 2], [5, 3, 2])
    expected = 5 * np.log(0.5) + 3 * np.log(0.3) + 2 * np.log(0.2) - np.log(10)
    assert null_elbo(classes, "categorical") == pytest.approx(expected)


def test_the_null_model_of_numbers_is_a_normal_and_of_counts_a_poisson():
    y = RNG.normal(3.0, 2.0, 200)
    expected = stats.norm.logpdf(y, y.mean(), y.std()).sum() - np.log(200)
    assert null_elbo(y, "numeric") == pytest.approx(expected)
    counts = RNG.poisson(4.0, 200)
    expected = stats.poisson.logpmf(counts, counts.mean()).sum() - 0.5 * np.log(200)
    assert null_elbo(counts, "numeric") == pytest.approx(expected)


def test_a_subsample_stands_for_all_rows():
    y = np.repeat([0, 1], [30, 20])
    expected = 10 * stats.bernoulli.logpmf(y, 0.4).sum() - 0.5 * np.log(500)
    assert null_elbo(y, "binary", num_rows=500) == pytest.approx(expected)


def test_constant_outcomes_have_a_null_model_too():
    assert np.isfinite(null_elbo(np.ones(10, int), "binary"))
    assert np.isfinite(null_elbo(np.zeros(10, int), "numeric"))
    assert np.isfinite(null_elbo(np.full(10, 2.5), "numeric"))


def test_nearly_constant_ratios_are_not_judged_by_their_tail():
    """A few large values among ratios that differ by a thousandth give a k-hat above the limit, and mean nothing."""
    log_weights = -50 + 1e-5 * np.abs(np.random.default_rng(0).standard_t(1.0, size=4000))
    verdict = judge(log_weights)
    assert verdict.khat > verdict.khat_threshold
    assert verdict.trustworthy
    assert "vary by" in verdict.summary
    assert not judge(-50 + 1e4 * (log_weights + 50)).trustworthy


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("ADVI(family=MeanField(), num_draws=1)", "method='gaussian'"),
        ("GaussianVI(correct=True, num_draws=4096)", "NormalizingFlow"),
        ("DeterministicADVI(covariance='linear_response', num_draws=None)", "followed already"),
        ("DeterministicADVI(covariance='mean_field', num_draws=None)", "method='gaussian'"),
        ("ADVI(family=NormalizingFlow(layers=6), num_draws=16)", "refine"),
    ],
)
def test_advice_is_for_the_method_that_was_used(method, says):
    heavy = np.random.default_rng(0).pareto(0.8, 1000)
    verdict = judge(np.log(heavy + 1e-9), method=method, size=10)
    assert verdict.khat > verdict.khat_threshold
    assert any(says in advice for advice in verdict.advice)
