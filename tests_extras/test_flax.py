"""Flax and nothing else."""

import numpy as np
from environment import only
from flax import linen, nnx

import posterion as po

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(100, 2))
Y = (X[:, 0] > 0).astype(float)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.out = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.tanh(self.hidden(x)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(linen.tanh(linen.Dense(8)(x)))


def test_the_environment_is_what_it_should_be():
    only("flax")


def test_modules_of_both_kinds_fit_and_predict(tmp_path):
    for module in (Net(nnx.Rngs(0)), LinenNet()):
        target = po.network(module, data={"x": X, "y": Y}, likelihood="bernoulli")
        approx = po.fit(target, n=3000, progress=False, random_seed=1)
        low, high = approx.predict({"x": np.array([[-2.0, 0.0], [2.0, 0.0]])}).mean["y"].ravel()
        assert low < 0.3 and high > 0.7
