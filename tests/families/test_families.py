"""Laws every family obeys. Joining the families means adding a row to CASES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from posterion._typing import Batch
from posterion.families import AbstractFamily, MeanField
from posterion.methods import ADVI
from posterion.optim.algorithm import Algorithm
from posterion.target import Layout, Variable

CASES: dict[str, AbstractFamily] = {"mean-field": MeanField()}


def layout_of(dim: int) -> Layout:
    return Layout((Variable("v", (dim,), (dim,)),))


def random_params(family, dim, seed=0):
    """Fitted-looking parameters: the initial ones, perturbed."""
    key = jax.random.key(seed)
    params = family.init(layout_of(dim), jnp.linspace(-1.0, 1.0, dim), key, 0.5)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(params=CASES)
def family(request):
    with jax.enable_x64(True):
        yield CASES[request.param]


@pytest.mark.parametrize("dim", [1, 3])
def test_transport_agrees_with_log_prob(family, dim):
    layout, params = layout_of(dim), random_params(family, dim)
    noise = family.noise(layout, jax.random.key(1), 20)
    z, log_q = jax.vmap(lambda one: family.transport(layout, params, one))(noise)
    direct = jax.vmap(lambda one: family.log_prob(layout, params, one))(z)
    np.testing.assert_allclose(log_q, direct, rtol=1e-10)


def test_density_is_that_of_the_transport(family):
    """log q(t(noise)) = log N(noise) - log |det dt/dnoise|, the Jacobian taken by differentiation."""
    dim = 2
    layout, params = layout_of(dim), random_params(family, dim)
    noise = family.noise(layout, jax.random.key(1), 1)
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda x: x[0], noise))
    if flat.size != dim:
        pytest.skip("the transport is not square")
    jacobian = jax.jacobian(lambda e: family.transport(layout, params, unravel(e))[0])(flat)
    standard = jnp.sum(jax.scipy.stats.norm.logpdf(flat))
    _, log_q = family.transport(layout, params, unravel(flat))
    np.testing.assert_allclose(log_q, standard - jnp.linalg.slogdet(jacobian)[1], rtol=1e-10)


def test_density_integrates_to_one(family):
    layout, params = layout_of(1), random_params(family, 1)
    density = jax.jit(lambda x: jnp.exp(family.log_prob(layout, params, jnp.array([x]))))
    total, _ = integrate.quad(lambda x: float(density(x)), -30, 30, points=[-1, 0, 1], limit=200)
    assert total == pytest.approx(1, abs=1e-6)


def test_initial_moments_are_as_asked(family):
    layout, location = layout_of(4), jnp.arange(4.0)
    params = family.init(layout, location, jax.random.key(0), 0.1)
    z = family.sample(layout, params, jax.random.key(1), 4000)
    np.testing.assert_allclose(z.mean(0), location, atol=5 * 0.1 / np.sqrt(4000) * 3)
    np.testing.assert_allclose(z.std(0), 0.1, rtol=0.3)


def test_affine_is_a_change_of_variables(family):
    layout, params = layout_of(3), random_params(family, 3)
    shift, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.1, 3.0, 20.0])
    moved = family.affine(layout, params, shift, scale)
    z = family.sample(layout, params, jax.random.key(1), 10)
    before = jax.vmap(lambda one: family.log_prob(layout, params, one))(z)
    after = jax.vmap(lambda one: family.log_prob(layout, moved, shift + scale * one))(z)
    np.testing.assert_allclose(after, before - jnp.sum(jnp.log(scale)), rtol=1e-10)


def test_gradient_agrees_with_finite_differences(family):
    layout, params = layout_of(2), random_params(family, 2)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    z = jnp.array([0.3, -0.7])
    density = lambda p: family.log_prob(layout, unravel(p), z)
    step = 1e-6
    numeric = [(density(flat.at[k].add(step)) - density(flat.at[k].add(-step))) / (2 * step) for k in range(flat.size)]
    np.testing.assert_allclose(jax.grad(density)(flat), jnp.array(numeric), rtol=1e-5, atol=1e-7)


def test_recovers_itself_as_a_target(family):
    """The family fitted to one of its own members: Kullback-Leibler divergence below 1e-3 nats."""
    dim = 3
    layout, truth = layout_of(dim), random_params(family, dim)
    method = ADVI(family=family)
    algorithm: Algorithm = method.algorithm(lambda z, batch: family.log_prob(layout, truth, z), layout)
    zero, one = jnp.zeros(dim), jnp.ones(dim)
    state = method.start(layout, jax.random.key(2), zero, 0.3, zero, one)
    steps = 4000
    noise = algorithm.noise(jax.random.key(3), steps)
    rates = 0.05 * (1 + jnp.cos(jnp.pi * jnp.arange(steps) / steps))

    def step(state, at):
        return algorithm.step(at[0], state, Batch({}), at[1])

    state, _ = jax.jit(lambda state: jax.lax.scan(step, state, (noise, rates)))(state)
    values, _ = algorithm.evaluate(state, algorithm.host_noise(4, 1024, True), Batch({}), jnp.int32(1024))
    assert -float(values.mean()) < 1e-3
