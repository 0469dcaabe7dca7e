"""What is a network, and what precision follows."""

import jax
import jax.numpy as jnp
import pytest

from posterion.compilation.precision import choose, is_network
from posterion.errors import OptionError

X = jnp.ones((20, 3))


def two_layers(z, data):
    return jnp.sum(jnp.tanh(data["x"] @ z[:6].reshape(3, 2)) @ z[6:8])


def regression(z, data):
    return jnp.sum((data["x"] @ z[:3]) ** 2)


def hierarchy(z, data):
    return jnp.sum(data["x"] @ (z[3:6] * jnp.exp(z[0]) + z[1]))


def correlated_effects(z, data):
    factor = jnp.tril(z[:9].reshape(3, 3))
    return jnp.sum(data["x"] @ (factor @ z[9:12]))


def gaussian_process(z, data):
    distance = jnp.sum((data["x"][:, None] - data["x"][None]) ** 2, -1)
    kernel = jnp.exp(-distance * jnp.exp(z[0])) + jnp.eye(20)
    return jnp.sum(jnp.linalg.cholesky(kernel) @ z[:20])


def network_inside_jit_and_scan(z, data):
    layer = jax.jit(lambda x, w: jax.nn.relu(x @ w))
    hidden = layer(data["x"], z[:9].reshape(3, 3))
    out, _ = jax.lax.scan(lambda h, _: (layer(h, z[:9].reshape(3, 3)), None), hidden, None, length=2)
    return jnp.sum(out)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (two_layers, True),
        (network_inside_jit_and_scan, True),
        (regression, False),
        (hierarchy, False),
        (correlated_effects, False),
        (gaussian_process, False),
    ],
)
def test_networks_are_told_from_other_models(function, expected):
    assert is_network(function, jnp.zeros(20), {"x": X}) is expected


@pytest.mark.parametrize(
    ("requested", "network", "x64"),
    [(None, True, False), (None, False, True), ("float64", True, True), ("float32", False, False)],
)
def test_precision_follows_the_model_unless_asked(requested, network, x64):
    assert choose(requested, network=network) is x64


def test_an_unknown_precision_is_refused():
    with pytest.raises(OptionError, match="float16"):
        choose("float16", network=True)
