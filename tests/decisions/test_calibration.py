"""Every number against one worked out by hand."""

import numpy as np
import pytest
import scipy.stats

from posterion.decisions import (
    Temperature,
    accuracy,
    brier_decomposition,
    brier_score,
    coverage,
    crps,
    expected_calibration_error,
    fit_isotonic,
    fit_temperature,
    log_score,
    pit,
    reliability,
    wilson_interval,
)
from posterion.errors import DataError, OptionError

P = np.array([0.95, 0.85, 0.6, 0.4, 0.25, 0.05])
Y = np.array([1, 1, 0, 1, 0, 0])
P3 = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])
Y3 = np.array([0, 2, 2])


def test_binary_scores():
    assert accuracy(P, Y) == pytest.approx(4 / 6)
    assert log_score(P, Y) == pytest.approx(np.mean(np.log([0.95, 0.85, 0.4, 0.4, 0.75, 0.95])))
    squares = [0.05**2, 0.15**2, 0.6**2, 0.6**2, 0.25**2, 0.05**2]
    assert brier_score(P, Y) == pytest.approx(np.mean(squares))


def test_scores_of_classes():
    assert accuracy(P3, Y3) == pytest.approx(2 / 3)
    assert log_score(P3, Y3) == pytest.approx(np.mean(np.log([0.7, 0.4, 0.4])))
    squares = [0.09 + 0.04 + 0.01, 0.01 + 0.25 + 0.36, 0.09 + 0.09 + 0.36]
    assert brier_score(P3, Y3) == pytest.approx(np.mean(squares))


def test_two_classes_are_the_binary_case():
    two = np.column_stack([1 - P, P])
    assert accuracy(two, Y) == accuracy(P, Y)
    assert log_score(two, Y) == pytest.approx(log_score(P, Y))
    assert brier_score(two, Y) == pytest.approx(2 * brier_score(P, Y))


def test_one_half_predicts_one():
    assert accuracy([0.5], [1]) == 1.0


def test_an_excluded_outcome_costs_everything():
    assert log_score([0.0, 1.0], [1, 1]) == -np.inf


def test_reliability_table_by_fixed_bins():
    table = reliability(P, Y, bins=2)
    assert table.edges.tolist() == [0, 0.5, 1]
    assert table.count.tolist() == [3, 3]
    np.testing.assert_allclose(table.probability, [(0.4 + 0.25 + 0.05) / 3, (0.95 + 0.85 + 0.6) / 3])
    np.testing.assert_allclose(table.frequency, [1 / 3, 2 / 3])
    expected = (abs(1 / 3 - 0.7 / 3) * 3 + abs(2 / 3 - 0.8) * 3) / 6
    assert table.expected_error == pytest.approx(expected)
    assert expected_calibration_error(P, Y, bins=2) == pytest.approx(expected)
    np.testing.assert_allclose(table.frequency_error[1], np.sqrt(0.8 * 0.2 / 3))


def test_empty_bins_count_for_nothing():
    table = reliability([0.9, 0.9], [1, 0])
    assert table.count.tolist() == [0] * 8 + [2, 0]
    assert np.isnan(table.frequency[0])
    assert table.expected_error == pytest.approx(0.4)


def test_edges_belong_to_the_bin_below():
    table = reliability([0.0, 0.5, 0.50001, 1.0], [0, 0, 1, 1], bins=2)
    assert table.count.tolist() == [2, 2]


def test_bins_of_equal_mass():
    table = reliability(P, Y, bins=3, binning="equal_mass")
    assert table.count.tolist() == [2, 2, 2]
    np.testing.assert_allclose(table.probability, [0.15, 0.5, 0.9])
    np.testing.assert_allclose(table.frequency, [0, 0.5, 1])
    assert table.expected_error == pytest.approx((0.15 + 0 + 0.1) / 3)


def test_tied_probabilities_stay_together():
    table = reliability([0.3] * 6, [1, 0, 0, 1, 0, 0], bins=3, binning="equal_mass")
    assert table.count.tolist() == [6]
    assert table.expected_error == pytest.approx(1 / 3 - 0.3)


def test_classes_are_calibrated_by_their_most_probable_one():
    claimed, happened = np.array([0.7, 0.5, 0.4]), np.array([1, 0, 1])
    assert expected_calibration_error(P3, Y3) == pytest.approx(expected_calibration_error(claimed, happened))


def test_true_probabilities_are_calibrated_and_have_the_best_score():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=100_000)
    y = (rng.uniform(size=p.size) < p).astype(int)
    # Ten bins of 10,000: each frequency is off by at most 0.005 or so (one standard error).
    assert expected_calibration_error(p, y) < 0.01
    sharpened = p**2 / (p**2 + (1 - p) ** 2)
    assert log_score(p, y) > log_score(sharpened, y)
    assert brier_score(p, y) < brier_score(sharpened, y)
    assert expected_calibration_error(sharpened, y) > 0.05


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([0.5, 0.5], [1], "found .2,. and .1,."),
        ([], [], "at least one row"),
        ([1.2], [1], "between 0 and 1"),
        ([np.nan], [1], "missing"),
        ([0.5], [2], "labels 0 to 1; found .*2"),
        ([[0.5, 0.2]], [0], "sum to 1"),
        ([[0.5, 0.5]], [0.5], "labels 0 to 1"),
    ],
)
def test_what_is_not_a_prediction_is_refused(p, y, message):
    with pytest.raises(DataError, match=message):
        accuracy(p, y)


def test_unknown_binnings_are_refused():
    with pytest.raises(OptionError, match="bins must be at least 1"):
        reliability(P, Y, bins=0)


def test_the_table_as_a_dataset_has_wilsons_bounds():
    table = reliability(P, Y, bins=4).to_dataset()
    assert table.sizes == {"bin": 4}
    low, high = wilson_interval(np.array([0.0]), np.array([2]))
    np.testing.assert_allclose(table.frequency_low[0], low[0])
    np.testing.assert_allclose(table.frequency_high[0], high[0])
    empty = reliability([0.9], [1], bins=2).to_dataset()
    assert np.isnan(empty.frequency_low[0])


def test_wilson_intervals_have_a_level():
    exact = scipy.stats.binomtest(7, 20).proportion_ci(0.8, method="wilson")
    low, high = wilson_interval(np.array([7]), np.array([20]), level=0.8)
    np.testing.assert_allclose([low[0], high[0]], [exact.low, exact.high])
    with pytest.raises(OptionError, match="level must lie between 0 and 1"):
        wilson_interval(np.array([7]), np.array([20]), level=95.0)


# ---- the Brier score taken apart
def test_brier_parts_add_up_and_are_exact_for_forecasts_of_few_values():
    rng = np.random.default_rng(0)
    p = rng.choice([0.1, 0.4, 0.8], size=500)
    y = (rng.uniform(size=500) < p).astype(int)
    parts = brier_decomposition(p, y, binning="fixed")
    rates = np.array([y[p == v].mean() for v in (0.1, 0.4, 0.8)])
    weights = np.array([np.mean(p == v) for v in (0.1, 0.4, 0.8)])
    assert parts.calibration == pytest.approx(weights @ (rates - [0.1, 0.4, 0.8]) ** 2)
    assert parts.resolution == pytest.approx(weights @ (rates - y.mean()) ** 2)
    assert parts.uncertainty == pytest.approx(y.var())
    assert parts.remainder == pytest.approx(0, abs=1e-12)
    assert parts.score == pytest.approx(brier_score(p, y))


def test_brier_parts_of_two_classes_are_twice_the_binary_ones():
    binary = np.array(brier_decomposition(P, Y, bins=3))
    np.testing.assert_allclose(brier_decomposition(np.column_stack([1 - P, P]), Y, bins=3), 2 * binary)


# ---- numbers
def test_crps_is_the_closed_form_of_a_normal_prediction():
    rng = np.random.default_rng(0)
    y = np.array([-1.0, 0.3, 2.5])
    found = crps(rng.normal(size=(200_000, 3)), y)
    closed = y * (2 * scipy.stats.norm.cdf(y) - 1) + 2 * scipy.stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(found, closed, atol=5e-3)  # standard error of either term: 1 / sqrt(200,000) = 2e-3


def test_crps_is_unbiased_with_two_draws_and_the_error_without_spread():
    rng = np.random.default_rng(1)
    few = crps(rng.normal(size=(2, 200_000)), np.zeros(200_000))
    closed = 2 * scipy.stats.norm.pdf(0) - 1 / np.sqrt(np.pi)
    assert abs(few.mean() - closed) < 4 * few.std() / np.sqrt(few.size)
    np.testing.assert_allclose(crps(np.full((5, 2), 3.0), [1.0, 7.0]), [2.0, 4.0])
    with pytest.raises(DataError, match="at least two draws"):
        crps([[1.0]], [1.0])


def test_right_predictions_have_a_uniform_transform_and_hold_their_coverage():
    rng = np.random.default_rng(2)
    centre = rng.normal(size=20_000)
    y = rng.normal(centre)
    transform = pit(rng.normal(centre, size=(19, y.size)), y)
    assert scipy.stats.kstest(transform, "uniform").pvalue > 0.01
    table = coverage(transform)
    assert np.all((table.low <= table.level) & (table.level <= table.high))
    narrow = coverage(pit(rng.normal(centre, 0.5, size=(99, y.size)), y), levels=[0.9])
    expected = 2 * scipy.stats.norm.cdf(0.5 * scipy.stats.norm.ppf(0.95)) - 1
    assert narrow.covered.item() == pytest.approx(expected, abs=0.02)


def test_the_transform_of_counts_is_uniform_too():
    rng = np.random.default_rng(3)
    transform = pit(rng.poisson(1.0, size=(99, 20_000)), rng.poisson(1.0, size=20_000))
    assert scipy.stats.kstest(transform, "uniform").pvalue > 0.01


def test_transforms_and_levels_outside_of_their_range_are_refused():
    with pytest.raises(DataError, match="between 0 and 1; found 0.5 to 1.5"):
        coverage([0.5, 1.5])
    with pytest.raises(OptionError, match="levels must be probabilities"):
        coverage([0.5], levels=[90.0])
    with pytest.raises(DataError, match="found .3, 2. and .3,"):
        pit(np.zeros((3, 2)), np.zeros(3))


# ---- recalibration
def overconfident(rows, seed, power=2.5):
    rng = np.random.default_rng(seed)
    truth = rng.beta(2, 2, rows)
    y = (rng.uniform(size=rows) < truth).astype(int)
    return truth**power / (truth**power + (1 - truth) ** power), y, truth


def test_temperature_undoes_a_power():
    p, y, truth = overconfident(20_000, 0)
    fitted = fit_temperature(p, y)
    # Information about 1/T: n E[p (1 - p) logit(p)^2] in the tempered family; 20,000 rows leave 3 %.
    assert fitted.temperature == pytest.approx(2.5, rel=0.05)
    np.testing.assert_allclose(fitted(p), truth, atol=0.02)
    two = np.column_stack([1 - p, p])
    assert fit_temperature(two, y).temperature == pytest.approx(fitted.temperature)
    np.testing.assert_allclose(fitted(two)[:, 1], fitted(p))


def test_temperature_is_where_the_log_score_is_best():
    p, y, _ = overconfident(300, 1)
    fitted = fit_temperature(p, y)
    best = log_score(fitted(p), y)
    assert best > log_score(Temperature(fitted.temperature * 1.05)(p), y)
    assert best > log_score(Temperature(fitted.temperature / 1.05)(p), y)


def test_no_temperature_is_invented_where_none_is_best():
    with pytest.raises(DataError, match="all right"):
        fit_temperature([0.9, 0.2], [1, 0])
    with pytest.raises(DataError, match="no better than chance"):
        fit_temperature([0.9, 0.2], [0, 1])


@pytest.mark.parametrize("fit", [fit_temperature, fit_isotonic])
def test_recalibration_helps_on_other_rows(fit):
    recalibrate = fit(*overconfident(2_000, 2)[:2])
    p, y, _ = overconfident(5_000, 3)
    assert log_score(recalibrate(p), y) > log_score(p, y) + 0.02
    assert expected_calibration_error(recalibrate(p), y) < 0.5 * expected_calibration_error(p, y)


def test_isotonic_maps_of_classes_sum_to_one_and_exclude_nothing():
    rng = np.random.default_rng(4)
    truth = rng.dirichlet([1, 1, 1], size=3_000)
    y = np.array([rng.choice(3, p=row) for row in truth])
    sharp = truth**2 / np.sum(truth**2, axis=1, keepdims=True)
    found = fit_isotonic(sharp[:2_000], y[:2_000])(sharp[2_000:])
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert log_score(found, y[2_000:]) > log_score(sharp[2_000:], y[2_000:])
    with pytest.raises(DataError, match="fitted for 3 labels"):
        fit_isotonic(sharp, y)(sharp[:, 0])
