r"""Simulation-based calibration: ranks of true values among posterior draws.

If theta comes from the prior and y from the model given theta, then the rank of theta among draws of the exact
posterior given y is uniform, whatever the model [1]_. An approximation that is too narrow has ranks at both ends, one
that is too wide in the middle, one that is biased at one end.

References
----------
.. [1] Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms with
   simulation-based calibration.
.. [2] Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity and its applications. Statistics
   and Computing 32.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_CLEAR = 0.01
"""Probability, over all quantities together, below which ranks are not called uniform."""


@dataclass(frozen=True, eq=False)
class RankCalibration:
    """Ranks of true values among posterior draws, and what they say.

    Parameters
    ----------
    names
        Of the quantities.
    ranks
        How many of the draws lie below the true value, per repetition.
    num_draws
        Draws that each rank is among.
    failed
        Repetitions whose fit did not end well; they are not in ``ranks``.
    """

    names: tuple[str, ...]
    ranks: Int[np.ndarray, "repetitions quantities"]
    num_draws: int
    failed: int = 0

    @property
    def positions(self) -> Float[np.ndarray, "repetitions quantities"]:
        """Ranks as numbers between 0 and 1; uniform for a calibrated posterior."""
        return (self.ranks + 0.5) / (self.num_draws + 1)

    @property
    def p_values(self) -> Float[np.ndarray, " quantities"]:
        """Of the Kolmogorov-Smirnov test of uniformity, per quantity."""
        from scipy.stats import kstest

        return np.array([kstest(column, "uniform").pvalue for column in self.positions.T])

    @property
    def bias(self) -> Float[np.ndarray, " quantities"]:
        """Mean position minus one half, in its standard errors; positive where the posterior lies too low."""
        return (self.positions.mean(axis=0) - 0.5) * np.sqrt(12 * len(self.ranks))

    @property
    def spread(self) -> Float[np.ndarray, " quantities"]:
        """Standard deviation of the positions over that of a uniform one; above 1 where the posterior is too narrow."""
        return np.sqrt(12 * np.mean((self.positions - 0.5) ** 2, axis=0))

    @property
    def calibrated(self) -> bool:
        """Whether no quantity's ranks are clearly not uniform (p below 0.01, all quantities together)."""
        return bool(self.p_values.min() * len(self.names) >= _CLEAR)

    def __str__(self) -> str:
        p_values, bias, spread = self.p_values, self.bias, self.spread
        verdict = "is" if self.calibrated else "is NOT"
        lines = [f"The method {verdict} calibrated on this model, as far as {len(self.ranks)} repetitions tell."]
        width = max(map(len, self.names))
        for k in np.argsort(p_values, kind="stable")[:5]:
            words = []
            if p_values[k] * len(self.names) < _CLEAR:
                if abs(bias[k]) > 2.5:
                    words.append("too low" if bias[k] > 0 else "too high")
                if spread[k] > 1.1:
                    words.append("too narrow")
                elif spread[k] < 0.9:
                    words.append("too wide")
            said = f"  {' and '.join(words)}" if words else ""
            lines.append(
                f"  {self.names[k]:{width}}  p {p_values[k]:.3f}  bias {bias[k]:+.1f} se  spread {spread[k]:.2f}{said}"
            )
        if self.failed:
            lines.append(f"{self.failed} repetitions were left out: their fits failed.")
        return "\n".join(lines)


def rank(truth: Float[np.ndarray, " quantities"], draws: Float[np.ndarray, "draws quantities"]) -> np.ndarray:
    """How many of the draws lie below the truth, per quantity."""
    return np.sum(draws < truth, axis=0)
