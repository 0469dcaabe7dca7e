"""Importance corrections where both distributions are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from posterion.diagnostics import correct, judge
from posterion.diagnostics.corrections import pick
from posterion.diagnostics.verdict import with_corrections

DRAWS = 8000


def gaussian(mean=0.0, sd=1.0, narrow=0.9, seed=0):
    """Draws of q = N(0, narrow^2) and their log ratios to p = N(mean, sd^2)."""
    x = narrow * np.random.default_rng(seed).standard_normal(DRAWS)
    return x, stats.norm.logpdf(x, mean, sd) - stats.norm.logpdf(x, 0.0, narrow)


def corrected(**options):
    x, log_weights = gaussian(**options)
    return correct({"x": x, "w": np.stack([x, 2 * x], axis=1)}, log_weights)


def test_moments_are_those_of_the_posterior():
    found = corrected(mean=0.1, sd=1.0)
    assert found.names == ("x", "w[0]", "w[1]")
    np.testing.assert_allclose(found.mean, [0, 0, 0], atol=4 * 1.8 / np.sqrt(DRAWS))
    np.testing.assert_allclose(found.sd, [0.9, 0.9, 1.8], rtol=0.03)
    assert np.all(np.abs(found.corrected_mean - [0.1, 0.1, 0.2]) < 4 * found.error)
    np.testing.assert_allclose(found.corrected_sd, [1.0, 1.0, 2.0], rtol=0.04)
    np.testing.assert_allclose(found.moved, 0.1, atol=4 * found.error[0])
    np.testing.assert_allclose(found.widened, 1 / 0.9, rtol=0.04)
    assert found.reliable
    assert found.effective_draws < DRAWS


def test_the_error_is_the_scatter_over_repetitions():
    repeats = [corrected(mean=0.1, seed=seed) for seed in range(40)]
    scatter = np.std([r.corrected_mean[0] for r in repeats], ddof=1)
    assert scatter == pytest.approx(np.mean([r.error[0] for r in repeats]), rel=0.35)  # 40 repeats: 11 % standard error


def test_the_table_and_what_is_worst():
    found = corrected(mean=0.1)
    table = found.to_dataset()
    assert table.sizes == {"entry": 3}
    assert float(table["moved"].sel(entry="w[1]")) == found.moved[2]
    assert "moved +0." in found.sentence(0)
    assert sorted(found.worst(2))[0] in (0, 1, 2)
    assert len(found.worst(2)) == 2


def test_picked_draws_have_the_posteriors_moments():
    x, log_weights = gaussian(mean=0.1)
    places, smoothed = pick(log_weights, 4000, seed=3)
    assert places.shape == (4000,)
    se = 1 / np.sqrt(smoothed.effective_draws)
    assert x[places].mean() == pytest.approx(0.1, abs=4 * se)
    assert x[places].std() == pytest.approx(1.0, abs=0.05)
    assert np.array_equal(pick(log_weights, 4000, seed=3)[0], places)
    assert not np.array_equal(pick(log_weights, 4000, seed=4)[0], places)
    counts = np.bincount(places, minlength=DRAWS)  # systematic: as often as the weight says, to within one
    assert np.all(np.abs(counts - 4000 * np.exp(smoothed.log_weights)) <= 1 + 1e-9)


def verdict_of(**options):
    _, log_weights = gaussian(**options)
    return with_corrections(judge(log_weights, sentence="It settled."), corrected(**options))


def test_a_mean_that_moves_far_is_not_trusted():
    good = verdict_of(mean=0.1)
    assert good.trustworthy
    assert "What importance weights change most" in str(good)
    moved = verdict_of(mean=0.4, narrow=1.0)
    assert moved.khat < moved.khat_threshold  # k-hat alone would have trusted it
    assert not moved.trustworthy
    assert "move the mean of" in moved.reasons[0]
    assert "resample=True" in moved.advice[0]


def test_a_spread_that_is_far_off_is_not_trusted():
    wide = verdict_of(narrow=2.0)
    assert wide.khat < wide.khat_threshold
    assert not wide.trustworthy
    assert "2.0 times too wide" in wide.reasons[0]
    assert "and 2 more" in wide.reasons[0]


def test_weights_that_cannot_be_trusted_are_a_hint():
    hint = verdict_of(narrow=0.3)
    assert not hint.corrections.reliable
    assert not hint.trustworthy
    assert "k-hat" in hint.reasons[0]
    assert "a hint" in str(hint)
    assert len(str(hint).splitlines()) <= 20


def test_where_two_looks_disagree_all_draws_decide():
    first, second = judge(gaussian(mean=0.1)[1]), corrected(narrow=0.3)
    assert first.trustworthy
    assert not second.reliable
    lonely = with_corrections(first, second)
    assert not lonely.trustworthy
    assert "k-hat on other draws" in lonely.reasons[0]
    assert not with_corrections(first, second, pooled=0.75).trustworthy
    together = with_corrections(first, replace(second, corrected_sd=second.sd), pooled=0.6)
    assert together.trustworthy
    assert "k-hat 0.60 (limit 0.70) of 16,000 draws" in together.reasons[0]
    off = with_corrections(first, replace(second, corrected_sd=2 * second.sd), pooled=0.6)
    assert "times too narrow" in off.reasons[0]  # the spread of each variable is looked at all the same


def test_a_spread_that_is_off_is_seen_where_it_is_clear():
    """1.25 times too wide is found and 1.1 let pass; a factor that hangs on one draw of many is not held against."""
    assert not verdict_of(narrow=1.25).trustworthy
    assert verdict_of(narrow=1.1).trustworthy
    x, log_weights = gaussian(narrow=1.05)
    odd = np.arange(DRAWS) == np.argmax(x)  # one draw far out, which the posterior does not go to
    x, log_weights = np.where(odd, 100.0, x), np.where(odd, log_weights - 10, log_weights)
    lonely = with_corrections(judge(log_weights), correct({"x": x}, log_weights))
    assert 1 / lonely.corrections.widened[0] > 1.3
    assert lonely.trustworthy


def test_the_error_of_a_ratio_of_spreads_is_its_scatter():
    repeats = [corrected(mean=0.1, seed=seed) for seed in range(40)]
    scatter = np.std([np.log(r.widened[0]) for r in repeats], ddof=1)
    assert scatter == pytest.approx(np.mean([r.error_of_widened[0] for r in repeats]), rel=0.4)


def test_the_tail_of_weights_that_hardly_differ_is_no_matter():
    """A regression's exact posterior but for rounding of the fit: k-hat 0.8 of ratios that vary by a few percent."""
    rng = np.random.default_rng(0)
    log_weights = np.minimum(0.02 * np.abs(rng.standard_t(1.2, size=DRAWS)), 0.5)
    found = correct({"x": rng.standard_normal(DRAWS)}, log_weights)
    assert found.effective_draws > 0.99 * DRAWS
    assert found.reliable
    assert with_corrections(judge(log_weights), found).trustworthy
