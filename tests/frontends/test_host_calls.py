"""Calls out of compiled programs keep every bit, in threads of either precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.frontends.host_calls import call_on_host, difference

VALUES = [
    np.float64(1e6 + 1e-9),
    np.linspace(0, 1, 6).reshape(2, 3) + 1e-12,
    np.array([2**40 + 1, -3]),
    np.array([2**63 + 5], np.uint64),
    np.array([1 + 1e-12, 2j]),
    np.array([True, False]),
    np.float32(0.1),
    np.array([7], np.int32),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value.dtype}{value.shape}")
def test_nothing_is_rounded(value):
    seen = []

    def on_host(*arguments):
        with jax.enable_x64(False):  # the thread that calls back may be so
            seen.append([np.array(a) for a in arguments])
            return arguments

    with jax.enable_x64(True):
        announced = [jax.ShapeDtypeStruct(np.shape(value), value.dtype)]
        once = jax.jit(lambda v: call_on_host(on_host, announced, v)[0])
        found = once(value)
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)
        np.testing.assert_array_equal(seen[0][0], value)
        several = jax.jit(jax.vmap(once))(jnp.stack([value, value]))
        np.testing.assert_array_equal(several, np.stack([value, value]))


def test_differences():
    with jax.enable_x64(True):
        at = jnp.array([1e-3, 2.0, -300.0]), jnp.array([2, 3]), jnp.array(0.5)
        direction = jnp.array([1e4, 0.0, -1e6]), np.zeros(2, jax.dtypes.float0), jnp.array(2.0)
        function = lambda x, k, s: (jnp.exp(x / 100) * s, k, jnp.sum(x**2))
        exp, whole, square = difference(function, at, direction)
        x, d = np.asarray(at[0]), np.asarray(direction[0])
        np.testing.assert_allclose(exp, np.exp(x / 100) * (d * 0.5 / 100 + 2), rtol=1e-8)
        np.testing.assert_allclose(square, 2 * x @ d, rtol=1e-8)
        assert whole.dtype == jax.dtypes.float0
        still = difference(function, at, (jnp.zeros(3), direction[1], jnp.array(0.0)))
        np.testing.assert_array_equal(still[0], np.zeros(3))
