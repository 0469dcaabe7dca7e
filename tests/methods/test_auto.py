"""What "auto" picks, and the probe it picks by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posterion as po
from posterion._typing import Batch
from posterion.errors import OptionError
from posterion.families import LowRank, MeanField
from posterion.methods import Auto
from posterion.methods.names import method_of
from posterion.methods.probe import missed_width
from posterion.methods.starts import derivatives
from tests.methods.targets import fit

DIM = 400


def gaussian(factor):
    """Independent entries of unequal scales, and one direction common to all in which they vary by ``factor``."""
    scales = np.exp(np.random.default_rng(0).normal(size=DIM))
    common = np.random.default_rng(1).normal(size=DIM)
    common /= np.linalg.norm(common)

    def log_density(p):
        u = p["v"] / scales
        return -0.5 * (u @ u - (1 - 1 / factor**2) * (common @ u) ** 2)

    return po.log_density(log_density, initial={"v": np.zeros(DIM)})


@pytest.mark.parametrize("factor", [1.0, 5.0])
def test_the_probe_finds_how_much_wider_the_posterior_is_somewhere(factor):
    target = gaussian(factor)
    with jax.enable_x64(True):
        program = jax.jit(derivatives(lambda z, batch: target.log_density(z, {})))
        start = 0.1 * np.random.default_rng(2).normal(size=DIM)
        width = missed_width(program, start, Batch({}), 0)
        assert width == pytest.approx(factor, rel=0.3)
        saddle = jax.jit(derivatives(lambda z, batch: jnp.sum(z**2)))
        assert np.isnan(missed_width(saddle, start, Batch({}), 0))


def test_correlations_of_many_unknowns_are_probed_for():
    chosen, why = Auto().choose(DIM, is_network=False, by_steps="", probe=lambda: 5.0)
    assert chosen == po.ADVI(family=LowRank())
    assert "5.0 times as wide" in why
    for width, said in ((1.2, "nowhere more than 1.2 times"), (float("nan"), "did not tell")):
        chosen, why = Auto().choose(DIM, is_network=False, by_steps="", probe=lambda width=width: width)
        assert chosen == po.ADVI(family=MeanField())
        assert said in why
    chosen, why = Auto().choose(10, is_network=False, by_steps="", rows=1_000_000)
    assert chosen == po.Laplace()
    assert "1,000,000 rows" in why


@pytest.mark.slow
def test_a_fit_says_what_the_probe_found():
    approx = fit(gaussian(5.0), "auto")
    assert "LowRank" in approx.record.method
    assert "picked ADVI with a LowRank family: 400 unknowns" in repr(approx)


def test_what_is_no_method_is_told_what_would_be():
    with pytest.raises(OptionError, match="did you mean 'advi'"):
        method_of("avdi")
    with pytest.raises(OptionError, match=r"family of distributions, .*ADVI\(family=...\)"):
        method_of(po.FullRank())
