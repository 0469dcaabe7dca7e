"""Laws every family obeys. Joining the families means adding a row to CASES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from posterion._typing import Batch
from posterion.families import AbstractFamily, AbstractGaussian, FullRank, LowRank, MeanField, Mixture, NormalizingFlow
from posterion.methods import ADVI
from posterion.optim.algorithm import Algorithm
from posterion.optim.comparing import Comparer
from posterion.optim.polishing import polish
from posterion.target import Layout, Variable

CASES: dict[str, AbstractFamily] = {
    "mean-field": MeanField(),
    "full-rank": FullRank(),
    "low-rank": LowRank(rank=2),
    "mixture": Mixture(2),
    "mixture of full-rank": Mixture(2, FullRank()),
    "flow": NormalizingFlow(layers=2, width=4, knots=4),
}


_KINKS = {"flow": 1e-4}
"""Tolerance of integrals on a grid, of densities whose slope jumps (at knots of splines); 1e-5 otherwise."""
_LARGEST_STEP = {"flow": 0.01}
"""With which a family is fitted to one of its members; 0.1 otherwise."""


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


_SLOW = ("flow", "mixture of full-rank")
"""Families of long programs, or made of two whose laws run: their laws run with the slow tests."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in CASES])
def family(request):
    with jax.enable_x64(True):
        yield CASES[request.param]


@pytest.fixture
def kinks(request):
    return _KINKS.get(request.node.callspec.params["family"], 1e-5)


@pytest.fixture
def largest_step(request):
    return _LARGEST_STEP.get(request.node.callspec.params["family"], 0.1)


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
    if isinstance(family, AbstractGaussian):  # the transport is affine, square or not: the density is its image's
        mean = family.transport(layout, params, unravel(jnp.zeros_like(flat)))[0]
        jacobian = jax.jacobian(lambda e: family.transport(layout, params, unravel(e))[0])(flat)
        z, log_q = family.transport(layout, params, unravel(flat))
        np.testing.assert_allclose(log_q, stats.multivariate_normal(mean, jacobian @ jacobian.T).logpdf(z), rtol=1e-10)
        np.testing.assert_allclose(family.mean(params), mean, rtol=1e-10)
        np.testing.assert_allclose(family.covariance(params), jacobian @ jacobian.T, rtol=1e-10)
        np.testing.assert_allclose(family.standard_deviations(params) ** 2, jnp.sum(jacobian**2, 1), rtol=1e-10)
        return
    if flat.size != dim:
        pytest.skip("the transport is not square")
    jacobian = jax.jacobian(lambda e: family.transport(layout, params, unravel(e))[0])(flat)
    standard = jnp.sum(jax.scipy.stats.norm.logpdf(flat))
    _, log_q = family.transport(layout, params, unravel(flat))
    np.testing.assert_allclose(log_q, standard - jnp.linalg.slogdet(jacobian)[1], rtol=1e-10)


def test_density_integrates_to_one_and_draws_follow_it(family):
    layout, params = layout_of(1), random_params(family, 1)
    density = jax.jit(jax.vmap(lambda x: jnp.exp(family.log_prob(layout, params, x[None]))))
    grid = np.linspace(-15, 15, 60_001)
    cumulated = integrate.cumulative_simpson(np.asarray(density(grid)), x=grid, initial=0)
    assert cumulated[-1] == pytest.approx(1, abs=1e-6)
    z = np.asarray(family.sample(layout, params, jax.random.key(5), 5000))[:, 0]
    assert stats.kstest(z, lambda x: np.interp(x, grid, cumulated)).pvalue > 1e-3


def test_density_integrates_to_one_in_two_dimensions(family, kinks):
    layout, params = layout_of(2), random_params(family, 2)
    axis = np.linspace(-12, 12, 601)
    points = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1)
    density = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda z: jnp.exp(family.log_prob(layout, params, z)))))(points))
    assert integrate.simpson(integrate.simpson(density, x=axis), x=axis) == pytest.approx(1, abs=kinks)


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


def test_affine_by_a_matrix_where_the_family_is_linear(family):
    if not family.linear:
        return
    layout, params = layout_of(3), random_params(family, 3)
    shift, matrix = jnp.array([1.0, -2.0, 0.5]), jnp.array([[0.1, 0.0, 0.0], [3.0, 2.0, 0.0], [-4.0, 0.5, 20.0]])
    moved = family.affine(layout, params, shift, matrix)
    z = family.sample(layout, params, jax.random.key(1), 10)
    before = jax.vmap(lambda one: family.log_prob(layout, params, one))(z)
    after = jax.vmap(lambda one: family.log_prob(layout, moved, shift + matrix @ one))(z)
    np.testing.assert_allclose(after, before - jnp.sum(jnp.log(jnp.diagonal(matrix))), rtol=1e-9)


def test_gradient_agrees_with_finite_differences(family):
    layout, params = layout_of(2), random_params(family, 2)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    z = jnp.array([0.3, -0.7])
    density = jax.jit(lambda p: family.log_prob(layout, unravel(p), z))
    step = 1e-6
    numeric = [(density(flat.at[k].add(step)) - density(flat.at[k].add(-step))) / (2 * step) for k in range(flat.size)]
    np.testing.assert_allclose(jax.grad(density)(flat), jnp.array(numeric), rtol=1e-5, atol=1e-7)


def test_recovers_itself_as_a_target(family, largest_step):
    """The family fitted to one of its own members: Kullback-Leibler divergence below 1e-3 nats."""
    dim = 3
    layout, truth = layout_of(dim), random_params(family, dim)
    if isinstance(family, Mixture):  # weights are the engine's to find: tests/engine
        truth = {**truth, "log_weights": jnp.zeros_like(truth["log_weights"])}
    method = ADVI(family=family)
    algorithm: Algorithm = method.algorithm(lambda z, batch: family.log_prob(layout, truth, z), layout)
    zero, one = jnp.zeros(dim), jnp.ones(dim)
    state = method.start(layout, jax.random.key(2), zero, 0.3, zero, one)
    steps = 4000
    noise = algorithm.noise(jax.random.key(3), steps)
    rates = 0.5 * largest_step * (1 + jnp.cos(jnp.pi * jnp.arange(steps) / steps))

    def step(state, at):
        return algorithm.step(at[0], state, Batch({}), at[1])

    state, _ = jax.jit(lambda state: jax.lax.scan(step, state, (noise, rates)))(state)
    values_of = jax.jit(algorithm.evaluate)

    def compare(states, noise, count, seed):
        return np.stack([values_of(state, noise, Batch({}), jnp.int32(count))[0] for state in states])

    if algorithm.slopes is not None:  # many networks make the same flow, and steps of Adam end in the neighbourhood
        slopes = jax.jit(algorithm.slopes)
        comparer = Comparer(algorithm, compare, 5, 4096)
        state = polish(algorithm, state, lambda state, noise: slopes(state, noise, Batch({})), comparer, 6).state
    values = compare([state], algorithm.host_noise(4, 8192, True), 8192, 0)
    assert -float(values.mean()) < 1e-3
