"""Information gains against direct sums over outcomes, and batches against exhaustive search."""

import itertools

import numpy as np
import pytest

from posterion.decisions import bald, epig, epig_of_numbers, suggest
from posterion.errors import DataError, OptionError


def entropy(p):
    p = np.asarray(p)
    return -np.sum(p[p > 0] * np.log(p[p > 0]))


def joint(p, rows):
    """Probability of every configuration of the outcomes of some rows."""
    out = []
    for outcome in itertools.product(range(p.shape[2]), repeat=len(rows)):
        out.append(np.mean(np.prod([p[:, r, k] for r, k in zip(rows, outcome, strict=True)], axis=0)))
    return np.array(out)


def draws(seed, rows, classes=3, number=50):
    return np.random.default_rng(seed).dirichlet([0.6] * classes, size=(number, rows))


def batch_information(p, rows):
    """I(y_rows; z): joint entropy less the mean entropy given the draw."""
    return entropy(joint(p, rows)) - np.mean([sum(entropy(p[s, r]) for r in rows) for s in range(len(p))])


def test_bald_is_the_mutual_information_of_outcome_and_draw():
    p = draws(0, 6)
    np.testing.assert_allclose(bald(p), [batch_information(p, [r]) for r in range(6)])
    binary = p[..., 1]
    two = np.stack([1 - binary, binary], axis=-1)
    np.testing.assert_allclose(bald(binary), [batch_information(two, [r]) for r in range(6)])


def test_epig_is_the_mutual_information_of_two_outcomes():
    p, t = draws(1, 4), draws(2, 5)
    both = np.concatenate([p, t], axis=1)
    expected = [
        np.mean([entropy(joint(p, [r])) + entropy(joint(t, [k])) - entropy(joint(both, [r, 4 + k])) for k in range(5)])
        for r in range(4)
    ]
    np.testing.assert_allclose(epig(p, t), expected)


def test_bald_batches_are_greedy_maxima_of_the_joint_information():
    p = draws(3, 7, number=30)
    p[:, 6] = p[:, 2]  # the same question twice
    chosen = suggest(p, 3)
    so_far = []
    for row in chosen:
        gains = {r: batch_information(p, [*so_far, r]) for r in range(7) if r not in so_far}
        assert gains[row] == pytest.approx(max(gains.values()))
        so_far.append(int(row))


def test_a_copy_of_a_certain_answer_is_not_asked_again():
    rng = np.random.default_rng(4)
    first = (rng.uniform(size=200) < 0.5).astype(float)  # each draw is sure, half of them of each label
    second = np.clip(0.5 + 0.45 * rng.choice([-1, 1], size=200), 0, 1)
    pool = np.column_stack([first, first, second])
    assert set(suggest(pool, 2).tolist()) in ({0, 2}, {1, 2})
    assert bald(pool)[1] > bald(pool)[2]  # one by one it would have been


def test_epig_batches_are_greedy_maxima_too():
    p, t = draws(5, 5, classes=2, number=40), draws(6, 3, classes=2, number=40)
    both = np.concatenate([p, t], axis=1)

    def about(rows):
        """I(y_rows; y*) on average over targets."""
        given = [entropy(joint(t, [k])) - entropy(joint(both, [*rows, 5 + k])) for k in range(3)]
        return entropy(joint(p, rows)) + np.mean(given)

    chosen = suggest(p, 3, targets=t)
    so_far = []
    for row in chosen:
        gains = {r: about([*so_far, r]) for r in range(5) if r not in so_far}
        assert gains[row] == pytest.approx(max(gains.values()))
        so_far.append(int(row))


def test_long_batches_sample_unseen_outcomes_and_stay_close_to_the_best():
    p = draws(7, 30, classes=2, number=40)
    chosen = suggest(p, 8)  # 2^7 configurations are more than are enumerated
    assert len(set(chosen.tolist())) == 8
    rng = np.random.default_rng(0)
    by_chance = [batch_information(p, rng.choice(30, 8, replace=False)) for _ in range(30)]
    assert batch_information(p, chosen) > np.max(by_chance)
    np.testing.assert_array_equal(chosen, suggest(p, 8))


def test_numbers_are_chosen_by_the_determinant():
    rng = np.random.default_rng(8)
    means = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 6))
    noise = rng.uniform(0.1, 1, 6)
    covariance = np.cov(means.T, ddof=0)

    def information(rows):
        return 0.5 * np.linalg.slogdet(np.eye(len(rows)) + covariance[np.ix_(rows, rows)] / noise[rows])[1]

    so_far = []
    for row in suggest(means, 4, variance=noise):
        gains = {r: information([*so_far, r]) for r in range(6) if r not in so_far}
        assert gains[row] == pytest.approx(max(gains.values()))
        so_far.append(int(row))


def test_epig_of_numbers_is_that_of_the_joint_normal():
    rng = np.random.default_rng(9)
    means = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 4))
    found = epig_of_numbers(means[:, :3], means[:, 3:], np.full(3, 0.5), np.array([0.3]))
    for row in range(3):
        c = np.cov(means[:, [row, 3]].T, ddof=0) + np.diag([0.5, 0.3])
        expected = 0.5 * np.log(c[0, 0] * c[1, 1] / np.linalg.det(c))
        assert found[row] == pytest.approx(expected)


def test_excluded_rows_are_not_chosen():
    p = draws(10, 5)
    assert set(suggest(p, 3, exclude=[0, 4]).tolist()) == {1, 2, 3}
    with pytest.raises(OptionError, match="between 1 and the 3 rows"):
        suggest(p, 4, exclude=[0, 4])


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(DataError, match="same posterior draws; found 50 and 40"):
        epig(draws(0, 3), draws(0, 3, number=40))
    with pytest.raises(OptionError, match="'epig' with targets"):
        suggest(draws(0, 3), by="epig")
    with pytest.raises(DataError, match="between 0 and 1"):
        bald(np.full((3, 2), 1.5))
    with pytest.raises(DataError, match="positive variance"):
        suggest(np.zeros((3, 2)), variance=np.zeros(2))
