"""The flow: what it begins as, what it bends that no Gaussian does, and its file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posterion as po
from posterion.errors import OptionError
from posterion.families import FullRank, NormalizingFlow
from posterion.target import Layout, Variable
from tests.methods.targets import fit


def banana():
    """x ~ N(0, 1), y | x ~ N(x^2, 0.3^2), normalised: the best ELBO is 0."""

    def density(p):
        x, y = p["v"]
        return -0.5 * x**2 - 0.5 * ((y - x**2) / 0.3) ** 2 - jnp.log(0.3) - jnp.log(2 * jnp.pi)

    return po.log_density(density, initial={"v": np.zeros(2)})


@pytest.mark.slow
def test_it_begins_as_a_gaussian():
    with jax.enable_x64(True):
        layout, key = Layout((Variable("v", (4,), (4,)),)), jax.random.key(0)
        location, scale = jnp.arange(4.0), jnp.array([0.1, 1.0, 2.0, 0.5])
        flow, gaussian = NormalizingFlow(layers=2, width=4, knots=4), FullRank()
        params, same = flow.init(layout, location, key, scale), gaussian.init(layout, location, key, scale)
        noise = flow.noise(layout, key, 8)
        z, log_q = jax.jit(jax.vmap(lambda one: flow.transport(layout, params, one)))(noise)
        expected, log_gaussian = jax.vmap(lambda one: gaussian.transport(layout, same, one))(noise)
        np.testing.assert_allclose(z, expected, atol=1e-12)
        np.testing.assert_allclose(log_q, log_gaussian, atol=1e-12)


@pytest.mark.slow
def test_far_out_its_tails_are_gaussian():
    with jax.enable_x64(True):
        layout, flow = Layout((Variable("v", (2,), (2,)),)), NormalizingFlow(layers=2, width=4, reach=3.0)
        params = flow.init(layout, jnp.zeros(2), jax.random.key(0), 1.0)
        params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), params)
        far = jnp.array([[50.0, -70.0], [50.0, -71.0]])
        z = jax.jit(jax.vmap(lambda one: flow.transport(layout, params, one)[0]))(far)
        expected = [FullRank().transport(layout, params["gaussian"], one)[0] for one in far]
        np.testing.assert_allclose(z, jnp.stack(expected), rtol=1e-12)


@pytest.mark.slow
def test_it_follows_a_banana_that_no_gaussian_does(tmp_path):
    target = banana()
    gaussian = fit(target, "fullrank_advi")
    flow = fit(target, po.ADVI(family=NormalizingFlow()))
    assert gaussian.elbo < -0.7  # no Gaussian comes nearer
    assert "natural-gradient steps" in flow.record.sentence  # steps of Adam alone end at -0.14
    assert flow.elbo > -0.03
    wide, narrow = flow.sample_unconstrained(4000), gaussian.sample_unconstrained(4000)
    assert narrow[:, 0].std() < 0.55 < 0.65 < wide[:, 0].std() < 1.1  # of 1
    assert np.corrcoef(wide[:, 0] ** 2, wide[:, 1])[0, 1] > 0.8

    flow.save(tmp_path / "banana.posterion")
    loaded = po.load(tmp_path / "banana.posterion")
    assert loaded.family == flow.family
    np.testing.assert_array_equal(loaded.sample_unconstrained(100), flow.sample_unconstrained(100))


@pytest.mark.slow
def test_more_of_it_from_where_it_is(tmp_path):
    target, method = banana(), po.ADVI(family=NormalizingFlow(layers=1, width=4))
    first = fit(target, method, n=500)
    again = fit(target, method, n=1, start=first)
    np.testing.assert_allclose(again.sample_unconstrained(50), first.sample_unconstrained(50), atol=0.3)
    checkpoint = fit(target, method, n=500, checkpoint=tmp_path / "run")
    np.testing.assert_array_equal(checkpoint.sample_unconstrained(10), first.sample_unconstrained(10))


@pytest.mark.parametrize("wrong", [{"layers": -1}, {"width": 0}, {"knots": 0}, {"reach": 0.0}, {"layers": True}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        NormalizingFlow(**wrong)
