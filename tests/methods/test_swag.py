"""SWAG: the moments of a path by hand, the stationary covariance of noisy steps, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.linalg import solve_discrete_lyapunov

import posterion as po
from posterion._typing import Batch
from posterion.errors import OptionError
from posterion.families import LowRank
from posterion.target import Layout, Variable

PRECISION = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.0, 0.3, 3.0]])
LAYOUT = Layout((Variable("z", (3,), (3,)),))


def pulled(z, batch):
    """A Gaussian whose gradient has the noise that comes as data."""
    return -0.5 * z @ jnp.asarray(PRECISION, z.dtype) @ z + z @ batch.data["pull"]


def walk(method, noise, rate, steps):
    """The state after steps of plain gradient descent along given noise, and all iterates."""
    algorithm = method.algorithm(pulled, LAYOUT, optax.sgd(rate))
    zero, one = jnp.zeros(3), jnp.ones(3)
    state = method.start(LAYOUT, jax.random.key(0), one, 1.0, zero, one, optax.sgd(rate))

    def step(state, pull):
        state, _ = algorithm.step(jnp.zeros(0), state, Batch({"pull": pull}), jnp.asarray(0.0))
        return state, state.location

    return algorithm, *jax.jit(lambda s, n: jax.lax.scan(step, s, n))(state, jnp.asarray(noise[:steps]))


def test_the_gaussian_is_that_of_the_path():
    """Mean, mean square and the last deviations against the iterates themselves."""
    method = po.SWAG(rank=4, every=3)
    with jax.enable_x64(True):
        algorithm, state, path = walk(method, np.random.default_rng(0).normal(size=(60, 3)), 0.1, 60)
        found = jnp.asarray(algorithm.iterate(state))
        location, covariance = (np.asarray(f(found)) for f in (LowRank(4).mean, LowRank(4).covariance))
    kept = np.asarray(path)[2::3]
    assert len(kept) == 20
    running = np.cumsum(kept, axis=0) / np.arange(1, 21)[:, None]
    deviations = (kept - running)[-4:]
    np.testing.assert_allclose(location, kept.mean(axis=0), rtol=1e-10)
    expected = 0.5 * np.diag(kept.var(axis=0)) + deviations.T @ deviations / (2 * 3)
    np.testing.assert_allclose(covariance, expected, rtol=1e-10)


def test_the_spread_is_the_stationary_one_of_the_steps():
    """Of z -> (1 - rate H) z + rate e, whose covariance solves a Lyapunov equation."""
    rate, steps = 0.1, 40_000
    method = po.SWAG(rank=400, every=50)
    with jax.enable_x64(True):
        algorithm, state, _ = walk(method, np.random.default_rng(1).normal(size=(steps, 3)), rate, steps)
        covariance = np.asarray(LowRank(400).covariance(jnp.asarray(algorithm.iterate(state))))
    expected = solve_discrete_lyapunov(np.eye(3) - rate * PRECISION, rate**2 * np.eye(3))
    # 800 iterates, 50 steps apart and so all but independent; the diagonal half of it leaves half the correlation.
    error = np.sqrt(np.outer(np.diag(expected), np.diag(expected)) / 400)
    expected = 0.5 * (expected + np.diag(np.diag(expected)))
    assert np.abs((covariance - expected) / error).max() < 4.5


def test_nothing_is_collected_before_the_rate_has_fallen_or_from_steps_that_failed():
    method = po.SWAG(rank=2, every=1, share=0.5)
    algorithm = method.algorithm(pulled, LAYOUT)
    zero, one = jnp.zeros(3), jnp.ones(3)
    state = method.start(LAYOUT, jax.random.key(0), one, 1.0, zero, one)
    peak = method.largest_step(LAYOUT)
    step = jax.jit(algorithm.step)
    early, _ = step(jnp.zeros(0), state, Batch({"pull": zero}), jnp.asarray(0.9 * peak))
    assert early.collected == 0
    np.testing.assert_allclose(algorithm.iterate(early)[0], early.location)
    late, _ = step(jnp.zeros(0), early, Batch({"pull": zero}), jnp.asarray(0.1 * peak))
    assert late.collected == 1
    np.testing.assert_allclose(np.abs(late.location - early.location), 0.5 * peak, rtol=0.2)  # not a tenth
    failed, info = step(jnp.zeros(0), late, Batch({"pull": jnp.full(3, jnp.nan)}), jnp.asarray(0.1 * peak))
    assert not info.finite
    np.testing.assert_array_equal(failed.location, late.location)
    assert algorithm.restart(late).collected == 0


def test_a_network_is_fitted_and_predicts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    y = (x[:, 0] + x[:, 1] + 0.5 * rng.normal(size=400) > 0).astype(int)
    net = lambda p, x: jnp.tanh(x @ p["w"] + p["b"]) @ p["u"]
    weights = {"w": rng.normal(size=(2, 5)), "b": np.zeros(5), "u": rng.normal(size=(5, 1))}
    target = po.network((weights, net), data={"x": x, "y": y}, likelihood="bernoulli", prior="fan_in")
    approx = po.fit(target, "swag", batch_size=50, n=1000, random_seed=0, progress=False)
    assert isinstance(approx.family, LowRank)
    assert any("step size and batches" in reason for reason in approx.record.caveats)
    found = approx.predict({"x": x}, draws=50)
    assert found.log_score("y", y).mean() > -0.35  # -0.69 knows nothing; the noise leaves about -0.25
    assert found.epistemic["y"].min() > 0
    with pytest.raises(OptionError, match="noise of mini-batches, .* give batch_size"):
        po.fit(target, "swag", progress=False)
    with pytest.raises(OptionError, match="SWAG averages its iterates itself"):
        po.fit(target, "swag", batch_size=50, stop=po.Averaging(), progress=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"rank": 1}, "rank must be"), ({"every": 0}, "every must be"), ({"share": 0.0}, "share must lie above 0")],
)
def test_what_is_refused(options, says):
    with pytest.raises(OptionError, match=says):
        po.SWAG(**options)
