"""PyMC and nothing else."""

import numpy as np
import pymc as pm
from environment import only

import posterion as po

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=100)


def test_the_environment_is_what_it_should_be():
    only("pymc")


def test_a_model_fits_predicts_and_is_kept(tmp_path):
    with pm.Model():
        x = pm.Data("x", X, dims="row")
        level, slope = pm.Normal("level", 0, 5), pm.Normal("slope", 0, 5)
        pm.Normal("y", level + slope * x, 0.3, observed=1 + 2 * X + 0.3 * RANDOM.normal(size=100), dims="row")
        approx = po.fit(progress=False, random_seed=1)
    new = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(approx.predict({"x": new}).mean["y"], 1 + 2 * new, atol=0.2)
    approx.save(tmp_path / "line.posterion")
    assert po.load(tmp_path / "line.posterion").predict({"x": new}).mean["y"].shape == (3,)
