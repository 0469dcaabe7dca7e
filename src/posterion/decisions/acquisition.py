"""Active learning: which rows' outcomes are worth finding out, from the posterior draws of a pool of rows.

BALD [1]_ is the information that an outcome would give about the parameters z: the mutual information I(y; z). EPIG
[2]_ is what it would give about the outcomes y* of the rows one will have to predict, I(y; y*), which spends no label
on what does not matter for them. Given outcomes already asked for, b, both become I(y; . | b), so that a batch is
chosen one by one without asking the same twice [3]_; outcomes not yet seen are averaged over, exactly while they are
few and by sampling after that.

References
----------
.. [1] Houlsby, Huszár, Ghahramani and Lengyel (2011), Bayesian active learning for classification and preference
   learning. arXiv:1112.5745.
.. [2] Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth (2023), Prediction-oriented Bayesian active learning.
   AISTATS.
.. [3] Kirsch, van Amersfoort and Gal (2019), BatchBALD. NeurIPS.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from posterion.decisions._checks import as_classes
from posterion.decisions._prediction import AnyPrediction, mean_draws, one_name
from posterion.errors import DataError, OptionError

Criterion = Literal["bald", "epig"]

_CONFIGURATIONS = 64
"""Outcomes of a batch that are averaged over: all of them up to this many, and this many sampled ones from there on."""


def bald(draws: Any, *, name: str | None = None) -> Float[np.ndarray, " rows"]:
    """Information that the outcome of each row would give about the parameters, in nats: H(E p) - E H(p).

    Parameters
    ----------
    draws
        Of the probabilities: (draws, rows) of label 1, (draws, rows, classes), or a prediction of the rows.
    name
        The variable, of a prediction of several.
    """
    p = as_classes(mean_draws(draws, name), leading=1)
    return _information(p, np.full((1, len(p)), 1 / len(p)), np.ones(1))


def epig(draws: Any, targets: Any, *, name: str | None = None) -> Float[np.ndarray, " rows"]:
    """Information that the outcome of each row would give about that of a target row, in nats, on average over these.

    Parameters
    ----------
    draws
        Of the pool's probabilities, as for `bald`.
    targets
        The same of the rows one wants to predict well, from the same posterior draws in the same order.
    name
        The variable, of predictions of several.
    """
    p, t = _matched(mean_draws(draws, name), mean_draws(targets, name))
    return _information_about(p, t, np.full((1, len(p)), 1 / len(p)), np.ones(1))


def epig_of_numbers(means: Any, target_means: Any, variance: Any, target_variance: Any) -> Float[np.ndarray, " rows"]:
    """EPIG of numbers, with outcomes taken as normal: E over targets of -log(1 - correlation(y, y*)^2) / 2, in nats.

    Parameters
    ----------
    means, target_means
        Draws of the conditional mean, (draws, rows), of the pool and of the rows one wants to predict well.
    variance, target_variance
        Noise of each row, as ``prediction.aleatoric[name]`` gives it.
    """
    f, g = mean_draws(means), mean_draws(target_means)
    if f.ndim != 2 or g.ndim != 2 or len(f) != len(g):
        raise DataError(f"means must be shaped (draws, rows) with the same draws; found {f.shape} and {g.shape}")
    covariance = (f - f.mean(0)).T @ (g - g.mean(0)) / len(f)
    total = np.outer(f.var(axis=0) + np.asarray(variance), g.var(axis=0) + np.asarray(target_variance))
    return np.mean(-0.5 * np.log1p(-np.clip(covariance**2 / total, 0, 1 - 1e-12)), axis=1)


def suggest(
    pool: Any,
    k: int = 1,
    *,
    by: Criterion | None = None,
    targets: Any = None,
    name: str | None = None,
    variance: Any = None,
    exclude: Sequence[int] | np.ndarray = (),
    random_seed: int = 0,
) -> Int[np.ndarray, " chosen"]:
    """Choose k rows of a pool whose outcomes to find out, together: no two that would tell the same.

    Parameters
    ----------
    pool
        A prediction of the pool's rows, or draws of its conditional means: (draws, rows) or (draws, rows, classes) of
        probabilities; or of numbers, (draws, rows), if there is a ``variance``.
    k
        How many.
    by
        "bald" or "epig"; None for "epig" if there are targets. Numbers are chosen by BALD, whose batch is the greedy
        maximum of the determinant.
    targets
        The rows one wants to predict well, as the pool, from the same posterior draws. Some tens are enough.
    name
        The variable, of predictions of several.
    variance
        Noise of numbers, (rows,); taken from a prediction of numbers.
    exclude
        Rows of the pool that must not be chosen, such as those already known.
    random_seed
        Of the sampling of unseen outcomes.

    Returns
    -------
    ndarray
        Row numbers, the most valuable first.
    """
    from_numbers = variance is not None
    if isinstance(pool, AnyPrediction) and variance is None:
        variance, from_numbers = _noise_of(pool, name)
    draws = mean_draws(pool, name)
    by = ("bald" if targets is None else "epig") if by is None else by
    if by not in ("bald", "epig") or (by == "epig" and targets is None):
        raise OptionError(f"by must be 'bald', or 'epig' with targets; found {by!r}, targets={type(targets).__name__}")
    open_rows = np.ones(draws.shape[1], bool)
    open_rows[np.asarray(exclude, int)] = False
    if not 1 <= k <= open_rows.sum():
        raise OptionError(f"k must lie between 1 and the {open_rows.sum()} rows that may be chosen; found {k}")
    if from_numbers:
        if by == "epig":
            raise OptionError("batches of numbers are chosen by 'bald'; epig_of_numbers scores single rows")
        return _suggest_numbers(draws, np.asarray(variance, np.float64), k, open_rows)
    p = as_classes(draws, leading=1)
    if by == "epig":
        p, t = _matched(draws, mean_draws(targets, name))
        gain = lambda rows, weights, probability: _information_about(p[:, rows], t, weights, probability)
    else:
        gain = lambda rows, weights, probability: _information(p[:, rows], weights, probability)
    rng = np.random.default_rng(np.random.SeedSequence([random_seed, 3]))
    weights, probability = np.full((1, len(p)), 1 / len(p)), np.ones(1)
    chosen: list[int] = []
    for number in range(k):
        rows = np.flatnonzero(open_rows)
        chosen.append(int(rows[np.argmax(gain(rows, weights, probability))]))
        open_rows[chosen[-1]] = False
        if number + 1 < k:
            weights, probability = _with_outcomes(p, chosen, weights, probability, rng)
    return np.asarray(chosen)


def _noise_of(pool: AnyPrediction, name: str | None) -> tuple[np.ndarray | None, bool]:
    name = one_name(pool, name)
    numbers = pool.units.get(name) == "variance"
    return (pool.aleatoric[name], True) if numbers else (None, False)


def _matched(pool: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, t = as_classes(pool, leading=1), as_classes(targets, leading=1)
    if len(p) != len(t):
        raise DataError(f"pool and targets must come from the same posterior draws; found {len(p)} and {len(t)} draws")
    return p, t


def _entropy(p: np.ndarray) -> np.ndarray:
    """Over the last axis, in nats."""
    return _terms(p).sum(axis=-1)


def _terms(p: np.ndarray) -> np.ndarray:
    """-p log p."""
    from scipy.special import entr  # a tenth of a second to import

    return entr(p)


def _information(p: np.ndarray, weights: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """I(y; z | b) of every row: weights (configurations, draws) are p(z | b), probability is that of each b."""
    draws, rows, classes = p.shape
    flat = p.reshape(draws, rows * classes)
    given_outcomes = probability @ _entropy((weights @ flat).reshape(len(weights), rows, classes))
    given_draws = (probability @ weights) @ _entropy(p)
    return np.maximum(given_outcomes - given_draws, 0.0)


def _information_about(p: np.ndarray, t: np.ndarray, weights: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """I(y; y* | b) of every row, on average over the targets."""
    classes, others = p.shape[2], t.shape[2]
    by_class, about_by_class = np.moveaxis(p, 2, 0).copy(), np.moveaxis(t, 2, 0).copy()
    joint = np.empty((classes, others, p.shape[1], t.shape[1]))
    found = np.zeros(p.shape[1])
    for w, chance in zip(weights, probability, strict=True):
        seen = w > w.max() * 1e-9  # after some outcomes most draws carry no weight
        flat, about = by_class[:, seen], about_by_class[:, seen]
        alone, other = w[seen] @ flat, w[seen] @ about
        flat *= w[seen, None]
        # The last class of each is what the others leave: of two classes one product is enough.
        for one in range(classes - 1):
            for two in range(others - 1):
                np.matmul(flat[one].T, about[two], out=joint[one, two])
            joint[one, -1] = alone[one][:, None] - joint[one, :-1].sum(axis=0)
        joint[-1] = other[:, None] - joint[:-1].sum(axis=0)
        both = _terms(np.maximum(joint, 0.0, out=joint)).sum(axis=(0, 1))
        information = _terms(alone).sum(axis=0) + np.mean(_terms(other).sum(axis=0) - both, axis=1)
        found += chance * np.maximum(information, 0.0)
    return found


def _with_outcomes(
    p: np.ndarray, chosen: list[int], weights: np.ndarray, probability: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Configurations of the chosen rows' outcomes: p(z | b) and p(b)."""
    draws, _, classes = p.shape
    if classes ** len(chosen) <= _CONFIGURATIONS:
        joint = probability[:, None, None] * weights[:, None, :] * p[:, chosen[-1]].T[None]
        joint = joint.reshape(-1, draws)
    else:
        sources = rng.integers(draws, size=_CONFIGURATIONS)
        uniform = rng.uniform(size=(_CONFIGURATIONS, len(chosen), 1))
        outcomes = np.sum(uniform > np.cumsum(p[sources][:, chosen], axis=-1)[..., :-1], axis=-1)
        logs = np.zeros((_CONFIGURATIONS, draws))
        for place, row in enumerate(chosen):
            logs += np.log(np.maximum(p[:, row], 1e-300)).T[outcomes[:, place]]
        joint = np.exp(logs - logs.max(axis=1, keepdims=True))
        joint /= joint.sum(axis=1, keepdims=True) * _CONFIGURATIONS
    total = joint.sum(axis=1)
    possible = total > 0
    return joint[possible] / total[possible, None], total[possible] / total.sum()


def _suggest_numbers(draws: np.ndarray, variance: np.ndarray, k: int, open_rows: np.ndarray) -> np.ndarray:
    """Greedy maximum of log det(I + K / noise), by conditioning the covariance of the means on what was chosen."""
    if draws.ndim != 2 or variance.shape != draws.shape[1:] or not np.all(variance > 0):
        raise DataError(f"numbers need draws (draws, rows) and a positive variance (rows,); found {draws.shape}")
    deviations = (draws - draws.mean(axis=0)) / np.sqrt(len(draws))
    chosen: list[int] = []
    for _ in range(k):
        spread = np.sum(deviations**2, axis=0)
        chosen.append(int(np.argmax(np.where(open_rows, spread / variance, -np.inf))))
        open_rows[chosen[-1]] = False
        column = deviations[:, chosen[-1]]
        # The covariance after this outcome, K - k k' / (k_ii + noise), is that of the deviations shrunk along one axis.
        norm = column @ column
        if norm > 0:
            shrink = (1 - np.sqrt(variance[chosen[-1]] / (norm + variance[chosen[-1]]))) / norm
            deviations = deviations - shrink * np.outer(column, column @ deviations)
    return np.asarray(chosen)
