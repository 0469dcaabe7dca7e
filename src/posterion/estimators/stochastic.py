"""Larger networks: weights by Adam on mini-batches, in one compiled program for all data of the same shapes.

Rows and inputs are padded to a few sizes, so that the folds of a cross-validation share one program; padding has no
weight. Data, step sizes, prior precisions and noise are arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion.compilation import cache
from posterion.estimators.kronecker import KroneckerMode, curvature, updated_precisions, with_noise
from posterion.estimators.likelihoods import Bernoulli, Categorical, Likelihood, StudentT
from posterion.estimators.network import Network

STEPS_PER_CALL = 100
CURVATURE_ROWS = 1000
ADAM = (0.9, 0.999, 1e-8)


@dataclass(frozen=True)
class Schedule:
    """How long, in which batches, and how fast.

    Parameters
    ----------
    steps
        A multiple of `STEPS_PER_CALL`.
    batch
        Rows per step.
    rate
        Largest step size; it warms up over the first steps and falls along a cosine.
    """

    steps: int
    batch: int
    rate: float

    @classmethod
    def of(cls, network: Network, rows: int, batch: int | None, epochs: float | None, rate: float) -> "Schedule":
        """Measured defaults: small batches for few rows; 40 epochs, fewer over many rows or with many weights."""
        if batch is None:
            batch = next(size for limit, size in BATCHES if rows <= limit)
        batch = min(batch, rows)
        if epochs is None:
            work = MOST_WORK if network.outputs > 1 else MOST_WORK / 2
            most = min(6000.0, max(1000.0, work / (network.size * batch)))
            steps = float(np.clip(40 * rows / batch, 1000, most))
        else:
            steps = epochs * rows / batch
        calls = max(1, round(steps / STEPS_PER_CALL))
        return cls(calls * STEPS_PER_CALL, batch, rate)

    def rates(self) -> np.ndarray:
        """Step size of each step."""
        step = np.arange(self.steps)
        warm = np.minimum(1, (step + 1) / max(1, 0.05 * self.steps))
        return self.rate * warm * (0.5 + 0.5 * np.cos(np.pi * step / self.steps))


MOST_WORK = 2e10
"""Weights times rows of all steps of one member; half of it where there is one output, which was as good."""
BATCHES = ((2_000, 32), (6_000, 64), (60_000, 128), (200_000, 256), (float("inf"), 1024))


def train(
    network: Network,
    likelihood: Likelihood,
    start: np.ndarray,
    inputs: np.ndarray,
    targets: np.ndarray,
    row_weights: np.ndarray,
    rows: np.ndarray,
    *,
    schedule: Schedule,
    rng: np.random.Generator,
    before: KroneckerMode | None = None,
    held_out: Callable[[KroneckerMode], float] | None = None,
    precisions: np.ndarray | None = None,
) -> tuple[KroneckerMode, int]:
    """Train on the rows numbered ``rows`` and approximate the posterior there.

    Parameters
    ----------
    network, likelihood, start
        What is fitted, and where it starts.
    inputs, targets, row_weights
        All data, float32, padded; shared by all members.
    rows
        Those to learn from.
    schedule, rng
        Steps, and the order of rows.
    before
        The posterior given earlier data, which is then the prior.
    held_out
        Score on other rows. The weights with the best one are kept.
    precisions
        Prior precision of each layer to start from.
    """
    program = _program(network, type(likelihood), before is not None)
    precisions = np.ones(len(network.shapes)) if precisions is None else precisions.copy()
    total = float(row_weights[rows].sum())
    state: Any = (start.astype(np.float32), np.zeros(network.size, np.float32), np.zeros(network.size, np.float32))
    sample = rng.choice(rows, size=min(CURVATURE_ROWS, len(rows)), replace=False)
    order, used = rng.permutation(rows), 0
    rates = schedule.rates().astype(np.float32)
    best: tuple[float, KroneckerMode] | None = None
    mode = None
    calls = schedule.steps // STEPS_PER_CALL
    looks = {round(calls * share) for share in (0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)} if calls >= 3 else {calls}
    prior = _prior_arguments(network, before)
    for call in range(calls):
        needed = STEPS_PER_CALL * schedule.batch
        while len(order) - used < needed:
            order, used = np.concatenate([order[used:], rng.permutation(rows)]), 0
        index = order[used : used + needed].reshape(STEPS_PER_CALL, schedule.batch).astype(np.int32)
        used += needed
        begin = call * STEPS_PER_CALL
        noise = (likelihood.variance, min(likelihood.freedom, 1e6)) if isinstance(likelihood, StudentT) else (1.0, 1.0)
        settings = {
            "rates": rates[begin : begin + STEPS_PER_CALL],
            "first": np.float32(begin),
            "precisions": precisions.astype(np.float32),
            "noise": np.array(noise, np.float32),
            "total": np.float32(total),
        }
        with jax.enable_x64(False):
            state = program(state, settings, prior, inputs, targets, row_weights, index)
        if call + 1 in looks:
            weights = np.asarray(state[0], np.float64)
            x = inputs[sample].astype(np.float64)
            mode = curvature(
                network, likelihood, weights, x, row_weights[sample], rows=total, precisions=precisions, before=before
            )
            if before is None:
                precisions = updated_precisions(network, mode)
                mode = replace(mode, precisions=precisions)
                if isinstance(likelihood, StudentT):
                    f = network.apply(weights, x)
                    share = mode.effective.sum() * row_weights[sample].sum() / total
                    likelihood = likelihood.updated(f, targets[sample].astype(float), row_weights[sample], share)
                    mode = with_noise(mode, likelihood)
            if held_out is not None:
                score = held_out(mode)
                if best is None or score > best[0]:
                    best = (score, mode)
    assert mode is not None
    return (mode if best is None else best[1]), schedule.steps


def padded(size: int) -> int:
    """The next size of a grid whose steps are a quarter, at most."""
    step = 2 ** max(2, int(np.floor(np.log2(max(size, 1)))) - 2)
    return int(-(-size // step) * step)


def _prior_arguments(network: Network, before: KroneckerMode | None) -> Any:
    if before is None:
        return ()
    centre = before.weights.astype(np.float32)
    eigen = tuple(tuple(part.astype(np.float32) for part in layer) for layer in before.eigen)
    return centre, eigen


@lru_cache(maxsize=64)
def _program(network: Network, kind: type, informed: bool) -> Callable:  # noqa: FBT001
    """`STEPS_PER_CALL` steps of Adam, compiled for each shape of the data."""

    def objective(weights, settings, prior, x, y, w):
        f = network.apply(weights, x, tanh=jnp.tanh)
        rows = (w * _log_density(kind, f, y, settings["noise"])).sum() / jnp.maximum(w.sum(), 1e-6)
        if informed:
            centre, eigen = prior
            away = network.layers(weights - centre)
            pull = sum(((a.T @ m @ g) ** 2 * t).sum() for m, (a, g, t) in zip(away, eigen, strict=True))
        else:
            layers = network.layers(weights)
            pull = sum(p * (m**2).sum() for m, p in zip(layers, settings["precisions"], strict=True))
        return -rows + 0.5 * pull / settings["total"]

    def run(state, settings, prior, inputs, targets, row_weights, index):
        def step(carry, now):
            weights, first, second = carry
            rows, rate, number = now
            slope = jax.grad(objective)(weights, settings, prior, inputs[rows], targets[rows], row_weights[rows])
            first = ADAM[0] * first + (1 - ADAM[0]) * slope
            second = ADAM[1] * second + (1 - ADAM[1]) * slope**2
            corrected = jnp.sqrt(second / (1 - ADAM[1] ** (number + 1))) + ADAM[2]
            weights = weights - rate * (first / (1 - ADAM[0] ** (number + 1))) / corrected
            return (weights, first, second), None

        numbers = settings["first"] + jnp.arange(index.shape[0], dtype=jnp.float32)
        return jax.lax.scan(step, state, (index, settings["rates"], numbers))[0]

    compiled: dict[Any, Callable] = {}
    jitted = jax.jit(run)

    def call(*arguments):
        shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(arguments))
        if shapes not in compiled:
            with cache.persistent_cache():
                compiled[shapes] = jitted.lower(*arguments).compile()
        return compiled[shapes](*arguments)

    return call


def _log_density(kind: type, f: Any, y: Any, noise: Any) -> Any:
    if kind is Bernoulli:
        return y * f[:, 0] - jnp.logaddexp(0.0, f[:, 0])
    if kind is Categorical:
        return jnp.take_along_axis(jax.nn.log_softmax(f), y[:, None].astype(int), axis=1)[:, 0]
    squares = (y - f[:, 0]) ** 2 / noise[0]
    return -0.5 * (noise[1] + 1) * jnp.log1p(squares / noise[1])
