"""Coverage by simulation, against what the theory promises: exactly ceil((n + 1) level) / (n + 1) without ties."""

import numpy as np
import pytest

from posterion.decisions import conformal_quantile, fit_conformal_intervals, fit_conformal_sets
from posterion.errors import DataError, OptionError


def covered(fit, sample, *, held_out, trials=400, new=100, seed=0):
    """Mean coverage over held-out sets, and its standard error."""
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(trials):
        p, y = sample(rng, held_out)
        sets = fit(p, y)
        p, y = sample(rng, new)
        shares.append(sets(p)[np.arange(new), y].mean())
    return np.mean(shares), np.std(shares) / np.sqrt(trials)


def binary(rng, rows):
    truth = rng.beta(0.7, 0.7, rows)
    y = (rng.uniform(size=rows) < truth).astype(int)
    return truth**2 / (truth**2 + (1 - truth) ** 2), y  # overconfident: the promise does not need a right model


def classes(rng, rows):
    truth = rng.dirichlet([0.8] * 4, size=rows)
    y = (rng.uniform(size=(rows, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    return np.roll(truth, 1, axis=1) * 0.5 + truth * 0.5, y


@pytest.mark.parametrize("sample", [binary, classes])
def test_least_ambiguous_sets_cover_as_promised(sample):
    share, error = covered(lambda p, y: fit_conformal_sets(p, y, level=0.9), sample, held_out=49)
    assert share == pytest.approx(45 / 50, abs=4 * error)


def test_adaptive_sets_cover_at_least_as_promised_and_are_never_empty():
    fit = lambda p, y: fit_conformal_sets(p, y, level=0.9, score="adaptive")
    share, error = covered(fit, classes, held_out=49)
    assert share > 0.9 - 3 * error
    rng = np.random.default_rng(0)
    assert fit(*classes(rng, 49))(classes(rng, 200)[0]).any(axis=1).all()


def test_every_label_is_covered_when_promised_per_class():
    def rare(rng, rows):
        y = np.r_[np.ones(rows // 5, int), np.zeros(rows - rows // 5, int)]
        return 1 / (1 + np.exp(1.0 - 1.5 * y - rng.normal(size=rows))), y

    rng = np.random.default_rng(1)
    together, apart = [], []
    for _ in range(300):
        held, new = rare(rng, 145), rare(rng, 200)
        for found, options in ((together, {}), (apart, {"per_class": True})):
            sets = fit_conformal_sets(*held, level=0.9, **options)(new[0])
            found.append(sets[np.arange(200), new[1]][:40].mean())
    assert np.mean(together) < 0.85  # the rare label pays for the common one
    assert np.mean(apart) == pytest.approx(27 / 30, abs=4 * np.std(apart) / np.sqrt(300))


def test_two_columns_are_the_binary_case():
    rng = np.random.default_rng(2)
    p, y = binary(rng, 60)
    for score in ("least_ambiguous", "adaptive"):
        one = fit_conformal_sets(p, y, score=score)(p)
        two = fit_conformal_sets(np.column_stack([1 - p, p]), y, score=score)(np.column_stack([1 - p, p]))
        assert one.shape == (60, 2)
        np.testing.assert_array_equal(one, two)


def test_intervals_cover_as_promised_whatever_the_model():
    rng = np.random.default_rng(3)
    shares, wide = [], []
    for _ in range(400):
        x = rng.uniform(0.5, 2, 149)
        y = x * rng.normal(size=149)
        grow = fit_conformal_intervals(-x[:49], x[:49], y[:49], scale=x[:49], level=0.8)
        low, high = grow(-x[49:], x[49:], x[49:])
        shares.append(np.mean((low <= y[49:]) & (y[49:] <= high)))
        wide.append(grow.margin + 1)
    assert np.mean(shares) == pytest.approx(40 / 50, abs=4 * np.std(shares) / np.sqrt(400))
    assert np.mean(wide) == pytest.approx(1.2816, abs=0.05)  # the right factor of x for 80 %


def test_intervals_that_are_too_wide_shrink_but_never_cross():
    shrink = fit_conformal_intervals(np.full(50, -10.0), np.full(50, 10.0), np.zeros(50))
    low, high = shrink(np.array([-10.0, -1.0]), np.array([10.0, 1.0]))
    np.testing.assert_allclose([low, high], [[0, 0], [0, 0]])


def test_the_quantile_is_the_right_order_statistic():
    scores = np.random.default_rng(4).permutation(99) + 1.0
    assert conformal_quantile(scores, 0.9) == 90
    assert conformal_quantile(scores, 0.99) == 99
    assert conformal_quantile(np.arange(9.0), 0.9) == 8
    with pytest.raises(DataError, match="99 held-out rows are too few to promise 0.995; at least 199"):
        conformal_quantile(scores, 0.995)


def test_what_cannot_be_promised_is_refused():
    with pytest.raises(DataError, match="2 held-out rows of label 1 are too few"):
        fit_conformal_sets(np.full(30, 0.5), np.r_[np.zeros(28, int), 1, 1], per_class=True)
    with pytest.raises(OptionError, match="level must lie between"):
        fit_conformal_sets(np.full(30, 0.5), np.zeros(30, int), level=90.0)
    with pytest.raises(DataError, match="fitted for 2 labels"):
        fit_conformal_sets(np.full(30, 0.5), np.zeros(30, int))(np.full((1, 3), 1 / 3))
    with pytest.raises(DataError, match="scale must be positive"):
        fit_conformal_intervals(np.zeros(30), np.ones(30), np.zeros(30), scale=np.zeros(30))
    with pytest.raises(DataError, match="must not exceed"):
        fit_conformal_intervals(np.ones(30), np.zeros(30), np.zeros(30))
