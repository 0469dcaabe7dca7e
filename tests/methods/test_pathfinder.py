"""Pathfinder: the compact inverse Hessian against dense algebra, closed forms, and two modes."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import posterion as po
from posterion.diagnostics.psis import pareto_smooth
from posterion.errors import NonFiniteError, OptionError
from posterion.methods.inverse_hessian import gaussian_at, next_alpha, usable
from tests.methods.targets import exact, fit, regression


def test_the_compact_gaussian_is_the_dense_one():
    rng = np.random.default_rng(0)
    dim = 6
    a = rng.normal(size=(dim, dim))
    hessian = a @ a.T + np.eye(dim)
    alpha = np.ones(dim)
    steps = [rng.normal(size=dim) for _ in range(2)]
    changes = [hessian @ s for s in steps]
    for s, y in zip(steps, changes, strict=True):
        assert usable(s, y)
        alpha = next_alpha(alpha, s, y)
    point, gradient = rng.normal(size=dim), rng.normal(size=dim)
    q = gaussian_at(point, gradient, alpha, steps, changes)
    # The BFGS recursion from diag(alpha), written out.
    inverse = np.diag(alpha)
    for s, y in zip(steps, changes, strict=True):
        rho, eye = 1 / (y @ s), np.eye(dim)
        inverse = (eye - rho * np.outer(s, y)) @ inverse @ (eye - rho * np.outer(y, s)) + rho * np.outer(s, s)
    np.testing.assert_allclose(q.mean, point - inverse @ gradient, rtol=1e-9)
    images = q.draws(np.eye(dim)) - q.mean
    np.testing.assert_allclose(images.T @ images, inverse, rtol=1e-9)
    z = rng.normal(size=(5, dim))
    np.testing.assert_allclose(q.log_density(z), stats.multivariate_normal(q.mean, inverse).logpdf(z), rtol=1e-9)
    moved = q.affine(np.ones(dim), 2 * np.ones(dim))
    np.testing.assert_allclose(moved.log_density(1 + 2 * z), q.log_density(z) - dim * np.log(2), rtol=1e-9)


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (1e-4, 1.0, 1e5)])
def test_moments_of_a_gaussian_posterior_whatever_the_units(scales):
    approx = fit(regression(scales), "pathfinder")
    mean, covariance, evidence = exact(scales)
    sd = np.sqrt(np.diag(covariance))
    draws = approx.sample(2000)["posterior"]["w"].values[0]
    worth = pareto_smooth(approx.log_weights).effective_draws
    assert worth > 400
    np.testing.assert_allclose(draws.mean(0) / sd, mean / sd, atol=4 / np.sqrt(worth))
    np.testing.assert_allclose(draws.std(0) / sd, 1, atol=4 / np.sqrt(2 * worth))
    assert approx.elbo <= evidence + 3 * approx.elbo_se
    assert approx.record.extras["path_elbo"].shape == (8,)
    assert "worth" in repr(approx)


def test_paths_find_two_modes_with_their_masses():
    def log_density(p):
        left, right = -0.5 * ((p["x"] + 1) / 0.1) ** 2, -0.5 * ((p["x"] - 1) / 0.1) ** 2
        return jnp.logaddexp(jnp.sum(left) + jnp.log(0.3), jnp.sum(right) + jnp.log(0.7))

    target = po.log_density(log_density, initial={"x": np.zeros(2)})
    approx = fit(target, po.Pathfinder(num_paths=12, num_draws=4000))
    draws = approx.sample(4000)["posterior"]["x"].values[0]
    assert np.mean(draws[:, 0] > 0) == pytest.approx(0.7, abs=0.06)
    again = fit(target, po.Pathfinder(num_paths=12, num_draws=4000))
    np.testing.assert_array_equal(approx.params, again.params)


def test_saved_and_loaded(tmp_path):
    approx = fit(regression(), "pathfinder")
    approx.save(tmp_path / "fit.posterion")
    loaded = po.load(tmp_path / "fit.posterion")
    np.testing.assert_array_equal(approx.sample_unconstrained(100), loaded.sample_unconstrained(100))
    np.testing.assert_array_equal(approx.record.extras["path_elbo"], loaded.record.extras["path_elbo"])


def test_interrupted_it_keeps_the_paths_so_far(monkeypatch):
    original, calls = po.Pathfinder._path, []

    def interrupting(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(po.Pathfinder, "_path", interrupting)
    approx = fit(regression(), "pathfinder")
    assert approx.result == "interrupted"
    assert len(approx.record.extras["path_elbo"]) == 2
    assert not approx.diagnose().trustworthy


def test_few_good_draws_are_a_caveat_and_nonsense_is_refused(monkeypatch):
    from posterion.methods import importance

    assert importance.caveats(pareto_smooth(np.random.default_rng(0).normal(size=300)))
    assert not importance.caveats(pareto_smooth(np.zeros(1000)))
    with pytest.raises(OptionError, match="num_paths"):
        po.Pathfinder(num_paths=0)
    monkeypatch.setattr(po.Pathfinder, "_path", lambda *arguments: None)
    with pytest.raises(NonFiniteError, match="none of 8 paths"):
        fit(regression(), "pathfinder")
