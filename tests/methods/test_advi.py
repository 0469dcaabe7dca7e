"""Draws of a step and their mirror images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.families import FullRank, LowRank, MeanField, Mixture
from posterion.methods.advi import ADVI
from posterion.target import Layout, Variable

LAYOUT = Layout((Variable("x", (3,), (3,)),))


def _noise(family, num_steps, num_draws=1):
    algorithm = ADVI(family, num_draws=num_draws).algorithm(lambda z, batch: -jnp.sum(z**2), LAYOUT)
    return np.asarray(algorithm.noise(jax.random.key(0), num_steps))


@pytest.mark.parametrize("family", [MeanField(), FullRank(), LowRank(rank=2)])
def test_every_draw_is_followed_by_its_mirror_image(family):
    noise = _noise(family, 100)
    np.testing.assert_array_equal(noise[0::2], -noise[1::2])
    assert len(np.unique(noise[0::2, 0, 0])) == 50
    of_a_step = _noise(family, 5, num_draws=2)
    np.testing.assert_array_equal(of_a_step[:, 0], -of_a_step[:, 1])
    assert _noise(family, 3).shape == (3, 1, noise.shape[-1])  # the last goes without


def test_each_is_a_standard_normal():
    noise = _noise(MeanField(), 4000)[:, 0]
    for part in (noise[0::2], noise[1::2]):
        np.testing.assert_allclose(part.std(0), 1, atol=0.06)
        np.testing.assert_allclose(np.corrcoef(part.T), np.eye(3), atol=0.08)


def test_families_that_are_not_gaussian_have_independent_draws():
    algorithm = ADVI(Mixture(2)).algorithm(lambda z, batch: -jnp.sum(z**2), LAYOUT)
    inner = np.asarray(algorithm.noise(jax.random.key(0), 10)["inner"])
    assert len(np.unique(np.abs(inner))) == inner.size
