"""The mode and Laplace's approximation: closed forms, and posteriors that have no mode or no curvature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import posterion as po
from posterion.errors import DegenerateError, OptionError
from tests.hand_written import network
from tests.methods.targets import (
    X,
    Y,
    exact,
    fit,
    flat_regression,
    gamma_posterior,
    proper_regression,
    regression,
    schools,
    separated_classes,
)


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (1e-4, 1.0, 1e5)])
def test_laplace_of_a_gaussian_posterior_is_the_posterior_whatever_the_units(scales):
    approx = fit(regression(scales), "laplace")
    mean, covariance, evidence = exact(scales)
    sd = np.sqrt(np.diag(covariance))
    with jax.enable_x64(True):
        found = np.asarray(approx.family.covariance(jnp.asarray(approx.params)))
    np.testing.assert_allclose(approx.params[0] / sd, mean / sd, atol=1e-5)
    np.testing.assert_allclose(found / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=1e-6)
    assert approx.elbo == pytest.approx(evidence, abs=1e-3)
    assert approx.result == "converged"
    assert approx.diagnose().trustworthy


def test_diagonal_laplace_leaves_correlations_out():
    approx = fit(regression(), po.Laplace("diagonal"))
    mean, covariance, _ = exact()
    np.testing.assert_allclose(approx.params[0], mean, atol=1e-6)
    np.testing.assert_allclose(np.exp(approx.params[1]), 1 / np.sqrt(np.diag(np.linalg.inv(covariance))), rtol=1e-6)


def test_the_mode_is_that_of_the_unconstrained_variable():
    target, shape, rate = gamma_posterior()
    approx = fit(target, "map")
    draws = approx.sample(7)["posterior"]["rate"].values
    np.testing.assert_allclose(draws, shape / rate, rtol=1e-6)  # of the logarithm: shape and not shape - 1
    laplace = fit(target, "laplace")
    np.testing.assert_allclose(np.exp(laplace.params[1]), 1 / np.sqrt(shape), rtol=1e-4)


def test_a_point_says_that_it_is_no_posterior():
    approx = fit(regression(), po.MAP())
    mean, covariance, _ = exact()
    np.testing.assert_allclose(approx.params, mean[None], atol=1e-6)
    verdict = approx.diagnose()
    assert not verdict.trustworthy
    assert "no spread" in verdict.summary
    assert "no density" in str(verdict)
    assert "nan" not in repr(approx) + str(verdict)
    assert "not defined" in repr(approx)
    assert np.isnan(approx.elbo)
    assert np.isnan(approx.elbo_se)
    assert float(approx.record.extras["log_joint"]) == pytest.approx(
        stats.norm.logpdf(Y, X @ mean).sum() + stats.norm.logpdf(mean, 0, 10).sum()
    )


@pytest.mark.parametrize("method", ["map", "laplace"])
def test_saved_and_loaded_and_reproducible_to_the_bit(method, tmp_path):
    first, again = fit(regression(), method), fit(regression.__wrapped__(), method)
    np.testing.assert_array_equal(first.sample_unconstrained(5), again.sample_unconstrained(5))
    first.save(tmp_path / "fit.posterion")
    loaded = po.load(tmp_path / "fit.posterion")
    np.testing.assert_array_equal(first.sample_unconstrained(5), loaded.sample_unconstrained(5))
    np.testing.assert_array_equal(first.predict().mean["y_mean"], loaded.predict({"x": X}).mean["y_mean"])
    assert loaded.record.extras["log_joint"] == first.record.extras["log_joint"]
    assert loaded.record.caveats == first.record.caveats
    assert loaded.log_weights.tolist() == first.log_weights.tolist()


def test_duplicated_and_constant_columns_are_named():
    x = np.c_[X, X[:, 0], np.zeros(50)]
    with pytest.raises(DegenerateError, match=r"2 directions: w\[0\] - w\[3\]; w\[4\]"):
        fit(flat_regression(x, Y), "laplace")
    with pytest.raises(DegenerateError, match=r"1 direction: w\[3\]"):
        fit(flat_regression(np.c_[X, np.zeros(50)], Y), po.Laplace("diagonal"))
    assert fit(proper_regression(x, Y, 1.0), "laplace").diagnose().trustworthy  # a proper prior holds them


def test_improper_posteriors_say_so():
    with pytest.raises(DegenerateError, match="improper"):
        fit(separated_classes(), "laplace")
    with pytest.raises(DegenerateError, match="grows along .*slope"):
        fit(po.log_density(lambda p: p["slope"] - p["level"] ** 2, initial={"slope": 0.0, "level": 0.0}), "map")
    with pytest.raises(DegenerateError, match=r"grows along tau.*non-centred"):
        fit(schools(centred=True), "laplace")


def test_too_large_a_covariance_is_refused_with_its_bytes():
    target = po.log_density(lambda p: -0.5 * (p["w"] ** 2).sum(), initial={"w": np.zeros(20_000)})
    with pytest.raises(OptionError, match="9,600,000,000 bytes"):
        fit(target, "laplace")


def test_curvature_is_a_choice():
    with pytest.raises(OptionError, match="'full', 'diagonal'"):
        po.Laplace("fisher")


def test_a_network_gets_a_mode_and_a_warning():
    target = network(num_rows=40)
    approx = fit(target, "laplace", precision="float64")
    assert any("predict badly" in reason for reason in approx.diagnose().reasons)
    single = fit(target, "map")
    assert single.params.dtype == np.float32
    assert single.result == "converged"
    np.testing.assert_allclose(single.record.extras["log_joint"], approx.record.extras["log_joint"], atol=2.0)


def test_more_starts_find_the_higher_of_two_modes():
    def two_modes(p):
        low, high = ((p["x"] + 1) / 0.1) ** 2, ((p["x"] - 1) / 0.1) ** 2
        return jnp.logaddexp(-0.5 * low, 2 - 0.5 * high)

    target = po.log_density(two_modes, initial={"x": -0.2})
    found = fit(target, "map", restarts=20)
    np.testing.assert_allclose(found.params, [[1.0]], atol=1e-3)


def test_interrupting_the_search_keeps_the_best_point(monkeypatch):
    from posterion.methods.surface import Surface

    calls = []

    def interrupt(self, z):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(Surface, "hessian", interrupt)
    approx = fit(regression(), "map")
    assert calls
    assert approx.result == "interrupted"
    assert "interrupted" in approx.diagnose().reasons[-1] + " ".join(approx.diagnose().reasons)
    with pytest.raises(KeyboardInterrupt):
        fit(regression(), "laplace")
