"""Explanations of functions whose effects are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from posterion.decisions import partial_dependence, permutation_importance, sensitivity
from posterion.decisions.explanation import _Table
from posterion.errors import DataError, OptionError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))
SLOPES = RNG.normal([2.0, -1.0, 0.0], [0.3, 0.1, 0.0], size=(4_000, 3))


def linear(rows):
    return SLOPES @ np.asarray(rows, float).T


def test_partial_dependence_of_a_line_is_the_line_with_its_band():
    found = partial_dependence(linear, X, 0, values=[-1.0, 0.0, 2.0], background=300, level=0.9)
    others = X[:, 1:].mean(axis=0) @ SLOPES[:, 1:].mean(axis=0)
    np.testing.assert_allclose(found["mean"], np.array([-1, 0, 2]) * SLOPES[:, 0].mean() + others)
    width = norm.ppf(0.95) * 0.3 * 2
    assert found.high[2] - found["mean"][2] == pytest.approx(width, rel=0.1)
    assert found.attrs["column"] == "0" and found.attrs["rows"] == 300


def test_partial_dependence_on_a_table_with_categories():
    table = pd.DataFrame({"size": X[:, 0], "kind": np.where(X[:, 1] > 0, "b", "a"), "n": np.arange(300)})
    predict = lambda rows: np.stack([rows["size"] + (rows["kind"] == "b") * 3.0] * 2)
    found = partial_dependence(predict, table, "kind")
    assert found.value.values.tolist() == ["a", "b"]
    assert float(found["mean"].diff("value")[0]) == pytest.approx(3.0)
    numbers = partial_dependence(predict, table, "size", values=5)
    assert numbers.sizes["value"] == 5
    with pytest.raises(OptionError, match="no column 'weight'; there are: size, kind, n"):
        partial_dependence(predict, table, "weight")


def test_classes_keep_their_axis():
    found = partial_dependence(lambda rows: np.full((10, len(rows), 4), 0.25), X, 1, values=3)
    assert found["mean"].shape == (3, 4)


def test_importance_is_what_shuffling_costs():
    # y ~ N(2 x0 - x1, 1): shuffling a column adds (b (x - x'))^2 / 2 to the loss, b^2 var(x) on average.
    y = 2 * X[:, 0] - X[:, 1] + RNG.normal(size=300)
    score = lambda rows: norm.logpdf(y, 2 * rows[:, 0] - rows[:, 1])
    found = permutation_importance(score, X, repeats=20)
    expected = np.array([4.0, 1.0, 0.0]) * X.var(axis=0)
    assert np.all((found.low <= expected) & (expected <= found.high))
    assert found.importance[2] == 0
    assert found.attrs["score"] == pytest.approx(score(X).mean())


def test_sensitivity_is_the_slope_per_standard_deviation():
    found = sensitivity(linear, X)
    np.testing.assert_allclose(found.effect, np.broadcast_to(SLOPES.mean(0) * X.std(0), (300, 3)), atol=1e-9)
    np.testing.assert_allclose(found.effect_std[0], SLOPES.std(0) * X.std(0), atol=1e-9)
    np.testing.assert_allclose(found.influence, np.abs(SLOPES.mean(0) * X.std(0)), atol=1e-9)
    bent = sensitivity(lambda rows: np.stack([np.sin(rows[:, 0])] * 2), X, columns=[0], scale=[1.0], step=1e-3)
    np.testing.assert_allclose(bent.effect[:, 0], np.cos(X[:, 0]), atol=1e-6)


def test_whole_numbers_are_nudged_to_values_that_occur():
    codes = np.array([0, 1, 1, 2, 5, 5])
    asked = []
    effects = np.array([0.0, 3.0, 4.0, np.nan, np.nan, 10.0])
    predict = lambda rows: asked.append(rows[:, 0]) or np.stack([effects[rows[:, 0].astype(int)]] * 2)
    found = sensitivity(predict, codes[:, None]).effect[:, 0] / codes.std()
    assert set(asked[0]) == {0, 1, 2, 5}
    np.testing.assert_allclose(found, [3.0, 2.0, 2.0, 7 / 4, 2.0, 2.0])
    assert partial_dependence(predict, codes[:, None], 0, values=4).value.values.tolist() == [0, 1, 2, 5]


def test_the_influence_of_a_jump_does_not_depend_on_the_step():
    x = np.linspace(-1, 1, 20_001)[:, None]
    jump = lambda rows: np.stack([(rows[:, 0] > 0.3) * 1.0] * 2)
    found = [float(sensitivity(jump, x, step=step).influence[0]) for step in (0.1, 0.01)]
    np.testing.assert_allclose(found, x.std() / 2, rtol=0.02)  # a jump of one on a way of two


def test_values_are_asked_for_as_they_are_given():
    names = np.array([["ab"], ["cd"]])
    found = partial_dependence(lambda rows: np.stack([(rows[:, 0] == "abcdef") * 1.0] * 2), names, 0, values=["abcdef"])
    assert found["mean"].values.tolist() == [1.0]
    assert partial_dependence(linear, X, 0, values=np.int64(5)).sizes["value"] == 5
    with pytest.raises(OptionError, match="values must be a whole number"):
        partial_dependence(linear, X, 0, values=0)


def test_what_cannot_be_nudged_is_refused():
    table = pd.DataFrame({"kind": ["a", "b"], "one": [1.0, 1.0]})
    with pytest.raises(DataError, match="'kind' does not hold numbers"):
        sensitivity(linear, table, columns=["kind"])
    with pytest.raises(DataError, match="constant among these rows"):
        sensitivity(linear, table)
    with pytest.raises(DataError, match="asked for 60 rows and answered 1"):
        partial_dependence(lambda rows: np.zeros((5, 1)), X[:3], 0)
    with pytest.raises(DataError, match="one finite number for each of 300 rows"):
        permutation_importance(lambda rows: 1.0, X)


def test_names_of_columns_need_not_be_text():
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((40, 2)))
    assert _Table(frame).with_values(0, np.arange(40.0)).data[0].tolist() == list(range(40))
