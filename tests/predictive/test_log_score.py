import numpy as np
import pytest
from scipy import special, stats

from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.predictive import predict
from posterion.target import Slot
from tests import hand_written as hand
from tests.predictive.test_predict import KEY, draws_for, every_moment, inputs_for


def scored(target, draws, data, y, *, x64=True):
    return predict(target, draws, data, key=KEY, x64=x64).log_score("out", y)


@pytest.mark.parametrize("num_rows", [40, 200])
def test_normal_outcomes(num_rows):
    target = hand.linear(hand.NORMAL)
    draws, data = draws_for(target, 300), inputs_for(target, num_rows)
    y = np.random.default_rng(0).standard_normal(num_rows)
    means, variances, _ = every_moment(target, draws, data)
    densities = stats.norm.logpdf(y, means, np.sqrt(variances))
    expected = special.logsumexp(densities, axis=0) - np.log(300)
    np.testing.assert_allclose(scored(target, draws, data, y), expected, rtol=1e-10)
    np.testing.assert_allclose(scored(target, draws, data, y, x64=False), expected, rtol=1e-4, atol=1e-5)
    # Not the mean of the logs, which is lower wherever the draws disagree.
    assert (expected - densities.mean(axis=0)).min() > 0.01


def test_counts():
    target = hand.linear(hand.POISSON)
    draws, data = draws_for(target, 200), inputs_for(target, 30)
    y = np.random.default_rng(0).poisson(1.5, 30)
    rates, _, _ = every_moment(target, draws, data)
    expected = special.logsumexp(stats.poisson.logpmf(y, rates), axis=0) - np.log(200)
    np.testing.assert_allclose(scored(target, draws, data, y), expected, rtol=1e-10)


def test_binary_and_categorical_outcomes_are_scored_by_their_mean_probability():
    target = hand.network()
    draws, data = draws_for(target, 200, 1.0), inputs_for(target, 30)
    y = np.arange(30) % 2
    means, _, _ = every_moment(target, draws, data)
    p = means.mean(axis=0)
    np.testing.assert_allclose(scored(target, draws, data, y), np.log(np.where(y, p, 1 - p)), rtol=1e-10)
    np.testing.assert_allclose(scored(target, draws, data, y.astype(bool)), np.log(np.where(y, p, 1 - p)), rtol=1e-10)

    target = hand.linear(hand.CATEGORICAL)
    draws, data, y = draws_for(target, 200), inputs_for(target, 30), np.arange(30) % 3
    means, _, _ = every_moment(target, draws, data)
    np.testing.assert_allclose(scored(target, draws, data, y), np.log(means.mean(axis=0)[np.arange(30), y]), rtol=1e-10)


def test_a_confident_mistake_has_a_finite_score_in_single_precision():
    """In float32 a probability of 1 - 1e-20 is 1: the density knows better."""
    target = hand.linear(hand.BERNOULLI)
    draws = np.zeros((10, target.layout.size))
    draws[:, 3] = 50.0
    data = {"x": np.zeros((2, 3))}
    np.testing.assert_allclose(scored(target, draws, data, [0, 1], x64=False), [-50.0, 0.0], atol=1e-5)


def test_the_first_observed_values_do_not_matter():
    """The outcomes given are scored, not those the model was fitted to or zeros."""
    target = hand.linear(hand.NORMAL)
    draws, data = draws_for(target, 20), inputs_for(target, 3)
    low, high = (scored(target, draws, data, np.full(3, y)) for y in (0.0, 30.0))
    assert (low > high + 10).all()


def test_outcomes_that_cannot_be_are_refused():
    target = hand.network()
    prediction = predict(target, draws_for(target, 5), inputs_for(target, 4), key=KEY, x64=True)
    for y, message in (
        ([0, 1, 1], r"shape \(4,\)"),
        ([0, 1, 2, 1], "labels 0 to 1; found .*2"),
        ([0, 1, np.nan, 1], "1 outcomes of 'out' are missing"),
        (["a", "b", "a", "a"], "must be numbers"),
    ):
        with pytest.raises(DataError, match=message):
            prediction.log_score("out", np.asarray(y))
    with pytest.raises(OptionError, match="no observed variable 'eta'; there are: out"):
        prediction.log_score("eta", np.zeros(4))


def test_a_density_without_an_input_for_outcomes_is_refused():
    target = hand.linear(hand.NORMAL)
    target.slots["y"] = Slot("float64", (None,), row_axis=0, only_observed=False)
    prediction = predict(target, draws_for(target, 5), inputs_for(target, 4), key=KEY, x64=True)
    with pytest.raises(UnsupportedModelError, match="not a data input"):
        prediction.log_score("out", np.zeros(4))


def test_fractions_are_not_scored_as_counts():
    target = hand.linear(hand.POISSON)
    prediction = predict(target, draws_for(target, 5), inputs_for(target, 2), key=KEY, x64=True)
    with pytest.raises(DataError, match="whole numbers"):
        prediction.log_score("out", np.array([1.5, 2.0]))
