"""Several networks, each a mode of its own with its own covariance, and what rows they have not seen say of them.

Each member leaves out one fold of the rows. On it the best of its iterations is chosen, and on all folds together the
scale of noise and covariance is put right, with the noise's degrees of freedom, or the temperature of the logits: by
maximum of the held-out log density under a weak prior that prefers to change nothing. Rows get their fold by what they
hold, so equal rows are in the same one, and neither their order nor a weight instead of a repetition matters.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from posterion.estimators.classes import Logits
from posterion.estimators.gauss_newton import Mode
from posterion.estimators.kronecker import KroneckerMode
from posterion.estimators.likelihoods import StudentT, noise_log_density
from posterion.estimators.network import Network


@dataclass(frozen=True)
class Member:
    """One network of an ensemble."""

    network: Network
    mode: Mode | KroneckerMode


@dataclass(frozen=True)
class Calibration:
    """What held-out rows say of the members.

    Parameters
    ----------
    noise, spread
        Factors of the squared noise scale and of the functions' covariances.
    freedom
        Degrees of freedom of the noise.
    temperature
        By which logits are divided.
    """

    noise: float = 1.0
    spread: float = 1.0
    freedom: float = np.inf
    temperature: float = 1.0


@dataclass(frozen=True)
class HeldOut:
    """A member's functions on the rows it has not seen."""

    rows: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    noise: float


def folds_of(x: np.ndarray, y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each row, from what it holds."""
    joined = np.ascontiguousarray(np.column_stack([x, y]) + 0.0)  # one sign of zero
    return np.fromiter((zlib.crc32(row.tobytes(), seed) % folds for row in joined), int, len(joined))


def held_out_score(
    network: Network, x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> Callable[[Mode | KroneckerMode], float]:
    """Mean log density of rows under a mode's own predictive distribution."""

    def score(mode: Mode | KroneckerMode) -> float:
        means, covariances = mode.predict(network, x)
        if isinstance(mode.likelihood, StudentT):
            variance = mode.likelihood.variance + covariances[:, 0, 0]
            log = noise_log_density(y - means[:, 0], variance, mode.likelihood.freedom)
        else:
            log = _log_probability(Logits(means, covariances), y)
        return float(weights @ log / weights.sum())

    return score


def calibrate_numeric(held: Sequence[HeldOut], y: np.ndarray, weights: np.ndarray) -> tuple[Calibration, float]:
    """Scales of noise and covariance, and degrees of freedom, from held-out rows; and their score."""
    rows = np.concatenate([h.rows for h in held])
    residual = y[rows] - np.concatenate([h.means[:, 0] for h in held])
    function = np.concatenate([h.covariances[:, 0, 0] for h in held])
    noise = np.concatenate([np.full(len(h.rows), h.noise) for h in held])
    w = weights[rows]

    def loss(p: np.ndarray) -> float:
        variance = noise * np.exp(p[0]) + function * np.exp(p[1])
        prior = 0.5 * p[0] ** 2 + 0.5 * p[1] ** 2 + 0.5 * (p[2] - 2) ** 2 / 4
        return (prior - w @ noise_log_density(residual, variance, 2 + float(np.exp(p[2])))) / w.sum()

    best = _minimum(loss, np.array([0.0, 0.0, 2.0]))
    return Calibration(float(np.exp(best[0])), float(np.exp(best[1])), float(2 + np.exp(best[2]))), -loss(best)


def calibrate_classes(held: Sequence[HeldOut], y: np.ndarray, weights: np.ndarray) -> tuple[Calibration, float]:
    """Temperature of the logits, and the scale of their covariance, from held-out rows; and their score."""
    rows = np.concatenate([h.rows for h in held])
    logits = Logits(np.concatenate([h.means for h in held]), np.concatenate([h.covariances for h in held]))
    most = max(MOST_LOGITS // logits.means.shape[1], 200)
    if len(rows) > most:
        some = np.linspace(0, len(rows) - 1, most).astype(int)  # of every member
        rows, logits = rows[some], Logits(logits.means[some], logits.covariances[some])
    w = weights[rows]

    def loss(p: np.ndarray) -> float:
        scaled = logits.scaled(float(np.exp(p[0])), float(np.exp(p[1])))
        prior = 0.5 * p[0] ** 2 / 0.25 + 0.5 * p[1] ** 2
        return (prior - w @ _log_probability(scaled, y[rows])) / w.sum()

    best = _minimum(loss, np.zeros(2))
    return Calibration(temperature=float(np.exp(best[0])), spread=float(np.exp(best[1]))), -loss(best)


MOST_LOGITS = 12_000
"""Held-out rows times classes that are looked at: two numbers do not need more."""


def _minimum(loss: Callable[[Any], float], start: np.ndarray) -> np.ndarray:
    options = {"maxiter": 50 * len(start), "xatol": 1e-2, "fatol": 1e-5}
    return np.clip(optimize.minimize(loss, start, method="Nelder-Mead", options=options).x, -8, 8)


def _log_probability(logits: Logits, y: np.ndarray) -> np.ndarray:
    p, _ = logits.expectations()
    return np.log(np.maximum(p[np.arange(len(y)), y.astype(int)], 1e-12))
