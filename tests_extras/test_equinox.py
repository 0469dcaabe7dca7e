"""Equinox and nothing else."""

import equinox as eqx
import jax
import numpy as np
from environment import only

import posterion as po

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(100, 2))
Y = (X[:, 0] > 0).astype(float)


def test_the_environment_is_what_it_should_be():
    only("equinox")


def test_a_module_fits_and_predicts():
    module = eqx.nn.MLP(2, 1, 8, 1, activation=jax.numpy.tanh, key=jax.random.key(0))
    target = po.network(module, data={"x": X, "y": Y}, likelihood="bernoulli")
    approx = po.fit(target, n=3000, progress=False, random_seed=1)
    low, high = approx.predict({"x": np.array([[-2.0, 0.0], [2.0, 0.0]])}).mean["y"].ravel()
    assert low < 0.3 and high > 0.7
