r"""What importance weights change: the mean and spread of every variable, before and after.

Draws from the approximation, weighted by Pareto-smoothed ratios (`posterion.diagnostics.psis`), are draws from the
posterior as far as the weights can be trusted. How far a mean moves, in posterior standard deviations, and how much a
spread grows is then the error of the approximation in the units the user reports. A mean-field Gaussian that is too
narrow shows as sds that grow. The error of a corrected mean is that of self-normalised importance sampling,

.. math:: \sqrt{\textstyle\sum_s w_s^2 (x_s - \hat\mu)^2}.

References
----------
.. [1] Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling. JMLR 25(72).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from posterion.diagnostics.psis import ParetoSmoothed, pareto_smooth

if TYPE_CHECKING:
    import xarray


_NEARLY_ALL = 0.99
"""Share of the draws that weighted ones are worth, from which the weights are as good as equal."""


@dataclass(frozen=True, eq=False)
class Corrections:
    """Means and standard deviations with and without importance weights, per entry of every free variable.

    Parameters
    ----------
    names
        Of the entries, on the variables' own scale: ``beta[2]``.
    mean, sd
        Of the approximation.
    corrected_mean, corrected_sd
        Of its draws weighted by smoothed importance ratios.
    error
        Monte Carlo standard errors of ``corrected_mean``.
    error_of_widened
        Of the logarithm of ``widened``, weights and plain draws taken together.
    khat, threshold
        Of these weights; above the threshold the corrections point the right way and are too small.
    effective_draws
        Independent posterior draws that the weighted ones are worth.
    num_draws
        Draws they were made of.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " entries"]
    sd: Float[np.ndarray, " entries"]
    corrected_mean: Float[np.ndarray, " entries"]
    corrected_sd: Float[np.ndarray, " entries"]
    error: Float[np.ndarray, " entries"]
    error_of_widened: Float[np.ndarray, " entries"]
    khat: float
    threshold: float
    effective_draws: float
    num_draws: int

    @property
    def reliable(self) -> bool:
        """Whether k-hat is within its limit, so that the corrected numbers can be reported.

        Or whether the weights hardly differ: what shape their tail has is then of no matter.
        """
        return self.khat <= self.threshold or self.effective_draws >= _NEARLY_ALL * self.num_draws

    @property
    def moved(self) -> Float[np.ndarray, " entries"]:
        """How far each mean moved, in corrected standard deviations, with its sign."""
        spread = np.where(self.corrected_sd > 0, self.corrected_sd, 1.0)
        return (self.corrected_mean - self.mean) / spread

    @property
    def widened(self) -> Float[np.ndarray, " entries"]:
        """Corrected standard deviation over the approximation's; above 1 where that is too narrow."""
        return self.corrected_sd / np.where(self.sd > 0, self.sd, 1.0)

    def worst(self, count: int = 3) -> list[int]:
        """Places of the entries that change most: mean moved, or spread off by a factor (a factor e counts as 1)."""
        with np.errstate(divide="ignore"):
            change = np.maximum(np.abs(self.moved), np.abs(np.log(np.maximum(self.widened, 1e-12))))
        return [int(k) for k in np.argsort(-change, kind="stable")[:count]]

    def sentence(self, entry: int) -> str:
        """One entry in words."""
        return (
            f"{self.names[entry]}: mean {self.mean[entry]:.4g} → {self.corrected_mean[entry]:.4g} "
            f"(moved {self.moved[entry]:+.2f} sd), sd {self.sd[entry]:.3g} → {self.corrected_sd[entry]:.3g}"
        )

    def to_dataset(self) -> "xarray.Dataset":
        """The table as an `xarray.Dataset` along dim ``entry``; ``.to_dataframe()`` prints well."""
        from xarray import Dataset  # half a second to import

        columns = ("mean", "sd", "corrected_mean", "corrected_sd", "error", "moved", "widened")
        return Dataset(
            {name: ("entry", getattr(self, name)) for name in columns},
            coords={"entry": list(self.names)},
            attrs={"khat": self.khat, "threshold": self.threshold, "effective_draws": self.effective_draws},
        )


def correct(values: Mapping[str, np.ndarray], log_weights: Float[np.ndarray, " draws"]) -> Corrections:
    """Weigh draws of named variables by their importance ratios.

    Parameters
    ----------
    values
        Draws by variable, (draws, ...).
    log_weights
        log p(z) - log q(z) at the same draws; a constant may be missing.

    Raises
    ------
    OptionError
        For fewer than 100 draws, or weights that are NaN or +inf.
    """
    smoothed: ParetoSmoothed = pareto_smooth(log_weights)
    flat = np.concatenate([np.asarray(v, np.float64).reshape(len(log_weights), -1) for v in values.values()], axis=1)
    mean, spread = smoothed.moments(flat)
    weights = np.exp(smoothed.log_weights)
    names = [
        name if not v.shape[1:] else f"{name}[{', '.join(map(str, at))}]"
        for name, v in values.items()
        for at in np.ndindex(v.shape[1:])
    ]
    return Corrections(
        names=tuple(names),
        mean=flat.mean(axis=0),
        sd=flat.std(axis=0, ddof=1),
        corrected_mean=mean,
        corrected_sd=spread,
        error=np.sqrt(np.tensordot(weights**2, (flat - mean) ** 2, axes=1)),
        error_of_widened=_error_of_ratio(flat, weights, mean, spread),
        khat=smoothed.khat,
        threshold=smoothed.threshold,
        effective_draws=smoothed.effective_draws,
        num_draws=len(log_weights),
    )


def _error_of_ratio(
    draws: Float[np.ndarray, "draws entries"],
    weights: Float[np.ndarray, " draws"],
    mean: Float[np.ndarray, " entries"],
    spread: Float[np.ndarray, " entries"],
) -> Float[np.ndarray, " entries"]:
    """Of log(weighted sd / plain sd): both are made of the same draws, so the errors of each draw's share are added.

    The share of one draw in a log variance is its squared deviation over the variance, less one, times its weight.
    """
    plain, equal = np.maximum(draws.std(axis=0), 1e-300), 1 / len(draws)
    after = weights[:, None] * (((draws - mean) / np.maximum(spread, 1e-300)) ** 2 - 1)
    before = equal * (((draws - draws.mean(axis=0)) / plain) ** 2 - 1)
    return np.sqrt(np.sum((after - before) ** 2, axis=0)) / 2


def pick(log_weights: Float[np.ndarray, " draws"], count: int, seed: int) -> tuple[np.ndarray, ParetoSmoothed]:
    """Places of ``count`` draws picked by their smoothed importance weights, with replacement, and the weights.

    Systematic resampling: each draw comes up as often as its weight says, to within one.

    Parameters
    ----------
    log_weights
        log p(z) - log q(z) at independent draws from q.
    count
        How many to pick.
    seed
        Of the one uniform number it takes, and of their order.
    """
    smoothed = pareto_smooth(log_weights)
    random = np.random.default_rng(seed)
    cumulative = np.cumsum(np.exp(smoothed.log_weights))
    places = np.searchsorted(cumulative / cumulative[-1], (np.arange(count) + random.random()) / count, side="right")
    return random.permutation(np.minimum(places, len(cumulative) - 1)), smoothed
