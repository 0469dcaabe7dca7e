"""The whitened start: mode and curvature against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion._typing import Batch
from posterion.compilation.cache import Program
from posterion.methods.starts import curvatures, derivatives, well_scaled, whiten


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_mode_and_scales_of_a_badly_scaled_gaussian():
    mean, sd = np.array([6e4, 1e-3, -5.0]), np.array([9e3, 1e-4, 2.0])
    program = Program(derivatives(lambda z, batch: -0.5 * jnp.sum(((z - mean) / sd) ** 2)))
    found = whiten(program, np.zeros(3), Batch({}))
    np.testing.assert_allclose(found.scale, sd, rtol=1e-6)
    assert np.all(np.abs(found.shift - mean) < 0.1 * sd)


def test_newton_steps_go_along_a_ridge_that_stops_lbfgs():
    """Intercept and slope of a regression on raw years: correlated by all but 1e-7."""
    year = np.arange(1952.0, 2014.0)
    x = np.stack([np.ones_like(year), year], axis=1)
    weights = np.array([-30.0, 0.02])

    def log_joint(z, batch):
        residual = (x @ weights - x @ z[:2]) / jnp.exp(z[2])
        return -0.5 * jnp.sum(residual**2 + 1.0) - len(year) * z[2] - 0.5 * (z[0] / 1e3) ** 2

    program = Program(derivatives(log_joint))
    found = whiten(program, np.array([5.0, 0.0, 1.0]), Batch({}))
    gradient = np.asarray(program(found.shift, np.zeros(3), Batch({}))[1])
    assert 0.5 * gradient @ np.linalg.solve(found.hessian, gradient) < 1e-3


def test_derivatives_are_those_of_the_negative_log_joint():
    program = Program(derivatives(lambda z, batch: -jnp.sum(z**4)))
    z, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
    value, gradient, product = program(z, v, Batch({}))
    np.testing.assert_allclose(value, 17.0)
    np.testing.assert_allclose(gradient, [4.0, 32.0])
    np.testing.assert_allclose(product, [12.0, 0.0])


def test_directions_without_curvature_keep_scale_one():
    program = Program(derivatives(lambda z, batch: -0.5 * (z[0] / 0.1) ** 2 + 0.0 * z[1]))
    found = whiten(program, np.array([1.0, 1.0]), Batch({}))
    np.testing.assert_allclose(found.scale, [0.1, 1.0], rtol=1e-6)


def test_gives_up_where_nothing_is_finite():
    program = Program(derivatives(lambda z, batch: jnp.sum(z) * jnp.nan))
    assert whiten(program, np.zeros(2), Batch({})) is None


@pytest.mark.parametrize(
    ("sd", "expected"),
    [([1.0, 0.1, 5.0], True), ([1.0, 1e-3, 1.0], False), ([1.0, 50.0, 1.0], False)],
)
def test_a_start_is_whitened_where_scales_call_for_it(sd, expected):
    program = Program(derivatives(lambda z, batch: -0.5 * jnp.sum((z / np.array(sd)) ** 2)))
    curvature = curvatures(program, np.ones(3), Batch({}))
    np.testing.assert_allclose(curvature, 1 / np.square(sd), rtol=1e-9)
    assert well_scaled(curvature) == expected


def test_saddles_say_nothing_of_scales():
    assert not well_scaled(np.array([-1.0, np.nan, 1.0]))
    assert well_scaled(np.array([-1.0, 1.0, 2.0]))
