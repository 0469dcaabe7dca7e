"""The Gaussian that scores mean, where it is known."""

import numpy as np
import pytest

from posterion.diagnostics import correct, judge, local_gaussian
from posterion.diagnostics.verdict import with_corrections, with_scores

MEAN = np.array([1.0, -2.0, 0.5])
FACTOR = np.array([[2.0, 0, 0], [1.9, 0.3, 0], [-0.5, 0.2, 0.7]])
COVARIANCE = FACTOR @ FACTOR.T
PRECISION = np.linalg.inv(COVARIANCE)
NAMES = ("a", "b", "c")


def draws(mean, sd, count=2000, seed=0):
    """Independent normals, as mean-field leaves them."""
    return np.asarray(mean) + np.asarray(sd) * np.random.default_rng(seed).standard_normal((count, 3))


def scores(z):
    return -(z - MEAN) @ PRECISION


def test_it_is_exact_for_a_gaussian_however_far_the_draws_are():
    narrow = 1 / np.sqrt(np.diag(PRECISION))  # mean-field's optimum
    for mean, sd in ((MEAN, narrow), (MEAN + 5.0, 0.01 * narrow)):
        z = draws(mean, sd)
        found = local_gaussian(z, scores(z), NAMES)
        np.testing.assert_allclose(found.mean, MEAN, atol=1e-8)
        np.testing.assert_allclose(found.sd, np.sqrt(np.diag(COVARIANCE)), rtol=1e-8)
        np.testing.assert_allclose(found.widened, np.sqrt(np.diag(COVARIANCE)) / z.std(axis=0), rtol=1e-8)
        np.testing.assert_allclose(found.moved, (MEAN - z.mean(axis=0)) / found.sd, rtol=1e-6, atol=1e-9)
        assert found.noise < 1e-8
        assert found.tells


def test_its_narrowest_direction_is_that_of_the_largest_ratio():
    z = draws(MEAN, [0.1, 0.1, 0.1])
    found = local_gaussian(z, scores(z), NAMES)
    values, vectors = np.linalg.eigh(COVARIANCE)
    assert 1 / np.sqrt(found.narrowest) == pytest.approx(np.sqrt(values[-1]) / 0.1, rel=0.05)  # sds of 2,000 draws
    cosine = found.direction @ vectors[:, -1] / np.linalg.norm(found.direction)
    assert abs(cosine) > 0.99


def test_draws_of_the_posterior_itself_change_nothing():
    z = MEAN + np.random.default_rng(1).standard_normal((4000, 3)) @ FACTOR.T
    found = local_gaussian(z, scores(z), NAMES)
    np.testing.assert_allclose(found.moved, 0.0, atol=4 / np.sqrt(4000))
    np.testing.assert_allclose(found.widened, 1.0, atol=0.05)
    assert found.narrowest == pytest.approx(1.0, abs=0.1)


def test_scores_that_follow_no_line_say_so():
    z = draws(np.zeros(3), np.ones(3))
    assert not local_gaussian(z, -5 * z**3, NAMES).tells
    wrong_way = local_gaussian(z, z, NAMES)
    assert not wrong_way.tells
    assert np.isnan(wrong_way.sd).all()


def test_what_cannot_be_told():
    z = draws(MEAN, [1.0, 1.0, 1.0], count=30)
    assert local_gaussian(z, scores(z), NAMES) is None  # too few
    z = draws(MEAN, [1.0, 1.0, 1.0])
    assert local_gaussian(z, np.full_like(z, np.nan), NAMES) is None
    assert local_gaussian(z * [1, 0, 1], scores(z), NAMES) is None


def verdict_of(mean, sd):
    z = draws(mean, sd, count=4000)
    log_p = -0.5 * np.einsum("si,ij,sj->s", z - MEAN, PRECISION, z - MEAN)
    log_q = -0.5 * np.sum(((z - np.asarray(mean)) / sd) ** 2, axis=1)
    weights = log_p - log_q
    verdict = with_corrections(judge(weights, sentence="It settled."), correct({"z": z}, weights))
    return with_scores(verdict, local_gaussian(z, scores(z), NAMES))


def test_a_ridge_is_named_and_measured():
    narrow = 1 / np.sqrt(np.diag(PRECISION))
    verdict = verdict_of(MEAN + [2.0, 1.9, -0.5], narrow)  # a posterior standard deviation off, along the ridge
    text = " ".join(verdict.reasons)
    assert not verdict.trustworthy
    assert "gradients say that along a" in text or "gradients say that along b" in text
    assert "is off by 1.0 posterior standard deviations" in text
    assert "What gradients say of the posterior" in str(verdict)
    assert "off by 1.0" in str(verdict)


def test_a_direction_without_information_is_called_improper():
    flat = np.diag([1.0, 1.0, 0.0])
    z = draws(np.zeros(3), np.ones(3), count=4000)
    weights = -0.5 * np.einsum("si,ij,sj->s", z, flat, z) + 0.5 * np.sum(z**2, axis=1)
    verdict = with_scores(judge(weights, sentence="It settled."), local_gaussian(z, -z @ flat, NAMES))
    assert not verdict.trustworthy
    assert "hardly falls off along c:" in verdict.reasons[0]
    assert "improper" in verdict.reasons[0]
