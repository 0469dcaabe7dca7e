"""What held-out rows say of an ensemble: the factors that made it wrong are found, for the average of its members."""

import numpy as np
from scipy import special

from posterion.estimators import BayesianMLPClassifier
from posterion.estimators.classes import Logits
from posterion.estimators.ensemble import HeldOut, calibrate_classes, calibrate_numeric, folds_of, groups_of


def test_the_temperature_of_overconfident_logits_is_found():
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.normal(size=4000)
    y = (rng.random(4000) < special.expit(logits)).astype(float)
    for factor in (3.0, 0.5):
        held = [HeldOut(np.arange(4000), factor * logits[:, None], np.zeros((4000, 1, 1)), 1.0)]
        found, score = calibrate_classes(held, y, np.ones(4000))
        # The slope of a logistic regression on 4,000 rows has a standard error of 0.05 here.
        np.testing.assert_allclose(found.temperature, factor, rtol=0.2)
        best = np.mean(np.log(special.expit(np.where(y == 1, logits, -logits))))
        assert score > best - 0.002


def test_the_scale_of_noise_is_found():
    rng = np.random.default_rng(1)
    residual = 0.4 * rng.normal(size=3000)
    held = [HeldOut(np.arange(3000), np.zeros((3000, 1)), np.full((3000, 1, 1), 1e-6), 1.0)]
    found, _ = calibrate_numeric(held, residual, np.ones(3000))
    np.testing.assert_allclose(np.sqrt(found.noise), 0.4, rtol=0.1)
    assert found.freedom > 10


def test_members_that_left_out_the_same_rows_are_calibrated_as_their_average():
    """Each member is right on its own; their average is less sure than it may be, and made surer."""
    rng = np.random.default_rng(2)
    parts = 2.0 * rng.normal(size=(4, 6000))
    y = (rng.random(6000) < special.expit(parts.sum(axis=0))).astype(float)
    covariances = np.zeros((6000, 1, 1))
    held = [HeldOut(np.arange(6000), parts.mean(axis=0)[:, None] + own[:, None], covariances, 1.0) for own in parts]
    found, score = calibrate_classes(held, y, np.ones(6000))
    members = [Logits(h.means, covariances).scaled(found.temperature, found.spread) for h in held]
    average = np.mean([member.expectations()[0] for member in members], axis=0)
    log = np.log(average[np.arange(6000), y.astype(int)])
    np.testing.assert_allclose(score, log.mean(), atol=0.01)  # but for the prior's part
    plain = np.mean([Logits(h.means, covariances).expectations()[0] for h in held], axis=0)
    assert log.mean() > np.log(plain[np.arange(6000), y.astype(int)]).mean()


def test_a_temperature_does_not_make_the_rare_class_frequent():
    """Two members' logits are twice too large; halved alone, they would expect the rare class far more often."""
    rng, rows = np.random.default_rng(3), np.arange(1500)
    honest = -2.5 + 1.5 * rng.normal(size=(1500, 1))
    y = (rng.random(1500) < special.expit(honest[:, 0])).astype(float)
    covariances = np.full((1500, 1, 1), 0.5)
    held = [HeldOut(rows, 2 * honest, covariances, 1.0)] * 2
    found, _ = calibrate_classes(held, y, np.ones(1500))
    rare = lambda *calibration: Logits(2 * honest, covariances).scaled(*calibration).expectations()[0][:, 1].mean()
    modes = special.expit(2 * honest).mean()
    np.testing.assert_allclose(rare(found.temperature, found.spread, found.shift), modes, rtol=5e-3)
    assert rare(found.temperature, found.spread) > 1.3 * modes
    apart = [HeldOut(part, 2 * honest[part], covariances[part], 1.0) for part in (rows[::2], rows[1::2])]
    assert calibrate_classes(apart, y, np.ones(1500))[0].shift == 0  # no row is there that all have left out


def test_rows_with_equal_inputs_are_left_out_together():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 5, (300, 2)).astype(float), rng.integers(0, 2, 300).astype(float)
    folds = folds_of(x, y, groups_of(x), 5, 0)
    assert len(set(folds.tolist())) == 5
    assert len(np.unique(np.column_stack([x, folds]), axis=0)) == len(np.unique(x, axis=0))
    order = rng.permutation(300)
    np.testing.assert_array_equal(folds_of(x[order], y[order], groups_of(x[order]), 5, 0), folds[order])


def test_a_table_of_few_different_rows_is_learned():
    """Eight kinds of rows: one outcome of a kind left out, and the other not, would teach that it does not happen."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, (400, 3)).astype(float)
    y = (rng.random(400) < special.expit(3 * x[:, 0] - 1.5)).astype(int)
    p = BayesianMLPClassifier((6,), n_members=2, random_state=0).fit(x, y).predict_proba(x)[:, 1]
    for value in (0, 1):
        np.testing.assert_allclose(p[x[:, 0] == value].mean(), y[x[:, 0] == value].mean(), atol=0.03)
