import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from posterion.frontends.pymc import quantiles

PROBABILITIES = np.array([1e-8, 1e-3, 0.1, 0.5, 0.9, 0.999])


def grid(*axes):
    return [v.ravel() for v in np.meshgrid(*axes)]


@pytest.mark.parametrize("x64", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["float64", "float32"])
def test_gamma_quantiles(x64):
    shape, p = grid([0.1, 0.5, 1.0, 2.5, 10.0, 1e4], PROBABILITIES)
    with jax.enable_x64(x64):
        shape, p = jnp.asarray(shape), jnp.asarray(p)
        exact = [np.asarray(v, float) for v in (shape, p)]
        rtol = 1e-10 if x64 else 3e-4
        np.testing.assert_allclose(quantiles.gammaincinv(shape, p), special.gammaincinv(*exact), rtol=rtol, atol=1e-37)
        np.testing.assert_allclose(
            quantiles.gammainccinv(shape, p), special.gammainccinv(*exact), rtol=rtol, atol=1e-37
        )


def test_beta_quantiles():
    a, b, p = grid([0.1, 1.0, 2.5, 100.0], [0.5, 1.0, 10.0, 100.0], PROBABILITIES)
    with jax.enable_x64(True):
        found = quantiles.betaincinv(jnp.asarray(a), jnp.asarray(b), jnp.asarray(p))
        np.testing.assert_allclose(found, special.betaincinv(a, b, p), rtol=1e-8)


@pytest.mark.slow
def test_beta_quantiles_in_single_precision():
    a, b, p = grid([0.5, 2.0, 20.0], [0.5, 2.0, 20.0], [0.01, 0.5, 0.99])
    with jax.enable_x64(False):
        found = quantiles.betaincinv(*(jnp.asarray(v, jnp.float32) for v in (a, b, p)))
    np.testing.assert_allclose(special.betainc(a, b, np.asarray(found, float)), p, atol=1e-4)


def test_ends_of_the_range():
    with jax.enable_x64(True):
        ends, ones = jnp.array([0.0, 1.0]), jnp.ones(2)
        np.testing.assert_array_equal(quantiles.gammaincinv(ones, ends), [0.0, np.inf])
        np.testing.assert_array_equal(quantiles.gammainccinv(ones, ends), [np.inf, 0.0])
        np.testing.assert_array_equal(quantiles.betaincinv(ones, 2 * ones, ends), [0.0, 1.0])


def differences(function, arguments, k, step=1e-5):
    def at(multiple):
        moved = list(arguments)
        moved[k] = moved[k] * (1 + multiple * step)
        return function(*moved)

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step * arguments[k])


@pytest.mark.parametrize(
    ("ours", "scipys", "arguments"),
    [
        (quantiles.gammaincinv, special.gammaincinv, ([0.5, 2.0, 7.0], [0.2, 0.5, 0.9])),
        (quantiles.gammainccinv, special.gammainccinv, ([0.5, 2.0, 7.0], [0.2, 0.5, 0.9])),
        (quantiles.betaincinv, special.betaincinv, ([0.5, 2.0, 7.0], [0.8, 3.0, 1.5], [0.2, 0.5, 0.9])),
        (quantiles.betainc, special.betainc, ([0.5, 2.0, 7.0], [0.8, 3.0, 1.5], [0.2, 0.5, 0.9])),
    ],
)
def test_derivatives(ours, scipys, arguments):
    arguments = [np.array(v) for v in arguments]
    every = tuple(range(len(arguments)))
    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(lambda *args: ours(*args).sum(), argnums=every))(*map(jnp.asarray, arguments))
    for k, gradient in enumerate(gradients):
        np.testing.assert_allclose(gradient, differences(scipys, arguments, k), rtol=1e-6)
