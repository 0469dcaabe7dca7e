"""The second derivatives at a point, taken apart so that neither units nor flat directions matter."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posterion.errors import DegenerateError

_LONGEST_STEP = 10.0
_CURVED = 1e-8
"""Scaled curvature from which a direction has a length of its own: with less, one step would go anywhere."""


def flatness_of(*, double: bool) -> float:
    """Scaled curvature below which rounding cannot be told from none."""
    return 1e-10 if double else 1e-4


def line_search(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    z: Float[np.ndarray, " dim"],
    value: float,
    slope: float,
    step: Float[np.ndarray, " dim"],
    halvings: int,
) -> tuple[Float[np.ndarray, " dim"], float, Float[np.ndarray, " dim"]] | None:
    """Point, value and gradient where the step, halved until then, goes downhill enough (Armijo); None if nowhere.

    ``slope`` is how fast the value changes along the whole step at its beginning, below zero.
    """
    for size in 0.5 ** np.arange(halvings):
        there = z + size * step
        new, gradient = value_and_gradient(there)
        if new < value + 1e-4 * size * slope:
            return there, new, gradient
    return None


@dataclass(frozen=True)
class Curvature:
    """A Hessian taken apart in scaled coordinates, in which its diagonal is one.

    Parameters
    ----------
    scale
        1 / sqrt(|diagonal|): the units of the scaled coordinates.
    values, vectors
        Eigenvalues and eigenvectors of ``scale * H * scale``.
    flatness
        Eigenvalues closer to zero are rounding.
    """

    scale: Float[np.ndarray, " dim"]
    values: Float[np.ndarray, " dim"]
    vectors: Float[np.ndarray, "dim dim"]
    flatness: float

    @classmethod
    def of(cls, hessian: Float[np.ndarray, "dim dim"], flatness: float) -> "Curvature":
        """Of a symmetric matrix.

        Raises
        ------
        DegenerateError
            If an entry is not finite.
        """
        if not np.all(np.isfinite(hessian)):
            raise DegenerateError("the second derivatives of the log density are not finite at the mode")
        diagonal = np.abs(np.diag(hessian))
        scale = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 1.0)
        values, vectors = np.linalg.eigh(hessian * scale * scale[:, None])
        return cls(scale, values, vectors, flatness)

    @property
    def has_negative(self) -> bool:
        """Whether some direction curves the wrong way, beyond rounding."""
        return bool(self.values.size and self.values[0] < -self.flatness)

    def newton_step(
        self, gradient: Float[np.ndarray, " dim"], longest: float = _LONGEST_STEP
    ) -> tuple[Float[np.ndarray, " dim"], float]:
        """The step downhill, and what it would gain in nats were the surface a paraboloid.

        No longer than ``longest`` along any direction, in units of 1 / sqrt(curvature) of that direction, or of the
        entries where it hardly curves. Along a ridge (a regression on raw years) the first are a thousand times longer,
        and in units of the entries it took seventy steps.
        """
        slopes = self.vectors.T @ (self.scale * gradient)
        steepness = np.maximum(np.abs(self.values), self.flatness)
        # A slope that is rounding on a direction that is flat is nothing to follow.
        noise = 1e-13 * np.abs(slopes).max(initial=0.0) + np.finfo(float).tiny
        flat = (np.abs(self.values) <= self.flatness) & (np.abs(slopes) <= np.maximum(noise, 1e-7))
        parts = np.where(flat, 0.0, -slopes / steepness)
        decrement = float(0.5 * np.sum(np.where(flat, 0.0, slopes**2 / steepness)))
        negative = (self.values < -self.flatness) & (np.abs(parts) < 0.1)
        parts = np.where(negative, np.where(slopes > 0, -0.1, 0.1), parts)  # off a saddle
        own = np.sqrt(np.where(self.values > _CURVED, self.values, 1.0))
        length = np.abs(parts * own).max(initial=0.0)
        return self.scale * (self.vectors @ (parts * min(1.0, longest / max(length, 1e-300)))), decrement

    def flat_directions(self) -> list[np.ndarray]:
        """Directions, in scaled coordinates, along which there is no curvature, or one of the wrong sign."""
        return [self.vectors[:, k] for k in np.flatnonzero(self.values <= self.flatness)]

    def covariance_factor(self) -> Float[np.ndarray, "dim dim"]:
        """A matrix A with A Aᵀ the inverse Hessian."""
        return self.scale[:, None] * self.vectors / np.sqrt(self.values)
