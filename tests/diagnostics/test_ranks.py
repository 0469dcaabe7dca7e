"""Simulation-based calibration: what ranks say, and refits of models whose posterior is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import posterion as po
from posterion.diagnostics import RankCalibration
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.plots import plot_ranks

ROWS, DRAWS = 5, 99


def table(width, shift=0.0, repetitions=400):
    """Ranks where the truth is N(shift, 1) and the posterior's draws are N(0, width^2)."""
    rng = np.random.default_rng(0)
    truth = shift + rng.standard_normal((repetitions, 1, 2))
    ranks = np.sum(width * rng.standard_normal((repetitions, DRAWS, 2)) < truth, axis=1)
    return RankCalibration(("a", "b"), ranks, DRAWS)


def test_ranks_of_an_exact_posterior_are_uniform():
    found = table(1.0)
    assert found.calibrated
    np.testing.assert_allclose(found.spread, 1.0, atol=4 * 0.447 / np.sqrt(400))  # sd of 12 (u - 1/2)^2 / 2
    assert np.all(np.abs(found.bias) < 4)
    assert "The method is calibrated" in str(found)


@pytest.mark.parametrize(
    ("width", "shift", "word"), [(0.5, 0.0, "too narrow"), (2.0, 0.0, "too wide"), (1.0, 0.5, "too low")]
)
def test_ranks_that_are_not_uniform_say_how(width, shift, word):
    found = table(width, shift)
    assert not found.calibrated
    assert word in str(found)


def test_the_picture_leaves_its_band_where_ranks_are_not_uniform():
    def farthest(found):
        ax = plot_ranks(found, ax=Figure().subplots())
        band = ax.patches[0].get_height() / 2
        return max(np.abs(line.get_ydata()).max() for line in ax.lines[1:]) / band

    assert farthest(table(1.0)) < 1.3 < farthest(table(0.5))


def density(params, data):
    return -0.5 * params["theta"] ** 2 - 0.5 * jnp.sum((data["y"] - params["theta"]) ** 2)


def simulate(seed):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal()
    return {"theta": theta}, {"y": theta + rng.standard_normal(ROWS)}


def test_a_conjugate_model_is_calibrated_and_a_point_is_not():
    target = po.log_density(density, initial={"theta": np.zeros(())}, data={"y": np.zeros(ROWS)})
    exact = po.calibrate(target, "laplace", simulate=simulate, repetitions=40, draws=50)
    assert exact.ranks.shape == (40, 1)
    assert exact.calibrated
    point = po.calibrate(target, "map", simulate=simulate, repetitions=40, draws=50)
    assert not point.calibrated
    assert "too narrow" in str(point)
    with pytest.raises(UnsupportedModelError, match="simulate="):
        po.calibrate(target)
    with pytest.raises(DataError, match="theta"):
        po.calibrate(target, simulate=lambda seed: ({"thetta": 0.0}, {"y": np.zeros(ROWS)}))
    with pytest.raises(OptionError, match="repetitions"):
        po.calibrate(target, simulate=simulate, repetitions=0)


@pytest.mark.slow
def test_pymc_draws_from_its_own_prior():
    pm = pytest.importorskip("pymc")
    with pm.Model() as model:
        theta = pm.Normal("theta", 0, 1)
        sigma = pm.HalfNormal("sigma", 1)
        pm.Normal("y", theta, sigma, observed=pm.Data("outcomes", np.zeros(40)))
    found = po.calibrate(model, repetitions=60, draws=99, n=2000)
    assert found.names == ("theta", "sigma")
    assert found.calibrated
