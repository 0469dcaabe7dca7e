"""The closest Gaussian and its corrected draws: closed forms, numerical truth, and what `Auto` picks."""

from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

import posterion as po
from posterion.diagnostics.psis import pareto_smooth
from posterion.errors import DegenerateError, OptionError
from posterion.methods import surface
from posterion.methods.auto import Auto
from posterion.methods.importance import resample
from posterion.options import what_asks_for_steps
from tests.methods.targets import exact, fit, gamma_posterior, regression, schools, separated_classes


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (1e-4, 1.0, 1e5)])
def test_a_gaussian_posterior_is_met_in_a_few_steps_whatever_the_units(scales):
    approx = fit(regression(scales), po.GaussianVI(correct=False))
    mean, covariance, evidence = exact(scales)
    sd = np.sqrt(np.diag(covariance))
    root = approx.record.extras["gaussian_root"]
    np.testing.assert_allclose(approx.record.extras["gaussian_mean"] / sd, mean / sd, atol=1e-6)
    np.testing.assert_allclose(root @ root.T / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=1e-6)
    assert approx.elbo == pytest.approx(evidence, abs=1e-6)
    assert approx.result == "converged"
    assert len(approx.hist) <= 3
    assert approx.diagnose().trustworthy


def test_of_many_data_the_correction_computes_values_alone(monkeypatch):
    """Much work or little, the draws are the same."""
    little = fit(gamma_posterior()[0], "gaussian")
    monkeypatch.setattr(surface, "_MUCH_WORK", 0)
    monkeypatch.setattr(surface, "values", alone := Mock(wraps=surface.values))
    much = fit(gamma_posterior()[0], "gaussian")
    assert alone.called
    np.testing.assert_allclose(much.sample_unconstrained(500), little.sample_unconstrained(500), rtol=1e-6)


def log_gamma_moments():
    """The Gaussian closest to the logarithm of a gamma variable, by quadrature and a search: mean and sd."""
    from scipy.optimize import minimize

    _, shape, rate = gamma_posterior()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)

    def negative_elbo(params):
        z = params[0] + np.exp(params[1]) * nodes
        return -weights @ (shape * z - rate * np.exp(z)) / np.sqrt(2 * np.pi) - params[1]

    found = minimize(negative_elbo, [np.log(shape / rate), -1.0], tol=1e-12).x
    return found[0], np.exp(found[1])


def test_it_is_the_gaussian_closest_to_a_skewed_posterior():
    target, shape, rate = gamma_posterior()
    plain = fit(target, po.GaussianVI(correct=False))
    mean, sd = log_gamma_moments()
    np.testing.assert_allclose(plain.record.extras["gaussian_mean"], mean, atol=0.01 * sd)
    np.testing.assert_allclose(np.abs(plain.record.extras["gaussian_root"]).ravel(), sd, rtol=0.01)
    # Corrected draws follow the gamma distribution itself: 4096 stratified draws, some weight lost.
    corrected = fit(target, "gaussian")
    draws = corrected.sample(4096)["posterior"]["rate"].values.ravel()
    truth = stats.gamma(shape, scale=1 / rate)
    assert abs(draws.mean() - truth.mean()) < 3 * truth.std() / np.sqrt(4096)
    assert draws.std() == pytest.approx(truth.std(), rel=3 / np.sqrt(2 * 4096))
    assert stats.kstest(draws, truth.cdf).pvalue > 0.01
    assert corrected.diagnose().trustworthy
    assert "resampled by importance" in repr(corrected)
    # Its bound is that of weighted draws, and so the evidence.
    counts = target.data["y"]
    evidence = (
        special.gammaln(shape) - shape * np.log(rate) - special.gammaln(2.0) - special.gammaln(counts + 1.0).sum()
    )
    assert corrected.elbo == pytest.approx(evidence, abs=4 * corrected.elbo_se)
    assert corrected.elbo_se < 0.01


def test_a_skewed_hierarchy_has_its_exact_moments():
    corrected = fit(schools(centred=False), "gaussian")
    draws = lambda approx: approx.sample(4096)["posterior"]["tau"].values.ravel()
    mean, sd, evidence = schools_tau()
    effective = pareto_smooth(corrected.log_weights).effective_draws
    assert abs(draws(corrected).mean() - mean) < 4 * sd / np.sqrt(effective)
    assert draws(corrected).std() == pytest.approx(sd, rel=0.1)
    assert corrected.elbo_se < 0.02
    assert corrected.elbo == pytest.approx(evidence, abs=4 * corrected.elbo_se)


def schools_tau():
    """Mean and sd of tau, and the log evidence, by quadrature over mu and log tau, schools integrated out."""
    y, s = np.array([28, 8, -3, 7, -1, 1, 18, 12.0]), np.array([15, 10, 16, 11, 9, 11, 10, 18.0])
    log_tau, mu = np.linspace(-14, 6, 801), np.linspace(-25, 30, 401)
    sd = np.sqrt(np.exp(2 * log_tau)[:, None, None] + s**2)
    density = stats.norm.logpdf(y, mu[None, :, None], sd).sum(-1) + stats.norm.logpdf(mu, 0, 5)[None]
    density += (stats.cauchy.logpdf(np.exp(log_tau), 0, 5) + log_tau)[:, None]
    weight = integrate.simpson(np.exp(density - density.max()), x=mu, axis=1)
    total, tau = integrate.simpson(weight, x=log_tau), np.exp(log_tau)
    mean = integrate.simpson(weight * tau, x=log_tau) / total
    sd = np.sqrt(integrate.simpson(weight * (tau - mean) ** 2, x=log_tau) / total)
    return mean, sd, density.max() + np.log(total)


def test_saved_and_loaded_and_reproducible_to_the_bit(tmp_path):
    first, again = fit(regression(), "gaussian"), fit(regression.__wrapped__(), "gaussian")
    np.testing.assert_array_equal(first.sample_unconstrained(500), again.sample_unconstrained(500))
    other = fit(regression(), "gaussian", random_seed=2)
    assert not np.array_equal(first.params, other.params)
    first.save(tmp_path / "fit.posterion")
    loaded = po.load(tmp_path / "fit.posterion")
    assert loaded.family == po.Particles(4096)
    np.testing.assert_array_equal(first.sample_unconstrained(5000), loaded.sample_unconstrained(5000))
    assert loaded.elbo == first.elbo
    assert loaded.log_weights.tolist() == first.log_weights.tolist()


def test_improper_posteriors_and_impossible_sizes_are_refused():
    with pytest.raises(DegenerateError):
        fit(separated_classes(), "gaussian")
    target = po.log_density(lambda p: -0.5 * (p["w"] ** 2).sum(), initial={"w": np.zeros(20_000)})
    with pytest.raises(OptionError, match="bytes"):
        fit(target, "gaussian")
    with pytest.raises(OptionError, match="num_draws"):
        po.GaussianVI(num_draws=10)


def test_a_posterior_without_a_mode_is_fitted_all_the_same():
    approx = fit(schools(centred=True), po.GaussianVI(correct=False))
    draws = approx.sample(4096)["posterior"]["tau"].values.ravel()
    mean, sd, _ = schools_tau()
    assert abs(draws.mean() - mean) < sd


def test_interrupted_it_keeps_the_gaussian(monkeypatch):
    from posterion.methods import gaussian_fit

    calls = []
    look = gaussian_fit._look

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return look(*arguments)

    monkeypatch.setattr(gaussian_fit, "_look", interrupting)
    approx = fit(gamma_posterior()[0], "gaussian")
    assert approx.result == "interrupted"
    assert len(approx.hist) == 1
    assert not approx.diagnose().trustworthy


def test_auto_picks_by_the_model_and_says_why():
    approx = fit(regression(), "auto")
    assert "GaussianVI" in approx.record.method
    assert "picked GaussianVI: 3 unknowns" in repr(approx)
    assert "because n is for methods of steps" in Auto().choose(3, is_network=False, by_steps="n")[1]
    assert "a network" in Auto().choose(40, is_network=True, by_steps="")[1]
    assert "too many for a full covariance" in Auto().choose(1000, is_network=False, by_steps="")[1]
    assert what_asks_for_steps(regression(), n=None, callbacks=(), batch_size=10) == "batch_size"
    assert what_asks_for_steps(regression(), n=None, callbacks=()) == ""
    batched = fit(regression(), "auto", n=20, batch_size=10)
    assert "ADVI" in batched.record.method
    assert "10 of 50 rows" in repr(batched)


def test_resampling_repeats_points_as_their_weights_say():
    points = np.arange(200.0)[:, None]
    smoothed = pareto_smooth(np.random.default_rng(0).normal(size=200))
    chosen = resample(points, smoothed, 1000, seed=3)
    copies = np.bincount(chosen[:, 0].astype(int), minlength=200)
    assert np.abs(copies - 1000 * np.exp(smoothed.log_weights)).max() < 1 + 1e-9


def test_particles_are_drawn_without_repeats_until_all_are_used():
    import jax

    family, layout = po.Particles(10), regression().layout
    params = jnp.arange(30.0).reshape(10, 3)
    draws = family.sample(layout, params, jax.random.key(0), 25)
    copies = np.unique(np.asarray(draws)[:, 0], return_counts=True)[1]
    assert copies.min() == 2
    assert copies.max() == 3
    noise = family.noise(layout, jax.random.key(1), 2000)
    one = np.asarray(jax.vmap(lambda e: family.transport(layout, params, e)[0])(noise))
    assert np.abs(np.unique(one[:, 0], return_counts=True)[1] - 200).max() < 5 * np.sqrt(200)
    with pytest.raises(OptionError, match="no density"):
        family.log_prob(layout, params, params[0])
