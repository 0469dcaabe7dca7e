"""Discrete unknowns of NumPyro models: summed out exactly, row by row where every row has its own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import posterion as po
from posterion.errors import UnsupportedModelError
from posterion.frontends.numpyro import from_numpyro
from posterion.predictive import predict
from tests.frontends.numpyro_cases import LABELS, LINE, X


def mixture(y=None, num_rows=None):
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    centres = numpyro.sample("centres", dist.Normal(jnp.array([-2.0, 0.0, 2.0]), 1).to_event(1))
    with numpyro.plate("row", len(y)):
        component = numpyro.sample("component", dist.Categorical(shares), infer={"enumerate": "parallel"})
        numpyro.deterministic("centre", centres[component])
        numpyro.sample("y", dist.Normal(centres[component], 0.7), obs=y)


def marginal(y):
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    centres = numpyro.sample("centres", dist.Normal(jnp.array([-2.0, 0.0, 2.0]), 1).to_event(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(shares), dist.Normal(centres, 0.7)), obs=y)


def evaluate(target, z, data=None):
    with jax.enable_x64(True):
        arrays = target.as_arrays(target.data if data is None else data)
        return jax.device_get(jax.jit(jax.value_and_grad(target.log_density))(jnp.asarray(z), arrays))


@pytest.mark.slow
def test_a_mixture_is_what_it_is_without_its_components():
    """Density, gradient, rows, moments, draws: those of the marginal model, which NumPyro can write as well."""
    ours, theirs = from_numpyro(mixture, (LINE,)), from_numpyro(marginal, (LINE,))
    assert "'component' summed out over all values, row by row" in ours.notes
    assert [v.name for v in ours.layout.variables] == ["shares", "centres"]
    assert ours.layout.derived_dims == ()
    z = np.random.default_rng(0).standard_normal(5)
    for found, expected in zip(evaluate(ours, z), evaluate(theirs, z), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert ours.row_plan().num_rows == 60
    with jax.enable_x64(True):
        arrays = ours.as_arrays(ours.data)
        keys = jax.random.split(jax.random.key(0), 4000)
        draw = lambda z, data: jax.vmap(lambda key: ours.simulate(key, z, data)["y"])(keys)
        (mean, variance), expected, draws = jax.device_get(
            jax.jit(lambda z, data: (ours.moments(z, data)["y"], theirs.moments(z, data)["y"], draw(z, data)))(
                z, arrays
            )
        )
    np.testing.assert_allclose(mean, expected.mean, rtol=1e-10)
    np.testing.assert_allclose(variance, expected.variance, rtol=1e-10)
    assert np.abs((draws.mean(axis=0) - mean) / np.sqrt(variance / 4000)).max() < 4.5
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.15)


@pytest.mark.slow
def test_a_mixture_is_fitted_in_batches_and_predicts_new_rows():
    approx = po.fit(mixture, model_args=(LINE,), batch_size=20, n=400, random_seed=0, progress=False)
    found = approx.predict({"y": np.zeros(4)})
    assert found.mean["y"].shape == (4,)
    assert approx.sample(10).posterior["shares"].shape == (1, 10, 3)


def latent_classes(a, b, x):
    """Two indicators of one class per row, and a regression beside them that does not depend on it."""
    share = numpyro.sample("share", dist.Beta(2, 2))
    rates = numpyro.sample("rates", dist.Beta(1, 1).expand([2, 2]).to_event(2))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", len(a)):
        member = numpyro.sample("member", dist.Bernoulli(share), infer={"enumerate": "parallel"})
        numpyro.sample("a", dist.Bernoulli(rates[0][member]), obs=a)
        numpyro.sample("b", dist.Bernoulli(rates[1][member]), obs=b)
        numpyro.sample("x", dist.Normal(slope, 1), obs=x)


def test_several_sites_of_one_state_are_summed_together():
    a, b = LABELS, (X[:, 1] > 0).astype(int)
    target = from_numpyro(latent_classes, (a, b, X[:, 0]))
    z = np.random.default_rng(0).standard_normal(6)
    with jax.enable_x64(True):
        values = jax.device_get(jax.jit(target.constrain)(jnp.asarray(z), target.as_arrays(target.data)))
        terms = jax.device_get(jax.jit(target.joint_terms)(jnp.asarray(z), target.as_arrays(target.data)))
    share, rates = values["share"], values["rates"]
    log = lambda p, y: np.where(y == 1, np.log(p), np.log1p(-p))
    rows = [np.log(w) + log(rates[0, k], a) + log(rates[1, k], b) for k, w in enumerate((1 - share, share))]
    assert set(terms.log_likelihood) == {"a and b", "x"}
    np.testing.assert_allclose(terms.log_likelihood["a and b"], special.logsumexp(rows, axis=0), rtol=1e-10)
    np.testing.assert_allclose(terms.log_likelihood["x"], stats.norm.logpdf(X[:, 0], values["slope"]), rtol=1e-10)
    assert target.row_plan().observed == ("x", "a and b")
    found = predict(target, z[None], {}, key=jax.random.key(0), x64=True)
    np.testing.assert_allclose(found.mean["a"], share * rates[0, 1] + (1 - share) * rates[0, 0], rtol=1e-10)


def switch(y):
    """A switch and a count that all rows share."""
    level = numpyro.sample("level", dist.Normal(0, 1))
    on = numpyro.sample("on", dist.Bernoulli(0.3))
    lag = numpyro.sample("lag", dist.DiscreteUniform(1, 3))
    numpyro.sample("y", dist.Normal(level + 2.0 * on, lag * 0.5), obs=y)


def test_states_that_rows_share_are_summed_out_of_the_whole():
    target = from_numpyro(switch, (LINE,))
    assert target.num_rows == {}
    assert not target.observed
    (value, _), level = evaluate(target, [0.4]), 0.4
    cases = itertools.product(((0, 0.7), (1, 0.3)), (1, 2, 3))
    total = special.logsumexp(
        [np.log(p / 3) + stats.norm.logpdf(LINE, level + 2 * on, lag / 2).sum() for (on, p), lag in cases]
    )
    np.testing.assert_allclose(value, total + stats.norm.logpdf(level), rtol=1e-10)
    approx = po.fit(switch, model_args=(LINE,), n=300, random_seed=0, progress=False)
    assert approx.sample(5).posterior["level"].shape == (1, 5)
    with pytest.raises(UnsupportedModelError, match="factorise over rows"):
        target.row_plan()
    with pytest.raises(UnsupportedModelError, match="'on', 'lag' belong to all rows"):
        target.new_rows({})


def groups(y):
    """States of groups, with rows inside: too many combinations for us, no trouble for funsor."""
    centres = numpyro.sample("centres", dist.Normal(jnp.array([-1.0, 1.0]), 1).to_event(1))
    with numpyro.plate("group", y.shape[1]):
        kind = numpyro.sample("kind", dist.Bernoulli(0.4), infer={"enumerate": "parallel"})
        with numpyro.plate("row", y.shape[0]):
            numpyro.sample("y", dist.Normal(centres[kind], 1), obs=y)


def test_what_is_too_large_is_left_to_funsor(monkeypatch):
    y = np.reshape(LINE, (5, 12))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedModelError, match="'kind' is a discrete unknown .* Install funsor"):
        from_numpyro(groups, (y,))
    monkeypatch.undo()
    pytest.importorskip("funsor")
    target = from_numpyro(groups, (y,))
    assert target.notes == ("'kind' summed out by funsor, for all rows at once",)
    value, gradient = evaluate(target, [0.3, 0.9])
    inside = [np.log(p) + stats.norm.logpdf(y, c).sum(axis=0) for p, c in ((0.6, 0.3), (0.4, 0.9))]
    prior = stats.norm.logpdf([0.3, 0.9], [-1, 1]).sum()
    np.testing.assert_allclose(value, special.logsumexp(inside, axis=0).sum() + prior, rtol=1e-10)
    assert np.all(np.isfinite(gradient))
