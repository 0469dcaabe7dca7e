"""Several networks, each a mode of its own with its own covariance, and what rows they have not seen say of them.

Each small member leaves out one fold of the rows, large ones all the same. There the best of a member's iterations is
chosen, and on all that was left out the scale of noise and covariance is put right, with the noise's degrees of
freedom, or the temperature of the logits: by maximum of the held-out log density under a weak prior that prefers to
change nothing. A row that several members have left out is predicted by their average, as new rows are. Rows get their
fold by what they hold, so rows with equal inputs are in the same one, and neither their order nor a weight instead of a
repetition matters.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    shift
        Added afterwards to the one logit of two classes.
    """

    noise: float = 1.0
    spread: float = 1.0
    freedom: float = np.inf
    temperature: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class HeldOut:
    """A member's functions on the rows it has not seen."""

    rows: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    noise: float

    def some(self, which: np.ndarray) -> "HeldOut":
        """Of fewer rows."""
        return replace(self, rows=self.rows[which], means=self.means[which], covariances=self.covariances[which])


def groups_of(x: np.ndarray) -> np.ndarray:
    """A number for each row, from 0 on, the same for rows with the same inputs."""
    return np.unique(_checksums(x, 0), return_inverse=True)[1]


def folds_of(x: np.ndarray, y: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each row, from what it holds, the same for all rows of a group.

    If those with one outcome were left out and those with another were not, members would learn from the latter that
    the left-out outcome does not happen.
    """
    least = np.full(groups.max() + 1, np.inf)
    np.minimum.at(least, groups, y)
    return _checksums(np.column_stack([x, least[groups]]), seed) % folds


def _checksums(rows: np.ndarray, seed: int) -> np.ndarray:
    rows = np.ascontiguousarray(rows + 0.0)  # one sign of zero
    return np.fromiter((zlib.crc32(row.tobytes(), seed) for row in rows), int, len(rows))


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
            log = np.log(np.maximum(_probability(Logits(means, covariances), y), 1e-12))
        return float(weights @ log / weights.sum())

    return score


def calibrate_numeric(held: Sequence[HeldOut], y: np.ndarray, weights: np.ndarray) -> tuple[Calibration, float]:
    """Scales of noise and covariance, and degrees of freedom, from held-out rows; and their score."""
    together = _Together.of(held, np.inf)
    y, w, members = y[together.rows], weights[together.rows], together.members
    residual = y[together.place] - np.concatenate([h.means[:, 0] for h in members])
    function = np.concatenate([h.covariances[:, 0, 0] for h in members])
    noise = np.concatenate([np.full(len(h.rows), h.noise) for h in members])

    def loss(p: np.ndarray) -> float:
        variance = noise * np.exp(p[0]) + function * np.exp(p[1])
        prior = 0.5 * p[0] ** 2 + 0.5 * p[1] ** 2 + 0.5 * (p[2] - 2) ** 2 / 4
        density = np.exp(noise_log_density(residual, variance, 2 + float(np.exp(p[2]))))
        return (prior - w @ together.log_mean(density)) / w.sum()

    best = _minimum(loss, np.array([0.0, 0.0, 2.0]))
    return Calibration(float(np.exp(best[0])), float(np.exp(best[1])), float(2 + np.exp(best[2]))), -loss(best)


def calibrate_classes(held: Sequence[HeldOut], y: np.ndarray, weights: np.ndarray) -> tuple[Calibration, float]:
    """Temperature of the logits, and the scale of their covariance, from held-out rows; and their score.

    Where all members have left out the same rows, and many, those have more to say: of the scale of the covariance,
    which may be far from one, and of how often each of two classes is to be expected.
    """
    together = _Together.of(held, MOST_LOGITS // held[0].means.shape[1])
    y, w, members = y[together.rows], weights[together.rows], together.members
    logits = Logits(np.concatenate([h.means for h in members]), np.concatenate([h.covariances for h in members]))

    many = together.shared and len(together.rows) >= MANY_HELD_OUT

    def loss(p: np.ndarray) -> float:
        scaled = logits.scaled(float(np.exp(p[0])), float(np.exp(p[1])))
        prior = 0.5 * p[0] ** 2 / 0.25 + 0.5 * p[1] ** 2 / (9.0 if many else 1.0)
        return (prior - w @ together.log_mean(_probability(scaled, y[together.place]))) / w.sum()

    best = _minimum(loss, np.zeros(2))
    temperature, spread = (float(factor) for factor in np.exp(best))
    binary = logits.means.shape[1] == 1
    shift = _shift(logits, temperature, spread, w[together.place]) if many and binary else 0.0
    return Calibration(temperature=temperature, spread=spread, shift=shift), -loss(best)


def _shift(logits: Logits, temperature: float, spread: float, weights: np.ndarray) -> float:
    """What makes both classes as frequent on average as the modes say, whose biases have been fitted to just that.

    Expectations over wide logits, and a temperature above one, pull all probabilities towards a half: the rarer class
    would be expected too often. Of many classes there is no such direction, and shifts would be mostly noise.
    """
    share = lambda logits: np.average(logits.expectations()[0][:, 1], weights=weights)
    wanted = share(Logits(logits.means, np.zeros_like(logits.covariances)))
    excess = lambda shift: share(logits.scaled(temperature, spread, shift)) - wanted
    if excess(-MOST_SHIFT) >= 0 or excess(MOST_SHIFT) <= 0:  # hardly a row of one class
        return 0.0
    return optimize.root_scalar(excess, bracket=(-MOST_SHIFT, MOST_SHIFT), xtol=1e-3).root


MANY_HELD_OUT = 300
"""Rows that all have left out from which they may move probabilities as a whole."""
MOST_SHIFT = 2.0
MOST_LOGITS = 40_000
"""Held-out rows times classes that are looked at: two numbers do not need more."""


@dataclass(frozen=True)
class _Together:
    """Held-out rows of all members. A row that several have left out is predicted by their average.

    Parameters
    ----------
    members
        What they say of ``rows``.
    rows
        All, each once.
    place
        Where the rows of the members, one after another, are among them.
    """

    members: list[HeldOut]
    rows: np.ndarray
    place: np.ndarray

    @property
    def shared(self) -> bool:
        """Whether every member has left out every row."""
        return len(self.place) == len(self.members) * len(self.rows)

    @classmethod
    def of(cls, held: Sequence[HeldOut], most: float | int) -> "_Together":
        """``most`` is how many rows of all members are wanted, more or less."""
        rows, place = np.unique(np.concatenate([h.rows for h in held]), return_inverse=True)
        most = max(most * len(rows) / len(place), 200)
        if len(rows) <= most:
            return cls(list(held), rows, place)
        rows = rows[np.linspace(0, len(rows) - 1, int(most)).astype(int)]
        members = [h.some(np.isin(h.rows, rows)) for h in held]
        return cls(members, rows, np.searchsorted(rows, np.concatenate([h.rows for h in members])))

    def log_mean(self, density: np.ndarray) -> np.ndarray:
        """Logarithm of each row's average density."""
        mean = np.bincount(self.place, density, len(self.rows)) / np.bincount(self.place, minlength=len(self.rows))
        return np.log(np.maximum(mean, 1e-300))


def _minimum(loss: Callable[[Any], float], start: np.ndarray) -> np.ndarray:
    # Nelder and Mead's own first simplex around zero is smaller than the tolerance: it would end where it began.
    simplex = start + np.vstack([np.zeros(len(start)), np.diag(np.full(len(start), FIRST_STEP))])
    options = {"maxiter": 50 * len(start), "xatol": 1e-2, "fatol": 1e-5, "initial_simplex": simplex}
    return np.clip(optimize.minimize(loss, start, method="Nelder-Mead", options=options).x, -8, 8)


FIRST_STEP = 0.5
"""Of logarithms of factors."""


def _probability(logits: Logits, y: np.ndarray) -> np.ndarray:
    p, _ = logits.expectations()
    return p[np.arange(len(y)), y.astype(int)]
