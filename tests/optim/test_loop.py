"""The loop: numbers independent of the clock, interruptions that keep what exists, skips that are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion._typing import Batch
from posterion.compilation.cache import Program
from posterion.data.batches import AllRows
from posterion.families import MeanField
from posterion.methods import ADVI
from posterion.optim.loop import Loop, advance
from posterion.optim.progress import Silent
from posterion.target import Layout, Variable

DIM = 3
LAYOUT = Layout((Variable("v", (DIM,), (DIM,)),))
MEAN, SD = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 2.0])


def gaussian(z, batch):
    return jnp.sum(jax.scipy.stats.norm.logpdf(z, jnp.asarray(MEAN), jnp.asarray(SD)))


def make(log_joint=gaussian, callbacks=(), optimiser=None):
    method = ADVI()
    algorithm = method.algorithm(log_joint, LAYOUT, optimiser)
    stream = AllRows({"unused": jnp.zeros(1)})
    loop = Loop(algorithm, Program(advance(algorithm, stream)), stream, Silent(), callbacks)
    zero, one = jnp.zeros(DIM), jnp.ones(DIM)
    return loop, method.start(LAYOUT, jax.random.key(0), zero, 0.1, zero, one, optimiser)


def affine(state):
    """The fitted location and log scale, in the units of z."""
    return MeanField().affine(LAYOUT, state.params, state.shift, state.scale)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_finds_a_gaussian():
    loop, state = make()
    done = loop.run(state, 1, 3000, 0.1)
    location, log_scale = affine(done.state)
    np.testing.assert_allclose(location, MEAN, atol=0.02)
    np.testing.assert_allclose(np.exp(log_scale), SD, rtol=0.02)
    assert done.steps == loop.steps == done.losses.size == 3000
    assert not done.ended


@pytest.mark.parametrize("seconds", [1e-7, 3e-5, 1.0])
def test_numbers_do_not_depend_on_where_chunks_are_cut(seconds):
    """The chunk's length follows the clock; the losses and the state must not."""
    loop, state = make()
    reference = loop.run(state, 1, 750, 0.1)
    other, state = make()
    other._next_count = lambda remaining, done: min(remaining, {1e-7: 750, 3e-5: 300, 1.0: 100}[seconds])
    repeat = other.run(state, 1, 750, 0.1)
    np.testing.assert_array_equal(reference.losses, repeat.losses)
    jax.tree.map(np.testing.assert_array_equal, reference.state, repeat.state)


def test_any_number_of_steps_compiles_once():
    loop, state = make()
    for steps in (1, 99, 100, 101, 1234):
        done = loop.run(state, 1, steps, 0.1)
        assert done.losses.size == steps
        assert np.all(np.isfinite(done.losses))
        assert np.all(done.losses != 0)
    assert len(loop._program._compiled) == 1


def test_whitened_coordinates_give_the_same_posterior():
    loop, _ = make()
    shift, scale = jnp.asarray(MEAN), jnp.asarray(SD)
    state = ADVI().start(LAYOUT, jax.random.key(0), jnp.zeros(DIM), 0.1, shift, scale)
    done = loop.run(state, 1, 2000, 0.1)
    location, log_scale = affine(done.state)
    np.testing.assert_allclose(location, MEAN, atol=0.02)
    np.testing.assert_allclose(np.exp(log_scale), SD, rtol=0.02)
    values, _ = loop.algorithm.evaluate(done.state, loop.algorithm.host_noise(0, 256, True), Batch({}), jnp.int32(256))
    assert float(values.mean()) == pytest.approx(0, abs=2e-3)  # the target is normalised, so the best ELBO is 0


def test_steps_with_non_finite_values_change_nothing_and_are_counted():
    def sometimes_nan(z, batch):
        return jnp.where(z[0] > 0.02, jnp.nan, gaussian(z, batch))

    loop, state = make(sometimes_nan)
    done = loop.run(state, 1, 400, 0.01)
    assert 0 < done.skipped < 400
    assert done.skipped == np.count_nonzero(~np.isfinite(done.losses))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(done.state))
    assert not done.ended


def test_nothing_but_non_finite_values_ends_the_round():
    loop, state = make(lambda z, batch: jnp.sum(z) * jnp.nan)
    done = loop.run(state, 1, 100_000, 0.1)
    assert done.ended == "non_finite"
    assert done.steps < 1000
    jax.tree.map(np.testing.assert_array_equal, done.state.params, state.params)


def test_interrupting_keeps_what_exists():
    loop, state = make()
    real, calls = loop._program, []

    def interrupt_the_third(*arguments):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    loop._program = interrupt_the_third
    loop._next_count = lambda remaining, done: min(100, remaining)
    done = loop.run(state, 1, 1000, 0.1)
    assert done.ended == "interrupted"
    assert done.steps == done.losses.size == 200
    assert not np.array_equal(done.state.params, state.params)


def test_callbacks_see_progress_and_stop_the_fit():
    seen = []

    def callback(progress):
        seen.append((progress.step, progress.losses.size, progress.state.params.shape))
        if progress.step >= 300:
            raise StopIteration

    loop, state = make(callbacks=(callback,))
    loop._next_count = lambda remaining, done: min(100, remaining)
    done = loop.run(state, 1, 10_000, 0.1)
    assert done.ended == "callback"
    assert seen == [(100, 100, (2, DIM)), (200, 200, (2, DIM)), (300, 300, (2, DIM))]


def test_an_optax_optimiser_sets_its_own_rate():
    import optax

    loop, state = make(optimiser=optax.sgd(0.0))
    done = loop.run(state, 1, 100, 0.1)
    np.testing.assert_array_equal(done.state.params, state.params)
    loop, state = make(optimiser=optax.adam(1e-2))
    done = loop.run(state, 1, 3000, 123.0)  # the schedule's peak means nothing to it
    np.testing.assert_allclose(affine(done.state)[0], MEAN, atol=0.2)
