"""Newton steps on surfaces whose answer is known."""

import numpy as np
import pytest

from posterion.methods.curvature import Curvature, flatness_of


def ridge():
    """Precision of intercept and slope of 60 raw years, whose correlation is 0.99996."""
    years = np.arange(1950.0, 2010.0)
    columns = np.stack([np.ones_like(years), years], axis=1)
    return columns.T @ columns


def test_a_step_goes_as_far_along_a_ridge_as_it_is_long():
    """Three posterior standard deviations are hundreds of those that either entry has if the other is known."""
    precision = ridge()
    curvature = Curvature.of(precision, flatness_of(double=True))
    covariance = np.linalg.inv(precision)
    off = 3 * covariance[:, 0] / np.sqrt(covariance[0, 0])  # along the ridge
    step, decrement = curvature.newton_step(precision @ off)
    np.testing.assert_allclose(step, -off, rtol=1e-4)
    assert decrement == pytest.approx(4.5, rel=1e-4)
    assert np.abs(off / curvature.scale).max() > 100


def test_far_away_a_step_is_cut_to_ten_standard_deviations():
    precision = ridge()
    curvature = Curvature.of(precision, flatness_of(double=True))
    covariance = np.linalg.inv(precision)
    off = 30 * covariance[:, 0] / np.sqrt(covariance[0, 0])
    step, _ = curvature.newton_step(precision @ off)
    np.testing.assert_allclose(step, -off / 3, rtol=1e-4)
    step, _ = curvature.newton_step(precision @ off, longest=np.inf)
    np.testing.assert_allclose(step, -off, rtol=1e-4)
