"""The batch-minor pass on functions that other libraries write: Equinox, Flax and NumPyro."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from posterion.compilation.minor_axis import batch_minor, pack

NUM_ROWS = 60
RNG = np.random.default_rng(11)
X = RNG.normal(size=(NUM_ROWS, 4)).astype("float32")
LABELS = RNG.integers(0, 3, NUM_ROWS)


def assert_same_value_and_gradient(function, z, flips):
    """``function(z, x)`` with and without the pass, compiled."""
    wrapped = batch_minor(function)
    expected_value, expected = jax.jit(jax.value_and_grad(function))(z, X)
    value, gradient = jax.jit(jax.value_and_grad(wrapped))(z, pack(X))
    assert wrapped.statistics.refused == ""
    assert wrapped.statistics.flipped >= flips
    assert not wrapped.statistics.fallbacks
    np.testing.assert_allclose(value, expected_value, rtol=2e-6)
    gradient, expected = ravel_pytree(gradient)[0], ravel_pytree(expected)[0]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))


def classification(logits):
    return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[:, None], axis=1))


def test_equinox_module_mapped_over_rows():
    equinox = pytest.importorskip("equinox")
    network = equinox.nn.MLP(4, 3, 8, 2, activation=jax.nn.silu, key=jax.random.key(0))
    weights, static = equinox.partition(network, equinox.is_inexact_array)

    def log_likelihood(weights, x):
        return classification(jax.vmap(equinox.combine(weights, static))(x))

    # vmap already puts the weights first in every product and then transposes its result back: nothing to turn, and
    # no transpose left.
    assert_same_value_and_gradient(log_likelihood, weights, flips=0)
    assert "transpose" in str(jax.make_jaxpr(log_likelihood)(weights, X))
    assert "transpose" not in str(jax.make_jaxpr(batch_minor(log_likelihood))(weights, pack(X)))


def test_equinox_module_is_an_argument():
    """A module holds functions among its leaves; they are no arrays and pass through."""
    equinox = pytest.importorskip("equinox")
    network = equinox.nn.Linear(4, 3, key=jax.random.key(0))
    module = (network, jnp.tanh)
    wrapped = batch_minor(lambda module, x: module[1](x @ module[0].weight.T + module[0].bias))
    found = wrapped(module, pack(X))
    assert wrapped.statistics.flipped == 1
    np.testing.assert_allclose(found, jnp.tanh(jax.vmap(network)(X)), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_flax_linen_with_layer_norm_and_dropout():
    linen = pytest.importorskip("flax.linen")

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.LayerNorm()(linen.gelu(linen.Dense(8)(x)))
            x = linen.Dropout(0.2, deterministic=False)(x)
            return linen.Dense(3)(x)

    network, key = Network(), jax.random.key(1)
    weights = network.init({"params": key, "dropout": key}, X)
    log_likelihood = lambda weights, x: classification(network.apply(weights, x, rngs={"dropout": key}))
    assert_same_value_and_gradient(log_likelihood, weights, flips=2)


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.second(nnx.relu(self.first(x)))

    graph, weights = nnx.split(Network(nnx.Rngs(0)))
    log_likelihood = lambda weights, x: classification(nnx.merge(graph, weights)(x))
    assert_same_value_and_gradient(log_likelihood, weights, flips=2)


def test_log_density_of_a_numpyro_model():
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer.util import log_density

    def model(x):
        first = numpyro.sample("first", dist.Normal(0, 1).expand([4, 8]).to_event(2))
        second = numpyro.sample("second", dist.Normal(0, 1).expand([8, 3]).to_event(2))
        scale = numpyro.sample("scale", dist.HalfNormal(1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Categorical(logits=scale * jnp.tanh(x @ first) @ second), obs=LABELS)

    values = {
        "first": jax.random.normal(jax.random.key(2), (4, 8)),
        "second": jax.random.normal(jax.random.key(3), (8, 3)),
        "scale": jnp.float32(0.7),
    }
    assert_same_value_and_gradient(lambda values, x: log_density(model, (x,), {}, values)[0], values, flips=2)


@pytest.mark.slow
def test_an_unchanged_pymc_model():
    """The network of the tutorial, taken over by the front end: nothing in it falls back."""
    pm = pytest.importorskip("pymc")
    from posterion.frontends.pymc import from_pymc

    with pm.Model() as model:
        x = pm.Data("x", X, dims=("obs_id", "columns"))
        first = pm.Normal("first", 0, 1, shape=(4, 5))
        second = pm.Normal("second", 0, 1, shape=(5, 5))
        third = pm.Normal("third", 0, 1, shape=5)
        h = pm.math.tanh(pm.math.dot(pm.math.tanh(pm.math.dot(x, first)), second))
        pm.Bernoulli("y", pm.math.sigmoid(pm.math.dot(h, third)), observed=LABELS > 0, dims="obs_id")
    target = from_pymc(model)
    z, data = jnp.linspace(-1, 1, 50), target.as_arrays(target.data)
    row_axes = {name: slot.row_axis for name, slot in target.slots.items()}
    wrapped = batch_minor(target.log_density)
    value, gradient = jax.jit(jax.value_and_grad(wrapped))(z, pack(data, row_axes))
    expected_value, expected = jax.jit(jax.value_and_grad(target.log_density))(z, data)
    assert (wrapped.statistics.refused, wrapped.statistics.flipped, wrapped.statistics.fallbacks) == ("", 3, {})
    np.testing.assert_allclose(value, expected_value, rtol=2e-6)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))
