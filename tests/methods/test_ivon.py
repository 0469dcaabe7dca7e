"""IVON: the mean-field optimum of a Gaussian, its update by hand, many variables, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import posterion as po
from posterion._typing import Batch
from posterion.errors import OptionError
from posterion.objectives.bounds import log_joint
from posterion.target import Layout, Variable

SCALES = np.array([1.0, 3.0, 0.02])
CORRELATED = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.0, 0.3, 1.0]])
PRECISION = CORRELATED / SCALES / SCALES[:, None]
MEAN = np.array([2.0, -1.0, 0.3])


def gaussian(z, _=None):
    return -0.5 * (z - MEAN) @ jnp.asarray(PRECISION, z.dtype) @ (z - MEAN)


def test_the_mean_field_optimum_of_a_gaussian_of_bad_scales():
    """Means exact; precisions the diagonal of the Gaussian's precision, to the noise of a thousand steps' mean."""
    target = po.log_density(gaussian, initial=np.zeros(3))
    approx = po.fit(target, "ivon", n=4000, random_seed=0, progress=False)
    location, log_scale = approx.params
    best = 1 / np.sqrt(np.diag(PRECISION))
    np.testing.assert_allclose(location, MEAN, atol=0.05 * best.max())
    assert np.abs((location - MEAN) / best).max() < 0.1
    # One step's estimate of H has a relative variance of 2 and more; the mean over 1,000 steps of 0.2 %: 5 % in H.
    np.testing.assert_allclose(np.exp(log_scale), best, rtol=0.1)


def test_a_step_is_the_papers():
    """Against the update written out, without its guards."""
    method, layout = po.IVON(momentum=0.9, memory=0.99), Layout((Variable("z", (3,), (3,)),))
    with jax.enable_x64(True):
        algorithm = method.algorithm(gaussian, layout)
        zero, one = jnp.zeros(3), jnp.ones(3)
        state = method.start(
            layout, jax.random.key(0), jnp.asarray(MEAN + 0.01 * SCALES), 1.2 * jnp.asarray(SCALES), zero, one
        )
        noise, rate = jnp.array([0.5, -0.3, 0.2]), jnp.asarray(0.05)
        new, info = jax.jit(algorithm.step)(noise, state, Batch({}), rate)
    (m,), (s,), noise = state.location, state.scale, np.asarray(noise)
    m, h = np.asarray(m), 1 / np.asarray(s) ** 2
    z = m + noise / np.sqrt(h)
    gradient = PRECISION @ (z - MEAN)
    estimate = gradient * noise * np.sqrt(h)
    found = 0.99 * h + 0.01 * estimate + 0.5 * 0.01**2 * (h - estimate) ** 2 / h
    np.testing.assert_allclose(1 / np.asarray(new.scale[0]) ** 2, found, rtol=1e-10)
    np.testing.assert_allclose(new.location[0], m - 0.05 * gradient / found, rtol=1e-10)  # the first mean is unbiased
    log_q = -0.5 * np.sum(noise**2) + 0.5 * np.log(h).sum() - 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(np.asarray(info.loss), log_q + 0.5 * (z - MEAN) @ PRECISION @ (z - MEAN), rtol=1e-10)


def test_the_pool_of_normals_gives_many_variables_their_spread():
    """10,000 variables, where draws come from the pool: all find mean and spread, in float32."""
    size = 10_000
    target = po.log_density(lambda z: -0.5 * jnp.sum((z - 1.0) ** 2) * 100.0, initial=np.zeros(size))
    approx = po.fit(target, po.IVON(), n=2000, random_seed=0, progress=False, precision="float32")
    location, log_scale = approx.params
    np.testing.assert_allclose(location.mean(), 1.0, atol=0.01)
    np.testing.assert_allclose(np.exp(log_scale).mean(), 0.1, rtol=0.05)
    assert np.exp(log_scale).std() < 0.01


def test_a_step_of_many_variables_is_the_same_by_pieces_and_its_loss_is_exact():
    """Of 10,001 variables in three arrays, with normals from the pool: against the formulas over the whole vector."""
    variables = tuple(Variable(name, (n,), (n,)) for name, n in (("a", 9_000), ("b", 1), ("c", 1_000)))
    layout, size = Layout(variables), 10_001
    target = po.log_density(lambda z: -0.5 * jnp.sum(jnp.cos(z) ** 2), initial=np.zeros(size))
    method = po.IVON(memory=0.99)
    algorithm = method.algorithm(log_joint(target), layout)
    location, scale = np.linspace(-1, 1, size, dtype=np.float32), np.linspace(0.01, 0.3, size, dtype=np.float32)
    zero, one = jnp.zeros(size), jnp.ones(size)
    state = method.start(layout, jax.random.key(1), jnp.asarray(location / scale), one, zero, jnp.asarray(scale))
    offset, rate = 12_345, jnp.asarray(0.05)
    new, info = jax.jit(algorithm.step)((jnp.int32(offset), jnp.float32(-1.0)), state, Batch({}), rate)
    noise = -np.asarray(state.pool, np.float64)[offset : offset + size]
    z = location + scale * noise
    gradient = -np.cos(z) * np.sin(z)
    change = 0.01 * (gradient * noise * scale - 1)
    found = scale / np.sqrt(1 + change + 0.5 * change**2)
    np.testing.assert_allclose(np.concatenate(new.scale), found, rtol=1e-5)
    np.testing.assert_allclose(np.concatenate(new.location), location - 0.05 * gradient * found**2, atol=1e-6)
    log_q = -0.5 * np.sum(noise**2) - np.log(scale).sum() - 0.5 * size * np.log(2 * np.pi)
    np.testing.assert_allclose(info.loss, log_q + 0.5 * np.sum(np.cos(z) ** 2), rtol=1e-5)


@pytest.mark.slow
def test_weights_of_many_inputs_start_near_where_their_module_put_them():
    """Chance may move them by no more than they differ, 1/20 here, draws by half of that, or they would be drowned."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 400))
    init = lambda key: {"w": jax.random.normal(key, (400, 30)) / 20, "v": jnp.ones((30, 1)) / 30}
    apply = lambda weights, x: jnp.tanh(x @ weights["w"]) @ weights["v"]
    data = {"x": x, "y": (x[:, 0] > 0).astype(int)}
    target = po.network((init, apply), data=data, likelihood="bernoulli", prior="fan_in")
    approx = po.fit(target, "ivon", n=1, random_seed=0, progress=False)
    location, log_scale = approx.params[:, target.layout.slices["w"]]
    np.testing.assert_allclose(np.std(location), np.sqrt(2) / 20, rtol=0.1)
    np.testing.assert_allclose(np.exp(np.median(log_scale)), np.sqrt(2) / 40, rtol=0.1)


def test_a_spread_that_is_known_is_begun_with():
    """Coordinates of an earlier posterior, whose standard deviations are wider than its means differ."""
    layout = Layout((Variable("w", (9_000,), (9_000,)),))
    known, zero, one = jnp.linspace(0.5, 0.6, 9_000), jnp.zeros(9_000), jnp.ones(9_000)
    state = po.IVON().start(layout, jax.random.key(0), zero, one, jnp.linspace(-0.1, 0.1, 9_000), known)
    np.testing.assert_allclose(np.concatenate(state.scale), known, rtol=1e-6)


def test_what_is_refused():
    with pytest.raises(OptionError, match="memory must lie between 0 and 1"):
        po.IVON(memory=1.0)
    target = po.log_density(gaussian, initial=np.zeros(3))
    with pytest.raises(OptionError, match="IVON is an optimiser itself"):
        po.fit(target, "ivon", obj_optimizer=optax.adam(0.1), progress=False)
