"""The scaling to all rows: here and nowhere else, exact over an epoch, blind to padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion._typing import Batch
from posterion.compilation.minor_axis import pack, stacked
from posterion.data.batches import RandomRows
from posterion.families import MeanField
from posterion.objectives.bounds import log_joint
from posterion.objectives.gradients import negative_elbo, sticking_the_landing
from tests.hand_written import linear, network


@pytest.mark.parametrize("batch_size", [7, 50, 64, 120])
def test_epoch_mean_of_the_batch_estimate_is_the_full_log_joint(batch_size):
    """Weighted by their rows, the estimates of an epoch average to the full value, ragged tail and padding included."""
    with jax.enable_x64(True):
        target = linear()
        data = pack(target.as_arrays(target.data))
        stream = RandomRows(target.data, {"x": 0, "y": 0}, batch_size, 0, {}, lambda rows: rows, stacked)
        estimate = jax.jit(log_joint(target, ("out",)))
        z = jnp.linspace(-0.5, 0.5, target.layout.size)
        full = estimate(z, Batch(data))
        steps, counts = stream.window(0, stream.steps_per_epoch, stream.steps_per_epoch)
        at = lambda k: (jax.tree.map(lambda leaf: leaf[k], steps), counts[k])
        values = [estimate(z, stream.select({}, at(k))) for k in range(stream.steps_per_epoch)]
        np.testing.assert_allclose(np.average(values, weights=counts), full, rtol=1e-12)
        np.testing.assert_allclose(full, target.log_density(z, target.as_arrays(target.data)), rtol=1e-12)


def test_larger_population_is_counted_once():
    """num_rows above the rows at hand (a subsample of a population) scales the likelihood and nothing else."""
    with jax.enable_x64(True):
        target = linear()
        data = target.as_arrays(target.data)
        z = jnp.linspace(-0.5, 0.5, target.layout.size)
        prior = target.joint_terms(z, data).log_prior
        plain = log_joint(target)(z, Batch(data))
        target.num_rows = {"out": 1200}
        np.testing.assert_allclose(log_joint(target)(z, Batch(data)) - prior, 10 * (plain - prior), rtol=1e-12)
        np.testing.assert_allclose(log_joint(target)(z, Batch(data)), target.log_density(z, data), rtol=1e-12)


def test_values_that_padding_holds_do_not_matter():
    with jax.enable_x64(True):
        target = linear()
        data = target.as_arrays(target.data)
        estimate = log_joint(target, ("out",))
        z = jnp.ones(target.layout.size) * 0.1
        cut = {"x": data["x"][:8], "y": data["y"][:8]}
        spoiled = {"x": cut["x"].at[5:].set(99.0), "y": cut["y"].at[5:].set(-99.0)}
        real = jnp.arange(8) < 5
        assert float(estimate(z, Batch(cut, real))) == pytest.approx(
            float(estimate(z, Batch(spoiled, real))), rel=1e-14
        )


@pytest.mark.slow
def test_path_gradient_is_unbiased_and_lands_without_noise():
    """The path-derivative gradient has the mean of the plain one, and no variance where q is the posterior."""
    with jax.enable_x64(True):
        family, target = MeanField(), network()
        layout = target.layout
        data = target.as_arrays(target.data)
        params = family.init(layout, jnp.asarray(target.initial_point(0)), jax.random.key(0), 0.1)
        joint = log_joint(target)
        plain = lambda p, e, b: (lambda z, log_q: joint(z, b) - log_q)(*family.transport(layout, p, e))
        path = sticking_the_landing(joint, family, layout)
        noise = family.noise(layout, jax.random.key(1), 4000)
        batch = Batch(data)
        gradients = [jax.vmap(jax.grad(f), (None, 0, None))(params, noise, batch) for f in (plain, path)]
        difference = gradients[0] - gradients[1]
        error = difference.std(0, ddof=1) / np.sqrt(len(noise))
        assert np.all(np.abs(difference.mean(0)) < 5 * error + 1e-9)

        own = sticking_the_landing(lambda z, b: family.log_prob(layout, params, z), family, layout)
        at_posterior = jax.vmap(jax.grad(own), (None, 0, None))(params, noise[:20], batch)
        np.testing.assert_allclose(at_posterior, 0, atol=1e-10)


def test_negative_elbo_averages_draws():
    integrand = lambda params, noise, batch: params * noise
    loss = negative_elbo(integrand, 3)
    assert float(loss(jnp.array(2.0), jnp.array([1.0, 2.0, 6.0]), Batch({}))) == pytest.approx(-6.0)
    assert float(negative_elbo(integrand, 1)(jnp.array(2.0), jnp.array([5.0]), Batch({}))) == pytest.approx(-10.0)
