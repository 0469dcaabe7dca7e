"""Comparing states on fresh quasi-random draws, a new set each time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from posterion._typing import PyTree
from posterion.optim.algorithm import Algorithm

QUICK_DRAWS = 128
"""Draws that tell starts apart, and a fit that ran away from one that did not: differences of many nats."""

Evaluate = Callable[[Sequence[PyTree], PyTree, int, int], np.ndarray]
"""``(states, noise, count, seed) -> (states, draws)`` values of log p - log q for all rows at ``count`` draws.

Where there are too many rows for that, every draw sees a batch of its own, the same for all states, drawn by ``seed``.
"""


@dataclass(frozen=True)
class Comparison:
    """Two states on the same fresh draws, after a round.

    Parameters
    ----------
    step
        Steps on the best path so far.
    elbo
        Of the state after the round, in nats.
    gain
        Its ELBO minus the one before the round.
    standard_error
        Of ``gain``, from the paired draws (an upper bound: the draws are quasi-random).
    """

    step: int
    elbo: float
    gain: float
    standard_error: float


class Comparer:
    """Compares states on fresh draws, a new set each time.

    Parameters
    ----------
    algorithm, evaluate
        What makes noise, and what evaluates a state at it.
    seed
        Of all sets of draws.
    num_draws
        Draws in a set.
    """

    def __init__(self, algorithm: Algorithm, evaluate: Evaluate, seed: int, num_draws: int) -> None:
        self._algorithm, self._evaluate, self.num_draws = algorithm, evaluate, num_draws
        self._seeds = np.random.SeedSequence(seed).generate_state(4096)
        self.used = 0
        """Sets of draws used so far; a fit that goes on where it was puts its own number here."""

    def __call__(self, states: Sequence[PyTree], num_draws: int | None = None) -> np.ndarray:
        """Values of log p - log q, shape (states, draws); fewer draws than usual if asked for."""
        count = min(num_draws or self.num_draws, self.num_draws)
        seed = int(self._seeds[self.used % self._seeds.size])
        noise = self._algorithm.host_noise(seed, count, True)
        self.used += 1
        noise = jax.tree.map(
            lambda x: np.concatenate([x, np.zeros((self.num_draws - count, *x.shape[1:]), x.dtype)]), noise
        )
        return np.asarray(self._evaluate(states, noise, count, seed), np.float64)[:, :count]

    def values(self, states: Sequence[PyTree], noise: PyTree) -> np.ndarray:
        """Values of log p - log q at the caller's own noise, as many draws as a whole set; (states, draws)."""
        return np.asarray(self._evaluate(states, noise, self.num_draws, 0), np.float64)

    def ranking(self, states: Sequence[PyTree], num_draws: int | None = None) -> list[int]:
        """Indices of the states, that of the highest ELBO first; non-finite values lose."""
        elbo = self(states, num_draws).mean(axis=1)
        return np.argsort(-np.where(np.isfinite(elbo), elbo, -np.inf), kind="stable").tolist()

    def best(self, states: Sequence[PyTree], num_draws: int | None = None) -> int:
        """Index of the state of the highest ELBO; non-finite values lose."""
        return self.ranking(states, num_draws)[0]


def paired(old: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of the difference on common draws; infinite gain over a state that was not finite."""
    if not np.all(np.isfinite(old)):
        return float("inf"), 0.0
    if not np.all(np.isfinite(new)):
        return -float("inf"), 0.0
    difference = new - old
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(difference.size))
