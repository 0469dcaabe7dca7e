"""Corrections and resampling of fits whose posterior is known."""

import jax.numpy as jnp
import numpy as np
import pytest

import posterion as po
from posterion.errors import UnsupportedModelError

CORRELATION = 0.6
COVARIANCE = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
PRECISION = np.linalg.inv(COVARIANCE)


def correlated(values):
    x = values["x"] - jnp.array([1.0, -2.0])
    return -0.5 * x @ jnp.asarray(PRECISION) @ x


@pytest.fixture(scope="module")
def approx():
    return po.fit(po.log_density(correlated, initial={"x": np.zeros(2)}), n=4000, random_seed=1, progress=False)


def test_corrections_find_the_spread_that_independent_normals_miss(approx):
    found = approx.corrections
    assert found.names == ("x[0]", "x[1]")
    np.testing.assert_allclose(found.sd, np.sqrt(1 - CORRELATION**2), rtol=0.05)  # what is best for mean-field
    np.testing.assert_allclose(found.corrected_sd, 1.0, rtol=0.08)
    assert np.all(np.abs(found.corrected_mean - [1.0, -2.0]) < 4 * found.error)
    assert approx.diagnose().corrections is found


def test_resampled_draws_have_the_posteriors_covariance(approx):
    plain = approx.sample(8000).posterior["x"].values[0]
    draws = approx.sample(8000, resample=True).posterior["x"].values[0]
    assert abs(np.corrcoef(plain.T)[0, 1]) < 0.05
    np.testing.assert_allclose(np.cov(draws.T), COVARIANCE, atol=0.12)
    np.testing.assert_array_equal(draws, approx.sample(8000, resample=True).posterior["x"].values[0])
    assert not np.array_equal(draws, approx.sample(8000, random_seed=5, resample=True).posterior["x"].values[0])


def test_resampling_warns_where_the_draws_do_not_reach():
    approx = po.fit(
        po.log_density(lambda x: -jnp.sum(jnp.log1p(x**2)), initial=np.zeros(8)), n=2000, random_seed=1, progress=False
    )
    with pytest.warns(UserWarning, match="k-hat"):
        approx.sample(500, resample=True)
    assert not approx.diagnose().trustworthy


def test_a_ridge_is_seen_by_gradients_where_k_hat_is_a_matter_of_luck():
    """Two variables known by their difference; by luck k-hat is 0.69 on the fit's draws."""

    def ridge(values):
        x = values["x"]
        return -0.5 * ((x[0] - x[1]) / 0.02) ** 2 - 0.5 * (x[0] / 10) ** 2

    approx = po.fit(po.log_density(ridge, initial={"x": np.zeros(2)}), n=2000, random_seed=1, progress=False)
    verdict = approx.diagnose()
    assert not verdict.trustworthy
    assert "along x[0] and x[1] together" in verdict.reasons[0] or "along x[1] and x[0] together" in verdict.reasons[0]
    np.testing.assert_allclose(verdict.gaussian.sd, 10.0, rtol=1e-3)
    np.testing.assert_allclose(verdict.gaussian.mean, 0.0, atol=1e-3)


def test_what_has_no_density_is_not_resampled(approx, tmp_path):
    approx.save(tmp_path / "it.posterion")
    loaded = po.load(tmp_path / "it.posterion")
    with pytest.raises(UnsupportedModelError, match="binds it to the model"):
        loaded.sample(100, resample=True)
    assert loaded.diagnose().corrections is None
    point = po.fit(po.log_density(correlated, initial={"x": np.zeros(2)}), "map", progress=False)
    with pytest.raises(UnsupportedModelError, match="no density"):
        point.sample(100, resample=True)
    assert point.diagnose().corrections is None
