import numpy as np
import pytest

from posterion.diagnostics import khat_threshold, pareto_smooth
from posterion.diagnostics.psis import told_apart
from posterion.errors import OptionError


def log_ratios(tail, draws=20_000, seed=0):
    """Log of ratios with an exactly Pareto right tail: P(r > x) = x^(-1 / tail)."""
    return tail * np.random.default_rng(seed).exponential(size=draws)


@pytest.mark.parametrize("tail", [0.2, 0.5, 0.7, 1.0])
def test_the_shape_of_a_pareto_tail_is_found(tail):
    """The tail holds 3 sqrt(20,000) = 424 draws: the estimate's sd is about (1 + k) / sqrt(424)."""
    assert pareto_smooth(log_ratios(tail)).khat == pytest.approx(tail, abs=4 * (1 + tail) / np.sqrt(424))


def test_the_right_tail_is_looked_at_not_the_left():
    """Ratios that are bounded above are harmless, however small some are."""
    assert pareto_smooth(-log_ratios(1.0)).khat < 0
    assert pareto_smooth(log_ratios(1.0)).khat > 0.7


def test_a_missing_constant_does_not_matter():
    weights = log_ratios(0.5)
    one, two = pareto_smooth(weights), pareto_smooth(weights - 1e4)
    assert one.khat == pytest.approx(two.khat, abs=1e-6)
    np.testing.assert_allclose(one.log_weights, two.log_weights, atol=1e-6)


def test_smoothed_weights_correct_the_moments():
    """Draws from N(0, 1) weighted to N(0.5, 0.9^2)."""
    z = np.random.default_rng(1).standard_normal((20_000, 1))
    ratios = -0.5 * ((z - 0.5) / 0.9) ** 2 - np.log(0.9) + 0.5 * z**2
    smoothed = pareto_smooth(ratios[:, 0])
    assert smoothed.khat < smoothed.threshold
    assert np.exp(smoothed.log_weights).sum() == pytest.approx(1.0)
    assert 1000 < smoothed.effective_draws < 20_000
    mean, sd = smoothed.moments(z)
    error = 1 / np.sqrt(smoothed.effective_draws)
    assert mean[0] == pytest.approx(0.5, abs=5 * error)
    assert sd[0] == pytest.approx(0.9, abs=5 * error)


def test_equal_weights_need_no_tail():
    smoothed = pareto_smooth(np.full(500, -3.0))
    assert smoothed.khat == -np.inf
    assert smoothed.effective_draws == pytest.approx(500)


def test_draws_outside_the_support_get_no_weight():
    weights = log_ratios(0.3)
    weights[:100] = -np.inf
    assert np.exp(pareto_smooth(weights).log_weights)[:100].max() < 1e-250


def test_one_dominating_draw_is_noticed():
    weights = np.zeros(1000)
    weights[3] = 800.0
    assert pareto_smooth(weights).khat > 0.7


@pytest.mark.parametrize(("draws", "threshold"), [(100, 0.5), (1000, 2 / 3), (10_000, 0.7), (2154, 0.7)])
def test_few_draws_need_a_better_fit(draws, threshold):
    assert khat_threshold(draws) == pytest.approx(threshold, abs=1e-3)


def test_too_few_draws_and_broken_weights_are_refused():
    with pytest.raises(OptionError, match="at least 100 draws; found 99"):
        pareto_smooth(np.zeros(99))
    with pytest.raises(OptionError, match="2 of 200 log weights are NaN"):
        pareto_smooth(np.r_[np.zeros(198), np.nan, np.inf])


@pytest.mark.parametrize(
    ("khat", "limit", "said"),
    [(0.5, 0.7, ("0.50", "0.70")), (0.7031, 0.7, ("0.703", "0.700")), (0.70001, 0.7, ("0.7000", "0.7000"))],
)
def test_a_number_just_above_its_limit_is_not_written_like_it(khat, limit, said):
    assert told_apart(khat, limit) == said
