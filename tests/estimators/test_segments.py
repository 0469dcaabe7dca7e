"""Segments of a column: jumps of the odds that are there are found, and those that chance makes are not."""

import copy
import pickle

import numpy as np
import pytest

from posterion.estimators import BayesianMLPClassifier
from posterion.estimators.columns import Columns
from posterion.estimators.ensemble import Calibration
from posterion.estimators.segments import MOST_CELLS, Segments

AMOUNTS = np.array([0.0, 100.0, 110.0, 111.0, 120.0, 500.0])
SHARES = np.array([0.2, 0.0, 0.0, 1.0, 0.0, 0.9])


def amounts(rows: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """A column of exact amounts, one of which is unlike its neighbours."""
    random = np.random.default_rng(0)
    place = random.choice(len(AMOUNTS), p=[0.75, 0.05, 0.05, 0.05, 0.05, 0.05], size=rows)
    return AMOUNTS[place], (random.random(rows) < SHARES[place]).astype(float)


def test_segments_are_where_the_odds_jump():
    x, y = amounts()
    segments = Segments.of(x, y, np.ones(len(x)))
    np.testing.assert_array_equal(segments.starts, [0.0, 50.0, 110.5, 115.5, 310.0])
    inside = [y[np.isin(x, values)] for values in ([0], [100, 110], [111], [120], [500])]
    expected = np.array([(p.sum() + 2 * y.mean()) / ((1 - p).sum() + 2 - 2 * y.mean()) for p in inside])
    odds = segments.at(np.array([0.0, 105.0, 111.0, 120.0, 1e9]))
    np.testing.assert_allclose(np.diff(odds), np.diff(np.log(expected)), rtol=1e-3)
    assert segments.at(np.array([-5.0])) == odds[0]
    np.testing.assert_array_equal(segments.at(np.array([49.0, 51.0])), odds[:2])
    assert abs(segments.at(x).mean()) < 1e-9


def test_the_best_cut_is_that_of_trying_all():
    from itertools import combinations

    from scipy.special import betaln

    random = np.random.default_rng(1)
    x = np.repeat(np.arange(7.0), 12)
    y = (random.random(84) < np.repeat([0.1, 0.15, 0.8, 0.7, 0.4, 0.5, 0.95], 12)).astype(float)
    prior = 2 * np.array([1 - y.mean(), y.mean()]) + 1e-3

    def score(cut):
        parts = np.split(np.arange(7), cut)
        inside = [y[np.isin(x, part)] for part in parts]
        log = [betaln(prior[0] + (1 - p).sum(), prior[1] + p.sum()) - betaln(*prior) for p in inside]
        return sum(log) - len(parts) * np.log(7)

    best = max((cut for n in range(7) for cut in combinations(range(1, 7), n)), key=score)
    np.testing.assert_array_equal(Segments.of(x, y, np.ones(84)).starts, [0.0, *(np.array(best) - 0.5)])


def test_noise_is_one_segment_and_says_nothing():
    random = np.random.default_rng(2)
    coins = random.integers(0, 2, (20, 2000)).astype(float)
    found = [Segments.of(random.normal(size=2000), coin, np.ones(2000)) for coin in coins]
    assert sum(len(segments.starts) > 1 for segments in found) <= 2
    one = next(segments for segments in found if len(segments.starts) == 1)
    np.testing.assert_allclose(one.at(np.array([-1.0, 1.0])), 0, atol=1e-9)


def test_neither_order_nor_weights_in_place_of_repetitions_matter():
    random = np.random.default_rng(3)
    x = random.normal(size=2 * MOST_CELLS)
    y, weights = (x + random.normal(size=len(x)) > 0).astype(float), random.integers(1, 4, len(x)).astype(float)
    order = random.permutation(int(weights.sum()))
    again = [np.repeat(part, weights.astype(int))[order] for part in (x, y)]
    mine, theirs = Segments.of(x, y, weights), Segments.of(*again, np.ones(len(order)))
    assert len(mine.starts) > 2
    np.testing.assert_array_equal(mine.starts, theirs.starts)
    np.testing.assert_allclose(mine.odds, theirs.odds)


def test_odds_are_inputs_with_a_relevance_of_their_own():
    x, y = amounts()
    table = np.column_stack([np.random.default_rng(4).normal(size=len(x)), x + 0.5])
    pieces = Columns.of(table, np.ones(len(x)), codes=True).in_pieces(table, np.ones(len(x)))
    columns = pieces.in_segments(table, y, np.ones(len(x)))
    assert columns.segmented == (1,)
    assert columns.features == pieces.features + 1 == len(columns.origins)
    assert columns.origins[-1] not in columns.origins[:-1]
    np.testing.assert_allclose(columns.inputs(table)[:, -1], Segments.of(x, y, np.ones(len(x))).at(x))


def test_a_value_in_half_the_precision_is_the_same():
    """0.7 is 0.69999999 there: below a segment that began at 0.7, and no longer the value that many rows have."""
    random = np.random.default_rng(6)
    x = random.choice(np.linspace(0.1, 0.9, 9), size=3000)
    y = (random.random(3000) < np.where(x >= 0.65, 0.9, 0.1)).astype(float)
    segments = Segments.of(x, y, np.ones(3000))
    assert len(segments.starts) == 2
    np.testing.assert_array_equal(segments.at(x.astype(np.float32).astype(float)), segments.at(x))
    tailed = np.where(random.random(3000) < 0.5, 0.7, np.exp(2 * random.normal(size=3000)))[:, None]
    columns = Columns.of(tailed, np.ones(3000), codes=True)
    assert columns.values == (0.7,)
    inputs = columns.inputs(tailed.astype(np.float32).astype(float))
    np.testing.assert_array_equal(inputs[:, 1], columns.inputs(tailed)[:, 1])


def test_cells_of_no_weight_and_neighbouring_numbers():
    random = np.random.default_rng(7)
    x = np.sort(random.normal(size=2 * MOST_CELLS))
    y = (x > 0).astype(float)
    weights = np.where(np.arange(len(x)) < 10, 0.0, 1.0)
    found = Segments.of(x, y, weights)
    assert found.starts[0] == x[0] and len(found.starts) == 2
    close = np.repeat([1.0, np.nextafter(1.0, 2)], 500)
    apart = Segments.of(close, np.repeat([0.0, 1.0], 500), np.ones(1000)).at(close)
    assert apart[0] < 0 < apart[-1]


@pytest.fixture(scope="module")
def two_outcomes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A table, and two outcomes that depend on one column each."""
    random = np.random.default_rng(8)
    x = random.normal(size=(4200, 4))
    chances = np.where([x[:, 0] > 0, np.abs(x[:, 1]) > 1], 0.9, 0.1)
    return x, *(random.random((2, 4200)) < chances).astype(int)


@pytest.fixture(scope="module")
def segmented(two_outcomes) -> BayesianMLPClassifier:
    """A large classifier of the first outcome."""
    x, first, _ = two_outcomes
    return BayesianMLPClassifier((64,), n_members=1, max_iter=2, warm_start=True).fit(x, first)


def test_files_and_pickles_keep_segments_to_the_bit(segmented, two_outcomes, tmp_path):
    x = two_outcomes[0][:100]
    assert segmented._state["columns"].segmented == (0,)
    segmented.save(tmp_path / "model")
    for again in (BayesianMLPClassifier.load(tmp_path / "model"), pickle.loads(pickle.dumps(segmented))):
        np.testing.assert_array_equal(again.predict_proba(x), segmented.predict_proba(x))


def test_a_warm_start_keeps_to_its_held_out_rows_and_forgets_another_target(segmented, two_outcomes):
    x, first, second = two_outcomes
    model = copy.deepcopy(segmented)
    before = model._state
    model.fit(x, first)
    assert model._state["fold_seed"] == before["fold_seed"]  # random_state is None
    np.testing.assert_array_equal(model._state["columns"].relevance, before["columns"].relevance)
    np.testing.assert_array_equal(model._state["columns"].segments[0].odds, before["columns"].segments[0].odds)
    model.fit(x, second)
    assert model._state["columns"].segmented == (1,)
    three = (x, (first + second).astype(float), np.ones(len(x)))
    columns, hold = model._state["columns"], np.arange(len(x)) < 400
    two = (x, second.astype(float), np.ones(len(x)))
    assert model._shape_to_go_on_with(model._state, columns, (64,), 1, two, hold) is not None
    assert model._shape_to_go_on_with(model._state, columns, (64,), 3, three, hold) is None


def test_inputs_are_chosen_where_networks_leave_nothing_out(segmented, two_outcomes):
    x, first, _ = two_outcomes
    model = copy.deepcopy(segmented).set_params(early_stopping=False, warm_start=False).fit(x, first)
    columns = model._state["columns"]
    assert columns.segmented == (0,) and model._state["calibration"] == Calibration()
    every = Segments.of(x[:, 0], first.astype(float), np.ones(len(x)))
    np.testing.assert_array_equal(columns.segments[0].odds, every.odds)


def test_a_warm_start_learns_its_odds_anew(segmented, two_outcomes):
    x, first, _ = two_outcomes
    model, fewer = copy.deepcopy(segmented), np.flatnonzero((x[:, 0] < 0) | (np.arange(len(x)) % 24 > 0))
    model.fit(x[fewer], first[fewer])
    odds, before = (each._state["columns"].segments[0].odds for each in (model, segmented))
    assert model._state["columns"].segmented == (0,) and not np.array_equal(odds, before)


@pytest.mark.slow
def test_a_large_classifier_learns_what_exact_amounts_say(tmp_path):
    """Forty amounts side by side, every other one with the other outcome: numbers in pieces alone smear them."""
    random = np.random.default_rng(5)
    codes = random.integers(0, 80, 8000)
    amount = np.where(random.random(8000) < 0.7, 0.0, 1000.5 + codes)
    y = (random.random(8000) < np.where(amount == 0, 0.3, np.where(codes % 2 == 0, 0.9, 0.1))).astype(int)
    x = np.column_stack([amount, random.normal(size=(8000, 3))])
    model = BayesianMLPClassifier((32,), n_members=2, random_state=0).fit(x[:6000], y[:6000])
    best = np.where(amount == 0, 0.3, np.where(codes % 2 == 0, 0.9, 0.1))[6000:]
    entropy = np.mean(y[6000:] * np.log(best) + (1 - y[6000:]) * np.log(1 - best))
    assert model.log_score(x[6000:], y[6000:]) > entropy - 0.03
    model.save(tmp_path / "model")
    again = BayesianMLPClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(x[:50]), model.predict_proba(x[:50]))
