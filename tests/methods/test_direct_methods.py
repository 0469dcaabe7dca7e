"""Deterministic ADVI, batch and match, SVGD: closed forms, both precisions, files, seeds, errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posterion as po
from posterion.errors import DegenerateError, OptionError
from posterion.methods.batch_and_match import BatchAndMatch, _match
from tests.hand_written import network
from tests.methods.targets import X, Y, exact, fit, regression, separated_classes

MEAN, COVARIANCE, EVIDENCE = exact()
SD = np.sqrt(np.diag(COVARIANCE))


def full_covariance(approx):
    with jax.enable_x64(True):
        return np.asarray(approx.family.covariance(jnp.asarray(approx.params)))


def test_linear_response_is_the_covariance_that_mean_field_leaves_out():
    approx = fit(regression(), po.DeterministicADVI(correct=False))
    extras = approx.record.extras
    # On fixed draws whose mean is not quite zero the means are off by as much; the curvature is exact.
    np.testing.assert_allclose(approx.params[0] / SD, MEAN / SD, atol=0.05)
    np.testing.assert_allclose(full_covariance(approx) / np.outer(SD, SD), COVARIANCE / np.outer(SD, SD), atol=0.03)
    np.testing.assert_allclose(extras["mean_field_sd"], 1 / np.sqrt(np.diag(np.linalg.inv(COVARIANCE))), rtol=0.02)
    assert np.any(extras["mean_field_sd"] < 0.9 * SD)
    np.testing.assert_allclose(full_covariance(approx), extras["linear_response_covariance"], rtol=1e-9)
    assert approx.result == "converged"
    assert approx.diagnose().trustworthy
    assert re.search(r"nats (lower|higher)", repr(approx))
    for steps in (None, 1000):
        with pytest.raises(OptionError, match="no steps to keep or to go on from"):
            approx.refine(steps)


def test_the_mean_field_solution_itself_is_a_choice():
    approx = fit(regression(), po.DeterministicADVI(covariance="mean_field"))
    assert approx.family == po.MeanField()
    np.testing.assert_allclose(np.exp(approx.params[1]), approx.record.extras["mean_field_sd"])
    gap = 0.5 * (np.sum(np.log(np.diag(np.linalg.inv(COVARIANCE)))) + np.linalg.slogdet(COVARIANCE)[1])
    assert approx.elbo == pytest.approx(EVIDENCE - gap, abs=0.1)


def test_too_few_fixed_draws_are_found_out():
    approx = fit(network(num_rows=40), po.DeterministicADVI(num_draws=8), precision="float64")
    verdict = approx.diagnose()
    assert not verdict.trustworthy
    assert "fixed draws are too few" in verdict.reasons[0]
    assert approx.record.extras["elbo_fresh"] < approx.record.extras["elbo_fixed"] - 1


def test_one_match_on_exact_scores_of_a_gaussian_is_its_closed_form():
    """Many draws and no regularisation: the score-matching Gaussian is the target itself."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(400, 3))
    mean, root = _match(np.zeros(3), np.eye(3), draws, -(draws - MEAN) @ np.linalg.inv(COVARIANCE), 1e9)
    np.testing.assert_allclose(root @ root.T, COVARIANCE, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(mean, MEAN, atol=1e-5)


def test_batch_and_match_meets_a_gaussian_posterior():
    approx = fit(regression(), "bam")
    np.testing.assert_allclose(approx.params[0] / SD, MEAN / SD, atol=0.1)
    np.testing.assert_allclose(full_covariance(approx) / np.outer(SD, SD), COVARIANCE / np.outer(SD, SD), atol=0.1)
    assert approx.elbo == pytest.approx(EVIDENCE, abs=0.05)
    assert approx.result == "converged"
    assert "ten iterations gained less" in repr(approx)
    assert f"{approx.record.steps:,} evaluations" in repr(approx)
    assert approx.diagnose().trustworthy


def test_particles_have_the_right_mean_and_the_verdict_says_that_they_are_too_close():
    method = po.SVGD(num_particles=60, num_steps=400)
    approx = fit(regression(), method)
    particles = approx.sample_unconstrained(60)
    np.testing.assert_allclose(particles.mean(0) / SD, MEAN / SD, atol=0.2)
    ratio = particles.std(0) / SD
    assert np.all(ratio > 0.4)
    assert np.all(ratio < 1.1)
    assert not approx.diagnose().trustworthy
    assert "too small" in approx.diagnose().summary
    assert "not defined" in repr(approx)


@pytest.mark.parametrize("method", ["dadvi", "bam", po.SVGD(num_particles=60, num_steps=400)])
def test_reproducible_to_the_bit_and_saved(method, tmp_path):
    first, again = fit(regression(), method), fit(regression(), method)
    np.testing.assert_array_equal(first.params, again.params)
    first.save(tmp_path / "fit.posterion")
    loaded = po.load(tmp_path / "fit.posterion")
    np.testing.assert_array_equal(first.sample_unconstrained(10), loaded.sample_unconstrained(10))
    assert loaded.record.counted == "evaluations"
    assert first.record.extras.keys() == loaded.record.extras.keys()
    assert loaded.log_weights.tolist() == first.log_weights.tolist()
    assert not np.array_equal(first.params, fit(regression(), method, random_seed=2).params)


def test_interruptions_keep_what_there_is(monkeypatch):
    from posterion.methods import batch_and_match, deterministic

    def after(number, function):
        calls = []

        def wrapped(*arguments):
            calls.append(1)
            if len(calls) == number:
                raise KeyboardInterrupt
            return function(*arguments)

        return wrapped

    monkeypatch.setattr(batch_and_match, "_match", after(4, batch_and_match._match))
    assert fit(regression(), "bam").result == "interrupted"
    monkeypatch.setattr(deterministic._Objective, "derivatives", after(2, deterministic._Objective.derivatives))
    assert fit(regression(), "dadvi").result == "interrupted"


def test_nonsense_and_impossible_sizes_are_refused():
    with pytest.raises(OptionError, match="'linear_response', 'mean_field'"):
        po.DeterministicADVI(covariance="full")
    with pytest.raises(OptionError, match="num_draws"):
        po.DeterministicADVI(num_draws=1)
    with pytest.raises(OptionError, match="tolerance"):
        BatchAndMatch(tolerance=0.0)
    with pytest.raises(OptionError, match="batch_draws"):
        BatchAndMatch(batch_draws=1)
    with pytest.raises(OptionError, match="num_particles"):
        po.SVGD(num_particles=1)
    with pytest.raises(OptionError, match="rate"):
        po.SVGD(rate=0.0)
    large = po.log_density(lambda p: -0.5 * (p["w"] ** 2).sum(), initial={"w": np.zeros(3000)})
    with pytest.raises(OptionError, match="bytes"):
        fit(large, "dadvi")
    with pytest.raises(OptionError, match="up to 1,000"):
        fit(large, "bam")


def test_an_improper_posterior_has_no_deterministic_optimum():
    with pytest.raises(DegenerateError, match="improper"):
        fit(separated_classes(), "dadvi")


def test_held_out_rows_of_a_model_without_a_spread_cannot_be_scored():
    approx = fit(regression(), "laplace")
    with pytest.raises(OptionError, match="predict_variance"):
        approx.diagnose({"x": X}, Y)
