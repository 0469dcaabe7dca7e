import jax
import numpy as np
import pytest
from scipy import stats

from posterion.errors import OptionError
from posterion.predictive import predict
from posterion.predictive.quantiles import _over_draws
from tests import hand_written as hand
from tests.predictive.test_predict import KEY, draws_for, every_moment, inputs_for

LEVELS = np.array([0.0, 0.05, 0.5, 0.731, 1.0])


@pytest.mark.parametrize("number", [1, 2, 7, 100])
def test_one_sort_gives_what_numpy_gives(number):
    values = np.random.default_rng(0).standard_normal((3, 2, number))
    np.testing.assert_allclose(_over_draws(values, LEVELS), np.quantile(values, LEVELS, axis=-1), rtol=1e-14)
    counts = np.random.default_rng(0).poisson(3.0, (4, number))
    expected = np.quantile(counts, LEVELS, axis=-1, method="inverted_cdf")
    np.testing.assert_array_equal(_over_draws(counts, LEVELS), expected)


def test_missing_and_infinite_draws():
    values = np.array([[1.0, np.nan, 2.0], [1.0, np.inf, np.inf], [-np.inf, 0.0, 1.0]])
    low, high = _over_draws(values, np.array([0.0, 1.0]))
    np.testing.assert_array_equal(low, [np.nan, 1.0, -np.inf])
    np.testing.assert_array_equal(high, [np.nan, np.inf, 1.0])


def test_quantiles_of_conditional_means_equal_brute_force():
    target = hand.network()
    draws, data = draws_for(target, 300), inputs_for(target, 157)
    prediction = predict(target, draws, data, key=KEY, x64=True)
    means, _, eta = every_moment(target, draws, data)
    found = prediction.quantile(LEVELS, of="mean")
    np.testing.assert_allclose(found["out"], np.quantile(means, LEVELS, axis=0), rtol=1e-9)
    np.testing.assert_allclose(found["eta"], np.quantile(eta, LEVELS, axis=0), rtol=1e-9, atol=1e-12)
    assert prediction.quantile(0.5, of="mean", names=["out"])["out"].shape == (157,)
    assert set(prediction.quantile(0.5, of="mean", names=["out"])) == {"out"}


def test_quantiles_of_outcomes_are_those_of_the_draws_and_reproducible():
    target = hand.linear(hand.NORMAL)
    prediction = predict(target, draws_for(target, 400), inputs_for(target, 50), key=KEY, x64=True)
    first = prediction.quantile([0.1, 0.9])["out"]
    np.testing.assert_array_equal(first, prediction.quantile([0.1, 0.9])["out"])
    np.testing.assert_allclose(first, np.quantile(prediction.sample()["out"], [0.1, 0.9], axis=0), rtol=1e-12)


def test_quantiles_of_outcomes_are_those_of_the_mixture():
    """The mixture's distribution function at its q-quantile is q."""
    target = hand.linear(hand.NORMAL)
    draws, data = draws_for(target, 5000, 0.3), inputs_for(target, 40)
    upper = predict(target, draws, data, key=KEY, x64=True).quantile(0.9)["out"]
    means, variances, _ = every_moment(target, draws, data)
    reached = stats.norm.cdf((upper - means) / np.sqrt(variances)).mean(axis=0)
    assert np.abs(reached - 0.9).max() < 5 * np.sqrt(0.9 * 0.1 / 5000)


def test_quantiles_of_labels_come_from_their_probabilities():
    binary = hand.network()
    prediction = predict(binary, draws_for(binary, 100), inputs_for(binary, 60), key=KEY, x64=True)
    p = prediction.mean["out"]
    np.testing.assert_array_equal(prediction.quantile(0.5)["out"], (p > 0.5).astype(int))
    np.testing.assert_array_equal(prediction.quantile(0.99)["out"], stats.bernoulli.ppf(0.99, p))

    classes = hand.linear(hand.CATEGORICAL)
    prediction = predict(classes, draws_for(classes, 100), inputs_for(classes, 60), key=KEY, x64=True)
    cumulative = np.cumsum(prediction.mean["out"], axis=1)
    for q in (0.0, 0.3, 0.8, 1.0):
        found = prediction.quantile(q)["out"]
        for row, label in enumerate(found):
            assert cumulative[row, label] >= q - 1e-12
            assert label == 0 or cumulative[row, label - 1] < q


@pytest.mark.slow
def test_counts_have_whole_quantiles():
    target = hand.linear(hand.POISSON)
    found = predict(target, draws_for(target, 101), inputs_for(target, 20), key=KEY, x64=True).quantile([0.25, 0.5])
    assert found["out"].dtype.kind == "i"
    assert found["eta"].dtype.kind == "f"


def test_large_numbers_of_draws_are_held_for_few_rows_at_a_time():
    target = hand.linear(hand.NORMAL)
    prediction = predict(target, draws_for(target, 70_000), inputs_for(target, 300), key=KEY, x64=False)
    blocks = [
        values["out"].shape
        for values in prediction._evaluation.collect(
            lambda target, z, data, key: target.row_values(z, data) | {"out": target.row_values(z, data)["eta"]},
            bytes_per_row=4,
        )
    ]
    assert sum(rows for _, rows in blocks) == 300
    assert max(draws * rows * 4 for draws, rows in blocks) <= 64 * 2**20


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan, [0.5, 2.0]])
def test_impossible_levels_are_refused(q):
    target = hand.linear()
    prediction = predict(target, draws_for(target, 3), inputs_for(target, 2), key=KEY, x64=True)
    with pytest.raises(OptionError, match="between 0 and 1"):
        prediction.quantile(q)


def test_what_has_no_quantiles_is_refused_by_name():
    target = hand.linear(hand.simulated(hand.NORMAL))
    prediction = predict(target, draws_for(target, 3), inputs_for(target, 2), key=jax.random.key(0), x64=True)
    with pytest.raises(OptionError, match="'out' has no closed form"):
        prediction.quantile(0.5, of="mean", names=["out"])
    assert list(prediction.quantile(0.5, of="mean")) == ["eta"]
    with pytest.raises(OptionError, match="no variable 'aut'.*out, eta"):
        prediction.quantile(0.5, names=["aut"])
