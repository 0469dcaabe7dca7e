r"""Likelihoods of rows as functions of the network's outputs: the log density, its slope, and its expected curvature.

The curvature is the Fisher information, in a factored form: rows of `whitened` such that
$\sum_k B_{ik}^\top B_{ik} = J_i^\top \Lambda_i J_i$ with the Jacobian $J_i$ of row $i$. With it Gauss-Newton steps,
Laplace's covariance and Kronecker factors are the same code for every likelihood.

References
----------
.. [1] Lange, Little and Taylor (1989), Robust statistical modeling using the t distribution. JASA 84.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy import special

Array = np.ndarray


@runtime_checkable
class Likelihood(Protocol):
    """What the fits need to know of an outcome; ``f`` is (rows, outputs) and ``y`` as `targets` prepared it."""

    def log_density(self, f: Array, y: Array) -> Array:
        """Log density of each row."""
        ...

    def slope(self, f: Array, y: Array) -> Array:
        """Derivative of the log density with respect to ``f``."""
        ...

    def whitened(self, f: Array, slopes: Array) -> Array:
        """``slopes`` (rows, outputs, k) times the square root of the expected curvature."""
        ...


@dataclass(frozen=True)
class StudentT:
    """A numeric outcome with Student-t noise around the only output; Gaussian noise for infinite ``freedom``."""

    variance: float = 0.1
    freedom: float = np.inf

    def log_density(self, f: Array, y: Array) -> Array:
        return noise_log_density(y - f[:, 0], self.variance, self.freedom)

    def slope(self, f: Array, y: Array) -> Array:
        residual = y - f[:, 0]
        return (self.row_weights(residual) * residual / self.variance)[:, None]

    def whitened(self, f: Array, slopes: Array) -> Array:
        shrink = 1.0 if np.isinf(self.freedom) else (self.freedom + 1) / (self.freedom + 3)
        return slopes * np.sqrt(shrink / self.variance)

    def row_weights(self, residual: Array) -> Array:
        """How much each row counts in a weighted least squares step; 1 for Gaussian noise."""
        if np.isinf(self.freedom):
            return np.ones_like(residual)
        return (self.freedom + 1) / (self.freedom + residual**2 / self.variance)

    def updated(self, f: Array, y: Array, weights: Array, effective: float) -> "StudentT":
        """The noise that the evidence asks for, given the number of weights that the data determine."""
        residual, total = y - f[:, 0], weights.sum()
        squares = (weights * self.row_weights(residual) * residual**2).sum()
        return replace(self, variance=float(max(squares / max(total - effective, 0.1 * total), 1e-6)))


@dataclass(frozen=True)
class Bernoulli:
    """Two classes, 0 or 1, by the logit of class 1."""

    def log_density(self, f: Array, y: Array) -> Array:
        return y * f[:, 0] - np.logaddexp(0, f[:, 0])

    def slope(self, f: Array, y: Array) -> Array:
        return (y - special.expit(f[:, 0]))[:, None]

    def whitened(self, f: Array, slopes: Array) -> Array:
        p = special.expit(f)
        return slopes * np.sqrt(p * (1 - p))[:, :, None]


@dataclass(frozen=True)
class Categorical:
    """One of several classes, by its number, with one logit for each class."""

    def log_density(self, f: Array, y: Array) -> Array:
        return np.take_along_axis(special.log_softmax(f, axis=1), y[:, None].astype(int), axis=1)[:, 0]

    def slope(self, f: Array, y: Array) -> Array:
        slope = -special.softmax(f, axis=1)
        slope[np.arange(len(y)), y.astype(int)] += 1
        return slope

    def whitened(self, f: Array, slopes: Array) -> Array:
        p = special.softmax(f, axis=1)[:, :, None]
        return np.sqrt(p) * (slopes - (p * slopes).sum(1, keepdims=True))


@dataclass(frozen=True)
class Poisson:
    """A count, by the logarithm of its rate."""

    def log_density(self, f: Array, y: Array) -> Array:
        return y * f[:, 0] - np.exp(np.minimum(f[:, 0], 50)) - special.gammaln(y + 1)

    def slope(self, f: Array, y: Array) -> Array:
        return (y - np.exp(np.minimum(f[:, 0], 50)))[:, None]

    def whitened(self, f: Array, slopes: Array) -> Array:
        return slopes * np.exp(0.5 * np.minimum(f, 50))[:, :, None]


def noise_log_density(residual: Array, variance: Array | float, freedom: float) -> Float[np.ndarray, "..."]:
    """Log density of Student-t noise, or of Gaussian noise if ``freedom`` is infinite."""
    if np.isinf(freedom):
        return -0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)
    constant = special.gammaln((freedom + 1) / 2) - special.gammaln(freedom / 2)
    return (
        constant
        - 0.5 * np.log(freedom * np.pi * variance)
        - 0.5 * (freedom + 1) * np.log1p(residual**2 / variance / freedom)
    )
