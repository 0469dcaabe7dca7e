r"""The Gaussian that the posterior's slopes mean, around an approximation.

Where k-hat fails, gradients still tell. At draws z from the approximation, with mean m and covariance L Lᵀ, let
z = m + L u. Least squares of the posterior's scores on u,

.. math:: L^\top \nabla \log p(z) \approx a - B u,

is exact if the posterior is Gaussian, however far the approximation is from it: then the posterior has mean
:math:`m + L B^{-1} a` and covariance :math:`L B^{-1} L^\top`. If q is the posterior, a = 0 and B is the identity. An
eigenvalue of B of 0.01 means that along its direction the posterior is ten times as wide as the draws. This is one
step of score matching [1]_, used to measure and not to fit; for mean-field ADVI at its optimum the covariance is the
linear-response one [2]_.

References
----------
.. [1] Modi, Margossian, Yao, Gower, Blei and Saul (2023), Variational inference with Gaussian score matching. NeurIPS.
.. [2] Giordano, Broderick and Jordan (2018), Covariances, robustness, and variational Bayes. JMLR 19.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LARGEST = 500
"""Dimensions up to which the regression is made: it takes several draws for each."""


@dataclass(frozen=True, eq=False)
class LocalGaussian:
    """The Gaussian posterior that the scores mean, against the approximation, over unconstrained space.

    Parameters
    ----------
    names
        Of the entries of ``z``.
    mean, sd
        Of each entry of ``z``, as the scores say.
    moved
        Approximation's mean to this one, in these standard deviations, per entry.
    widened
        These standard deviations over the approximation's, per entry.
    narrowest
        Smallest eigenvalue of B; the posterior is 1 / sqrt of it times as wide as the draws along its direction.
    direction
        Of the smallest eigenvalue, in the units of ``z``, its largest entry 1 or -1.
    noise
        What scatter around the regression can make of an eigenvalue; near zero for a Gaussian posterior.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " dim"]
    sd: Float[np.ndarray, " dim"]
    moved: Float[np.ndarray, " dim"]
    widened: Float[np.ndarray, " dim"]
    narrowest: float
    direction: Float[np.ndarray, " dim"]
    noise: float

    @property
    def tells(self) -> bool:
        """Whether the scores follow a line well enough for the numbers to mean something."""
        return bool(self.narrowest > 0 and self.noise < 0.1)

    def worst(self, count: int = 3) -> list[int]:
        """Places of the entries that are furthest off, by mean or by spread (a factor e counts as 1)."""
        change = np.maximum(np.abs(self.moved), np.abs(np.log(np.maximum(self.widened, 1e-12))))
        return [int(k) for k in np.argsort(-change, kind="stable")[:count]]

    def sentence(self, entry: int) -> str:
        """One entry in words."""
        mean, sd, moved, widened = (float(x[entry]) for x in (self.mean, self.sd, self.moved, self.widened))
        return (
            f"{self.names[entry]}: mean {mean - moved * sd:.4g} → {mean:.4g} (off by {abs(moved):.2f} sd), "
            f"sd {sd / widened:.3g} → {sd:.3g}"
        )


def local_gaussian(
    z: Float[np.ndarray, "draws dim"], scores: Float[np.ndarray, "draws dim"], names: Sequence[str]
) -> LocalGaussian | None:
    """Regress the posterior's scores on draws of an approximation.

    Parameters
    ----------
    z
        Draws of the approximation, more than four for each dimension.
    scores
        Gradients of log p there.
    names
        Of the entries of ``z``.

    Returns
    -------
    LocalGaussian or None
        None where it cannot be told: too few draws, scores that are not finite, draws that lie in a plane.
    """
    z, scores = np.asarray(z, np.float64), np.asarray(scores, np.float64)
    draws, dim = z.shape
    if draws < 4 * dim + 50 or not (np.all(np.isfinite(z)) and np.all(np.isfinite(scores))):
        return None
    mean = z.mean(axis=0)
    spread = z.std(axis=0)
    if not np.all(spread > 0):
        return None
    try:
        factor = spread[:, None] * np.linalg.cholesky(np.corrcoef(z.T).reshape(dim, dim))
        u = np.linalg.solve(factor, (z - mean).T).T
    except np.linalg.LinAlgError:
        return None
    design = np.concatenate([np.ones((draws, 1)), u], axis=1)
    targets = scores @ factor
    solution, *_ = np.linalg.lstsq(design, targets, rcond=None)
    residual = float(np.sqrt(np.mean((targets - design @ solution) ** 2)))
    slopes = -(solution[1:] + solution[1:].T) / 2
    values, vectors = np.linalg.eigh(slopes)
    direction = factor @ vectors[:, 0]
    direction = direction / np.abs(direction).max()
    noise = float(2.0 * residual * np.sqrt(dim / draws))
    if not values[0] > 0:
        nan = np.full(dim, np.nan)
        return LocalGaussian(tuple(names), nan, nan, nan, nan, float(values[0]), direction, noise)
    image = factor @ (vectors / np.sqrt(values))
    sd = np.sqrt(np.sum(image**2, axis=1))
    shift = factor @ (vectors @ (vectors.T @ solution[0] / values))
    return LocalGaussian(tuple(names), mean + shift, sd, shift / sd, sd / spread, float(values[0]), direction, noise)
