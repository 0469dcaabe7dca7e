"""Per-draw statistics of the predictive distribution and their running moments over draws.

For one posterior draw z and one block of rows, every observed variable gives

- ``value``: the conditional mean E[y | z, x] (a probability, or the probabilities of the classes), and
- ``within``: what is left to chance once z is known: the variance Var[y | z, x] of numbers, the entropy H[y | z, x] of
  outcomes with closed-form probabilities.

Over draws, ``value`` is summarised by Welford's running mean and sum of squared deviations, which in single precision
keep the accuracy of the inputs where plain sums of squares lose the variance of anything far from zero [1]_. A
variable without closed-form moments is simulated twice per draw, y1 and y2 independent given z: (y1 - y2)^2 / 2
estimates its variance given z without bias, and m = (y1 + y2) / 2 its mean with variance Var[y | z] / 2, which
`summarise` takes off again.

Rows run along the *last* axis of every statistic. Under the batch-minor pass that is how they are held anyway.

References
----------
.. [1] Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance. The American Statistician 37(3).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, ArrayLike, Data, Key
from posterion.target import AbstractRowTarget

Rule = Literal["binary", "categorical", "numeric", "simulated", "simulated_categorical", "deterministic"]


class Running(NamedTuple):
    """Running moments over draws; rows last.

    Parameters
    ----------
    mean
        Mean of ``value`` so far.
    square
        Sum of squared deviations of ``value`` from its mean so far.
    within
        Mean of ``within`` so far; None for a deterministic, which leaves nothing to chance.
    """

    mean: ArrayLike
    square: ArrayLike
    within: ArrayLike | None


class Summary(NamedTuple):
    """What is reported of one variable; NumPy arrays, rows first. See `docs/concepts/uncertainty.md`."""

    mean: np.ndarray
    std: np.ndarray
    mean_std: np.ndarray
    epistemic: np.ndarray
    aleatoric: np.ndarray | None
    total: np.ndarray | None
    unit: Literal["variance", "nats"]


def rules(target: AbstractRowTarget) -> dict[str, Rule]:
    """How each observed variable and row deterministic of ``target`` is summarised."""
    chosen: dict[str, Rule] = {}
    for name, observed in target.observed.items():
        if observed.has_moments:
            chosen[name] = observed.kind
        else:
            counted = observed.kind == "categorical" and observed.num_categories > 0
            chosen[name] = "simulated_categorical" if counted else "simulated"
    for name in target.row_names:
        chosen[name] = "deterministic"
    return chosen


def per_draw(target: AbstractRowTarget, z: Array, data: Data, key: Key) -> dict[str, tuple[Array, Array | None]]:
    """(value, within) of every variable for one draw, rows last."""
    chosen = rules(target)
    out: dict[str, tuple[Array, Array | None]] = {}
    if any(rule in ("binary", "categorical", "numeric") for rule in chosen.values()):
        moments = target.moments(z, data)
    if any(rule.startswith("simulated") for rule in chosen.values()):
        first, second = (target.simulate(part, z, data) for part in jax.random.split(key))
    row_values = target.row_values(z, data) if target.row_names else {}
    for name, rule in chosen.items():
        if rule == "deterministic":
            out[name] = (_rows_last(row_values[name], z.dtype), None)
        elif rule == "numeric":
            mean, variance = (_rows_last(part, z.dtype) for part in moments[name])
            out[name] = (mean, jnp.broadcast_to(variance, mean.shape))
        elif rule == "binary":
            probability = jnp.clip(_rows_last(moments[name].mean, z.dtype), 0.0, 1.0)
            out[name] = (probability, _entropy_term(probability) + _entropy_term(1.0 - probability))
        elif rule == "categorical":  # (rows, ..., classes) -> (..., classes, rows)
            probability = jnp.clip(_rows_last(moments[name].mean, z.dtype), 0.0, 1.0)
            out[name] = (probability, jnp.sum(_entropy_term(probability), axis=-2))
        else:
            one, two = first[name], second[name]
            if rule == "simulated_categorical":
                one, two = (jax.nn.one_hot(y, target.observed[name].num_categories) for y in (one, two))
            one, two = _rows_last(one, z.dtype), _rows_last(two, z.dtype)
            out[name] = ((one + two) / 2, (one - two) ** 2 / 2)
    return out


def _rows_last(values: Array, dtype: np.dtype) -> Array:
    values = jnp.asarray(values).astype(dtype)
    return jnp.moveaxis(values, 0, -1) if values.ndim else values[None]


def _entropy_term(probability: Array) -> Array:
    return -probability * jnp.log(jnp.maximum(probability, jnp.finfo(probability.dtype).tiny))


def start(like: Mapping[str, tuple]) -> dict[str, Running]:
    """Running moments before the first draw, for per-draw statistics shaped as ``like``."""
    zeros = lambda like: np.zeros(like.shape, like.dtype)
    return {
        name: Running(zeros(value), zeros(value), None if within is None else zeros(within))
        for name, (value, within) in like.items()
    }


def update(
    state: dict[str, Running], count: Array, statistics: Mapping[str, tuple[Array, Array | None]]
) -> dict[str, Running]:
    """Take in one more draw; ``count`` is the number of draws including it."""
    new = {}
    for name, (value, within) in statistics.items():
        old = state[name]
        share = 1.0 / count.astype(value.dtype)
        deviation = value - old.mean
        mean = old.mean + deviation * share
        square = old.square + deviation * (value - mean)
        spent = None if within is None or old.within is None else old.within + (within - old.within) * share
        new[name] = Running(mean, square, spent)
    return new


def of_all(value: np.ndarray, within: np.ndarray | None) -> Running:
    """The moments of draws that are all at hand: ``value`` and ``within`` of each, draws first and rows last."""
    value = np.asarray(value, np.float64)
    mean = value.mean(axis=0)
    spent = None if within is None else np.mean(within, axis=0, dtype=np.float64)
    return Running(mean, np.sum((value - mean) ** 2, axis=0), spent)


def summarise(rule: Rule, running: Running, num_draws: int) -> Summary:
    """Turn running moments (NumPy, rows last) into what is reported (rows first, double precision)."""
    mean = _rows_first(running.mean)
    between = _rows_first(running.square) / max(num_draws - 1, 1)
    if running.within is None:
        spread = np.sqrt(between)
        return Summary(mean, spread, spread, between, None, None, "variance")
    within = _rows_first(running.within)
    if rule == "numeric":
        total = between + within
        return Summary(mean, np.sqrt(total), np.sqrt(between), between, within, total, "variance")
    if rule in ("binary", "categorical"):
        total = _entropy(mean) + _entropy(1.0 - mean) if rule == "binary" else _entropy(mean).sum(axis=-1)
        epistemic = np.maximum(total - within, 0.0)  # >= 0 by Jensen's inequality; below only by rounding
        spread = np.sqrt(mean * (1.0 - mean))
        return Summary(mean, spread, np.sqrt(between), epistemic, total - epistemic, total, "nats")
    # Simulated: Var[m] = Var(E[y|z]) + E[Var(y|z)] / 2, so the between-draws part is Var[m] less half of `within`.
    # That is a difference of two estimates: below 0 only by Monte Carlo error.
    epistemic = np.maximum(between - within / 2, 0.0)
    total = epistemic + within
    return Summary(mean, np.sqrt(total), np.sqrt(epistemic), epistemic, within, total, "variance")


def _rows_first(values: ArrayLike) -> np.ndarray:
    return np.moveaxis(np.asarray(values, np.float64), -1, 0)


def _entropy(probability: np.ndarray) -> np.ndarray:
    return -probability * np.log(np.maximum(probability, np.finfo(np.float64).tiny))
