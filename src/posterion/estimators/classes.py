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

NODES, DRAWS = 16, 32
"""Quadrature nodes for one logit; quasi-random draws for several."""
BLOCK = 4096


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

    def scaled(self, temperature: float, spread: float) -> "Logits":
        """Logits divided by a temperature, their covariances multiplied by ``spread``."""
        scaled = Logits(self.means / temperature, self.covariances * (spread / temperature**2))
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
        draws = means[:, None, :] + _normals(means.shape[1]) @ roots.transpose(0, 2, 1)
        p = special.softmax(draws, axis=2)
        return p.mean(axis=1), special.entr(p).sum(axis=2).mean(axis=1)


@lru_cache
def _hermite() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return nodes, weights / weights.sum()


@lru_cache
def _normals(outputs: int) -> np.ndarray:
    """Fixed quasi-random normals in pairs of both signs: the same rows always get the same probabilities."""
    uniform = qmc.Sobol(outputs, rng=np.random.default_rng(0)).random(DRAWS // 2)
    half = special.ndtri(np.clip(uniform, 1e-6, 1 - 1e-6))
    return np.concatenate([half, -half])
