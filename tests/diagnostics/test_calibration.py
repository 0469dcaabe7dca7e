"""Every number against one worked out by hand."""

import numpy as np
import pytest

from posterion.diagnostics import accuracy, brier_score, expected_calibration_error, log_score, reliability
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
