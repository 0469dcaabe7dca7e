"""What is predicted of a class: probabilities averaged over what the function may be, and what is not known of them.

Members give normal distributions of their logits. A probability is the expectation over them and over the members; the
entropy of that expectation is the *total* uncertainty, the expected entropy is *aleatoric*, and the difference, the
mutual information between the class and the function, is *epistemic*.

References
----------
.. [1] Houlsby, Huszár, Ghahramani and Lengyel (2011), Bayesian active learning for classification. arXiv:1112.5745.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.stats import qmc

from posterion.estimators.roots import increasing_roots

NODES, DRAWS = 16, 32
"""Quadrature nodes for one logit; quasi-random draws for several."""
INTERVAL_DRAWS = 128
"""Draws of each member behind the quantiles of several classes' probabilities: tails need more of them than means."""
BLOCK = 4096
MOST_NUMBERS = 4_000_000
"""Numbers that the draws of a block of rows may be."""


@dataclass(frozen=True)
class Logits:
    """Normal distributions of the logits: one column for two classes, else one for each class.

    Parameters
    ----------
    means
        (rows, outputs).
    covariances
        (rows, outputs, outputs).
    """

    means: Float[np.ndarray, "rows outputs"]
    covariances: Float[np.ndarray, "rows outputs outputs"]

    @cached_property
    def roots(self) -> Float[np.ndarray, "rows outputs outputs"]:
        """A square root of each covariance."""
        if self.means.shape[1] == 1:
            return np.sqrt(np.maximum(self.covariances, 0))
        values, vectors = np.linalg.eigh(self.covariances)
        return vectors * np.sqrt(np.maximum(values, 0))[:, None, :]

    def scaled(self, temperature: float, spread: float, shift: float = 0.0) -> "Logits":
        """Logits divided by a temperature and shifted, their covariances multiplied by ``spread``."""
        scaled = Logits(self.means / temperature + shift, self.covariances * (spread / temperature**2))
        vars(scaled)["roots"] = self.roots * (np.sqrt(spread) / temperature)  # not decomposed again
        return scaled

    def expectations(self) -> tuple[Float[np.ndarray, "rows classes"], Float[np.ndarray, " rows"]]:
        """Expected probabilities, and the expected entropy."""
        blocks = range(0, max(len(self.means), 1), BLOCK)
        parts = [self._block(slice(begin, begin + BLOCK)) for begin in blocks]
        return np.concatenate([p for p, _ in parts]), np.concatenate([h for _, h in parts])

    def _block(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        means, roots = self.means[rows], self.roots[rows]
        if means.shape[1] == 1:
            nodes, weights = _hermite()
            one = special.expit(means + roots[:, :, 0] * nodes)
            entropies = special.entr(one) + special.entr(1 - one)
            expected = one @ weights
            return np.stack([1 - expected, expected], axis=1), entropies @ weights
        draws = means[:, None, :] + _normals(means.shape[1], DRAWS) @ roots.transpose(0, 2, 1)
        p = special.softmax(draws, axis=2)
        return p.mean(axis=1), special.entr(p).sum(axis=2).mean(axis=1)


def probability_intervals(
    weights: Float[np.ndarray, " members"], members: list[Logits], levels: tuple[float, float]
) -> Float[np.ndarray, "rows classes 2"]:
    """Quantiles of each class's probability over members and their functions.

    Of two classes they are exact, quantiles of a mixture of normal distributions through the logistic function; of
    more they are those of fixed quasi-random draws.

    Parameters
    ----------
    weights, members
        As of `Logits`, one for each member.
    levels
        The lower and the upper one.
    """
    if members[0].means.shape[1] == 1:
        low, high = special.expit(_mixture_quantiles(weights, members, levels))
        return np.stack([np.stack([1 - high, 1 - low], axis=1), np.stack([low, high], axis=1)], axis=1)
    rows, classes = members[0].means.shape
    step = max(1, MOST_NUMBERS // (INTERVAL_DRAWS * len(members) * classes))
    parts = [_drawn_quantiles(weights, members, levels, slice(at, at + step)) for at in range(0, max(rows, 1), step)]
    return np.concatenate(parts)


def _mixture_quantiles(weights: np.ndarray, members: list[Logits], levels: tuple[float, float]) -> np.ndarray:
    """Of one logit, (levels, rows), by Newton's steps between the members' own quantiles."""
    means = np.stack([logits.means[:, 0] for logits in members])
    scales = np.maximum(np.stack([logits.roots[:, 0, 0] for logits in members]), 1e-12)
    shares, wanted = (weights / weights.sum())[:, None], np.asarray(levels)[:, None]

    def excess(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (x[:, None] - means) / scales
        return (shares * special.ndtr(z)).sum(axis=1) - wanted, (shares * _normal(z) / scales).sum(axis=1)

    own = means + scales * special.ndtri(wanted)[:, None]
    return increasing_roots(excess, own.min(axis=1), own.max(axis=1))


def _normal(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def _drawn_quantiles(
    weights: np.ndarray, members: list[Logits], levels: tuple[float, float], rows: slice
) -> np.ndarray:
    """Of several classes' probabilities, (rows, classes, levels), from draws that weigh as much as their member."""
    draws = [
        logits.means[rows, None, :]
        + _normals(logits.means.shape[1], INTERVAL_DRAWS) @ logits.roots[rows].transpose(0, 2, 1)
        for logits in members
    ]
    p = special.softmax(np.concatenate(draws, axis=1), axis=2)
    order = np.argsort(p, axis=1)
    below = np.cumsum(np.repeat(weights / INTERVAL_DRAWS, INTERVAL_DRAWS)[order], axis=1)
    p = np.take_along_axis(p, order, axis=1)
    at = [np.argmax(below >= level * below[:, -1:] * (1 - 1e-12), axis=1) for level in levels]
    return np.stack([np.take_along_axis(p, one[:, None], axis=1)[:, 0] for one in at], axis=-1)


@lru_cache
def _hermite() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return nodes, weights / weights.sum()


@lru_cache
def _normals(outputs: int, draws: int) -> np.ndarray:
    """Fixed quasi-random normals in pairs of both signs: the same rows always get the same probabilities."""
    uniform = qmc.Sobol(outputs, rng=np.random.default_rng(0)).random(draws // 2)
    half = special.ndtri(np.clip(uniform, 1e-6, 1 - 1e-6))
    return np.concatenate([half, -half])
