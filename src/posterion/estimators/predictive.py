r"""What is predicted of a numeric outcome: for each row a mixture of Student-t distributions, one for each member.

Member $k$ says $y \sim t_{\nu_k}(f_k, \; s_k^2 + v_k)$ with its location $f_k$, noise $s_k^2$ and the variance $v_k$ of
its function. With a conjugate linear model this is exact; for networks it means that noise and function share what is
not known of their scale. The variance splits into *aleatoric*, what would remain if the function were known, and
*epistemic*: each member's own doubt and the members' disagreement.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

from posterion.estimators.likelihoods import noise_log_density
from posterion.estimators.roots import increasing_roots

LARGEST_FREEDOM = 1e6


@dataclass(frozen=True)
class NumericPrediction:
    """Mixtures of location-scale Student-t distributions, one for each row.

    Parameters
    ----------
    weights
        Of the members; they add up to one.
    locations
        (members, rows).
    noise
        Squared scale of the noise, (members, rows) or (members, 1).
    function
        Variance of the function, (members, rows).
    freedoms
        Degrees of freedom of each member; infinite means Gaussian.
    """

    weights: Float[np.ndarray, " members"]
    locations: Float[np.ndarray, "members rows"]
    noise: Float[np.ndarray, "members _"]
    function: Float[np.ndarray, "members rows"]
    freedoms: Float[np.ndarray, " members"]

    def in_units_of(self, offset: float, scale: float) -> "NumericPrediction":
        """The prediction of ``offset + scale * y``."""
        squared = scale**2
        return NumericPrediction(
            self.weights, offset + scale * self.locations, squared * self.noise, squared * self.function, self.freedoms
        )

    def mean(self) -> Float[np.ndarray, " rows"]:
        return self.weights @ self.locations

    def aleatoric_variance(self) -> Float[np.ndarray, " rows"]:
        noise = self._inflation() * np.broadcast_to(self.noise, self.locations.shape)
        return self.weights @ noise

    def epistemic_variance(self) -> Float[np.ndarray, " rows"]:
        return self.weights @ (self._inflation() * self.function + (self.locations - self.mean()) ** 2)

    def std(self) -> Float[np.ndarray, " rows"]:
        return np.sqrt(self.aleatoric_variance() + self.epistemic_variance())

    def log_density(self, y: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        parts = np.stack(
            [
                noise_log_density(y - location, variance, freedom)
                for location, variance, freedom in zip(self.locations, self._variances(), self.freedoms, strict=True)
            ]
        )
        return np.asarray(special.logsumexp(parts, b=self.weights[:, None], axis=0))

    def cumulative(self, y: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        freedoms = np.minimum(self.freedoms, LARGEST_FREEDOM)[:, None]
        return self.weights @ special.stdtr(freedoms, (y - self.locations) / np.sqrt(self._variances()))

    def quantile(self, level: float) -> Float[np.ndarray, " rows"]:
        """By Newton's steps between the members' own quantiles."""
        freedoms = np.minimum(self.freedoms, LARGEST_FREEDOM)[:, None]
        scales = np.sqrt(self._variances())
        constant = special.poch(0.5 * freedoms, 0.5) / np.sqrt(np.pi * freedoms)

        def excess(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (y - self.locations) / scales
            density = constant * np.exp(-0.5 * (freedoms + 1) * np.log1p(z**2 / freedoms)) / scales
            return self.weights @ special.stdtr(freedoms, z) - level, self.weights @ density

        own = self.locations + scales * special.stdtrit(freedoms, level)
        return increasing_roots(excess, own.min(0), own.max(0))

    def sample(self, rng: np.random.Generator, draws: int) -> Float[np.ndarray, "rows draws"]:
        rows = self.locations.shape[1]
        member = rng.choice(len(self.weights), p=self.weights, size=(rows, draws))
        row = np.arange(rows)[:, None]
        noise = rng.standard_t(np.minimum(self.freedoms, LARGEST_FREEDOM)[member])
        return self.locations[member, row] + np.sqrt(self._variances())[member, row] * noise

    def _variances(self) -> Float[np.ndarray, "members rows"]:
        return self.noise + self.function

    def _inflation(self) -> Float[np.ndarray, "members 1"]:
        """Variance of a Student-t distribution over its squared scale."""
        with np.errstate(invalid="ignore"):
            ratio = np.where(np.isinf(self.freedoms), 1.0, self.freedoms / np.maximum(self.freedoms - 2, 1e-3))
        return ratio[:, None]
