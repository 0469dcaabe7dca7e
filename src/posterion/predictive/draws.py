"""Predictive draws themselves: outcomes y ~ p(y | z, x) and conditional means E[y | z, x], one per posterior draw.

Both are functions ``f(target, z, data, key) -> {name: rows first}`` for `Evaluation.collect`. They are made by
factories whose results are equal for equal names, because compiled programs are kept by them.
"""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from posterion._typing import Array, Data, Key
from posterion.target import AbstractRowTarget

Of = Literal["outcome", "mean"]


@dataclass(frozen=True)
class Outcomes:
    """One simulated value per draw of the observed variables among ``names``; deterministics as they are."""

    names: tuple[str, ...]

    def __call__(self, target: AbstractRowTarget, z: Array, data: Data, key: Key) -> dict[str, Array]:
        values: dict[str, Array] = {}
        if any(name in target.observed for name in self.names):
            values |= target.simulate(key, z, data)
        if any(name in target.row_names for name in self.names):
            values |= target.row_values(z, data)
        return {name: jnp.atleast_1d(values[name]) for name in self.names}


@dataclass(frozen=True)
class Means:
    """The conditional mean of each observed variable among ``names`` given the draw; deterministics as they are."""

    names: tuple[str, ...]

    def __call__(self, target: AbstractRowTarget, z: Array, data: Data, key: Key) -> dict[str, Array]:
        del key  # nothing is simulated
        values: dict[str, Array] = {}
        if any(name in target.observed for name in self.names):
            values |= {name: moments.mean for name, moments in target.moments(z, data).items()}
        if any(name in target.row_names for name in self.names):
            values |= target.row_values(z, data)
        return {name: jnp.atleast_1d(values[name]) for name in self.names}
