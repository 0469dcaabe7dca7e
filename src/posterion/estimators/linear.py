r"""The posterior of linear models, integrated over the scale of the prior.

With Gaussian noise, $w \mid \sigma \sim N(0, \sigma^2 / \lambda)$, a flat prior for the intercept and
$\sigma^2 \sim \text{Inv-Gamma}(a, b)$ are conjugate for each $\lambda$, and $\lambda$ is a sum over a grid. Only
$X^\top X$, $X^\top y$ and $y^\top y$ are kept, so that more rows can come later and the posterior is the same as if all
had come at once.

Logistic and Poisson models get Laplace's approximation at each precision of a grid, weighted by its evidence [1]_. What
came before is then a Gaussian prior with a full precision matrix.

References
----------
.. [1] Rue, Martino and Chopin (2009), Approximate Bayesian inference for latent Gaussian models by using integrated
   nested Laplace approximations. JRSS B 71(2).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

from posterion.estimators.gauss_newton import GaussianPrior, Mode, find_mode
from posterion.estimators.likelihoods import Likelihood
from posterion.estimators.network import Network
from posterion.estimators.predictive import NumericPrediction

RATIOS = np.logspace(-4, 4, 33)
"""Grid of prior precision over noise precision, for standardised columns."""
SHAPE, RATE = 0.5, 0.005
"""Of the inverse gamma prior of the noise variance, in units of the target's variance."""
PRECISIONS = np.logspace(-2, 3, 11)
INTERCEPT_PRECISION = 0.01
NEGLIGIBLE = 1e-3
"""Grid points with less posterior probability than this are dropped."""


@dataclass(frozen=True)
class LinearGaussian:
    """Sums over rows, of inputs with a one appended, and the target."""

    squares: Float[np.ndarray, "inputs inputs"]
    products: Float[np.ndarray, " inputs"]
    target_squares: float
    rows: float

    @classmethod
    def of(cls, inputs: Float[np.ndarray, "rows features"], targets: np.ndarray, weights: np.ndarray):
        """The sums of one set of rows."""
        ones = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
        weighted = ones * weights[:, None]
        return cls(weighted.T @ ones, weighted.T @ targets, float(weights @ targets**2), float(weights.sum()))

    def plus(self, other: "LinearGaussian") -> "LinearGaussian":
        """The sums of both sets of rows."""
        return LinearGaussian(
            self.squares + other.squares,
            self.products + other.products,
            self.target_squares + other.target_squares,
            self.rows + other.rows,
        )

    def posterior(self) -> "LinearPosterior":
        """Integrate the coefficients out at each ratio of the grid."""
        n = self.squares[-1, -1]
        middle, mean = self.squares[-1, :-1] / n, self.products[-1] / n
        squares = self.squares[:-1, :-1] - n * np.outer(middle, middle)  # the flat intercept centres everything
        products = self.products[:-1] - n * middle * mean
        total = self.target_squares - n * mean**2
        values, vectors = np.linalg.eigh(squares)
        values, rotated = np.maximum(values, 0), vectors.T @ products
        shape = SHAPE + 0.5 * max(n - 1, 0)
        shrunk = values[None, :] + RATIOS[:, None]
        rates = RATE + 0.5 * np.maximum(total - (rotated**2 / shrunk).sum(1), 0)
        log = 0.5 * (np.log(RATIOS[:, None]) - np.log(shrunk)).sum(1) - shape * np.log(rates)
        log += 0.5 * np.log(RATIOS) - np.log1p(RATIOS)  # half-Cauchy prior of 1 / sqrt(ratio)
        weights = special.softmax(log)
        keep = weights > NEGLIGIBLE
        weights = weights[keep] / weights[keep].sum()
        coefficients = (rotated / shrunk[keep]) @ vectors.T
        return LinearPosterior(
            weights=weights,
            coefficients=coefficients,
            intercepts=mean - coefficients @ middle,
            scales=rates[keep] / shape,
            freedom=2 * shape,
            vectors=vectors,
            inverse_values=1 / shrunk[keep],
            middle=middle,
            rows=float(n),
        )


@dataclass(frozen=True)
class LinearPosterior:
    """A mixture over the grid of multivariate Student-t distributions of the coefficients."""

    weights: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    scales: np.ndarray
    freedom: float
    vectors: np.ndarray
    inverse_values: np.ndarray
    middle: np.ndarray
    rows: float

    def predict(self, inputs: Float[np.ndarray, "rows features"]) -> NumericPrediction:
        """The exact predictive distribution, given the grid."""
        locations = self.coefficients @ inputs.T + self.intercepts[:, None]
        squared = ((inputs - self.middle) @ self.vectors) ** 2
        function = self.scales[:, None] * (self.inverse_values @ squared.T + 1 / self.rows)
        members = len(self.weights)
        noise = np.broadcast_to(self.scales[:, None], (members, 1))
        return NumericPrediction(self.weights, locations, noise, function, np.full(members, self.freedom))

    def covariance(self) -> Float[np.ndarray, "features features"]:
        """Covariance of the coefficients, over the grid as well."""
        inflation = self.freedom / max(self.freedom - 2, 1e-3)
        inside = (self.weights * self.scales) @ self.inverse_values * inflation
        away = self.coefficients - self.weights @ self.coefficients
        return (self.vectors * inside) @ self.vectors.T + (self.weights[:, None] * away).T @ away


@dataclass(frozen=True)
class GridPosterior:
    """Laplace's approximations at each precision of a grid, with their posterior probabilities."""

    weights: np.ndarray
    modes: tuple[Mode, ...]

    @classmethod
    def of(
        cls,
        network: Network,
        likelihood: Likelihood,
        start: np.ndarray,
        inputs: np.ndarray,
        targets: np.ndarray,
        row_weights: np.ndarray,
        *,
        max_iter: int,
        tol: float,
    ) -> tuple["GridPosterior", int]:
        """The posterior given the first rows, and the iterations it took."""
        modes, log, steps = [], [], 0
        weights = start
        for precision in PRECISIONS[::-1]:  # from the simplest on, each started from the one before
            precisions = np.full(len(network.group_sizes), precision)
            precisions[network.output_bias_group] = INTERCEPT_PRECISION
            prior = GaussianPrior(_intercept_only(network, start))
            found = find_mode(
                network,
                likelihood,
                weights,
                inputs,
                targets,
                row_weights,
                max_iter=max_iter,
                tol=tol,
                prior=prior,
                precisions=precisions,
                learn_precisions=False,
            )
            weights, steps = found.last.weights, max(steps, found.steps)
            modes.append(found.last)
            log.append(found.last.log_evidence + 0.5 * np.log(precision) - np.log1p(precision))
        return cls._pruned(np.array(log), modes), steps

    def updated(self, network: Network, inputs: np.ndarray, targets: np.ndarray, row_weights: np.ndarray, **how):
        """The posterior given more rows: each grid point's posterior is its prior."""
        modes, log, steps = [], [], 0
        for weight, mode in zip(self.weights, self.modes, strict=True):
            prior = GaussianPrior(mode.weights, mode.cholesky @ mode.cholesky.T)
            found = find_mode(
                network,
                mode.likelihood,
                mode.weights,
                inputs,
                targets,
                row_weights,
                prior=prior,
                precisions=mode.precisions,
                **how,
            )
            steps = max(steps, found.steps)
            modes.append(found.last)
            log.append(np.log(weight) + found.last.log_evidence)
        return self._pruned(np.array(log), modes), steps

    @classmethod
    def _pruned(cls, log: np.ndarray, modes: list[Mode]) -> "GridPosterior":
        weights = special.softmax(log)
        keep = np.flatnonzero(weights > NEGLIGIBLE)
        return cls(weights[keep] / weights[keep].sum(), tuple(modes[k] for k in keep))

    def mean(self) -> np.ndarray:
        """Mean of all weights."""
        return self.weights @ np.stack([mode.weights for mode in self.modes])


def _intercept_only(network: Network, start: np.ndarray) -> np.ndarray:
    centre = np.zeros(network.size)
    centre[-network.outputs :] = start[-network.outputs :]
    return centre
