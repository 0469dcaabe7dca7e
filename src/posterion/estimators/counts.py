"""What is predicted of a count: a mixture of Poisson distributions whose log rates are normally distributed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

NODES = 24


@dataclass(frozen=True)
class CountPrediction:
    """Poisson distributions with log-normal rates, for each member and row.

    Parameters
    ----------
    weights
        Of the members; they add up to one.
    means, variances
        Of the log rates, (members, rows).
    """

    weights: Float[np.ndarray, " members"]
    means: Float[np.ndarray, "members rows"]
    variances: Float[np.ndarray, "members rows"]

    def mean(self) -> Float[np.ndarray, " rows"]:
        return self.weights @ self._rates()

    def aleatoric_variance(self) -> Float[np.ndarray, " rows"]:
        return self.mean()  # of a Poisson distribution, averaged over its rate

    def epistemic_variance(self) -> Float[np.ndarray, " rows"]:
        rates = self._rates()
        return self.weights @ (rates**2 * np.expm1(self.variances) + (rates - self.mean()) ** 2)

    def std(self) -> Float[np.ndarray, " rows"]:
        return np.sqrt(self.aleatoric_variance() + self.epistemic_variance())

    def log_density(self, y: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Log probability; minus infinity where ``y`` is no count."""
        rates, weights = self._nodes()
        log = special.xlogy(y, rates) - rates - special.gammaln(y + 1)
        value = np.asarray(special.logsumexp(log, b=weights, axis=(0, 1)))
        return np.where((y >= 0) & (y == np.floor(y)), value, -np.inf)

    def cumulative(self, y: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        rates, weights = self._nodes()
        inside = np.where(y >= 0, special.pdtr(np.maximum(np.floor(y), 0), rates), 0.0)
        return (weights * inside).sum(axis=(0, 1))

    def quantile(self, level: float) -> Float[np.ndarray, " rows"]:
        """The smallest count whose cumulative probability reaches ``level``, by bisection."""
        low = np.full(self.means.shape[1], -1.0)
        high = np.ceil(self._nodes()[0].max(axis=(0, 1)) * 2 + 20)
        while np.any(too_low := self.cumulative(high) < level):
            high = np.where(too_low, 2 * high, high)
        while np.any(high - low > 1):
            middle = np.floor(0.5 * (low + high))
            reached = self.cumulative(middle) >= level
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        return high

    def sample(self, rng: np.random.Generator, draws: int) -> Float[np.ndarray, "rows draws"]:
        rows = self.means.shape[1]
        member, row = rng.choice(len(self.weights), p=self.weights, size=(rows, draws)), np.arange(rows)[:, None]
        log_rate = rng.normal(self.means[member, row], np.sqrt(self.variances)[member, row])
        return rng.poisson(np.exp(np.minimum(log_rate, 40))).astype(float)

    def _rates(self) -> Float[np.ndarray, "members rows"]:
        return np.exp(np.minimum(self.means + 0.5 * self.variances, 100))

    def _nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates (members, nodes, rows) and their weights (members, nodes, 1)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        log = self.means[:, None, :] + np.sqrt(self.variances)[:, None, :] * nodes[:, None]
        return np.exp(np.minimum(log, 100)), (self.weights[:, None] * (weights / weights.sum()))[:, :, None]
