"""Segments of a column: jumps of the odds that are there are found, and those that chance makes are not."""

import numpy as np
import pytest

from posterion.estimators import BayesianMLPClassifier
from posterion.estimators.columns import Columns
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
    np.testing.assert_array_equal(segments.starts, [0.0, 100.0, 111.0, 120.0, 500.0])
    inside = [y[np.isin(x, values)] for values in ([0], [100, 110], [111], [120], [500])]
    expected = np.array([(p.sum() + 2 * y.mean()) / ((1 - p).sum() + 2 - 2 * y.mean()) for p in inside])
    odds = segments.at(np.array([0.0, 105.0, 111.0, 120.0, 1e9]))
    np.testing.assert_allclose(np.diff(odds), np.diff(np.log(expected)), rtol=1e-3)
    assert segments.at(np.array([-5.0])) == odds[0]
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
    np.testing.assert_array_equal(Segments.of(x, y, np.ones(84)).starts, [0.0, *best])


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
