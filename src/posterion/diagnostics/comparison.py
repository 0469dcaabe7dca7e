"""An approximation beside a run of MCMC: how far means and spreads are apart, in posterior standard deviations."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    import xarray

_MIXED = 1.05
"""R-hat up to which a short run counts as mixed; runs to be published want 1.01."""


@dataclass(frozen=True, eq=False)
class NutsComparison:
    """The approximation and NUTS, quantity by quantity.

    Parameters
    ----------
    names
        Of the quantities: entries of variables, or predictions of rows for a network.
    mean, sd
        Of the approximation.
    nuts_mean, nuts_sd
        Of NUTS.
    rhat, ess
        Rank-normalised R-hat and bulk effective sample size of NUTS, per quantity; NaN where not computed.
    divergences
        Of NUTS, after its warm-up.
    num_draws
        Of NUTS, all chains.
    seconds, nuts_seconds
        Wall time of the fit and of NUTS, compilation included.
    of
        "variables" or "predictions".
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " quantities"]
    sd: Float[np.ndarray, " quantities"]
    nuts_mean: Float[np.ndarray, " quantities"]
    nuts_sd: Float[np.ndarray, " quantities"]
    rhat: Float[np.ndarray, " quantities"]
    ess: Float[np.ndarray, " quantities"]
    divergences: int
    num_draws: int
    seconds: float
    nuts_seconds: float
    of: str = "variables"

    @property
    def error(self) -> Float[np.ndarray, " quantities"]:
        """Difference of the means, in standard deviations of NUTS, with its sign."""
        return (self.mean - self.nuts_mean) / np.where(self.nuts_sd > 0, self.nuts_sd, 1.0)

    @property
    def ratio(self) -> Float[np.ndarray, " quantities"]:
        """The approximation's standard deviation over that of NUTS; below 1 where it is too narrow."""
        return self.sd / np.where(self.nuts_sd > 0, self.nuts_sd, 1.0)

    @property
    def mixed(self) -> bool:
        """Whether NUTS itself can be believed: R-hat at most 1.05 everywhere and no divergences."""
        worst = np.nanmax(self.rhat) if np.any(np.isfinite(self.rhat)) else np.inf
        return bool(worst <= _MIXED and self.divergences == 0)

    def worst(self, count: int = 5) -> list[int]:
        """Places of the quantities that differ most, by mean or by spread (a factor e counts as 1)."""
        change = np.maximum(np.abs(self.error), np.abs(np.log(np.maximum(self.ratio, 1e-12))))
        return [int(k) for k in np.argsort(-change, kind="stable")[:count]]

    def to_dataset(self) -> "xarray.Dataset":
        """The table as an `xarray.Dataset` along dim ``quantity``; ``.to_dataframe()`` prints well."""
        from xarray import Dataset  # half a second to import

        columns = ("mean", "sd", "nuts_mean", "nuts_sd", "error", "ratio", "rhat", "ess")
        return Dataset(
            {name: ("quantity", getattr(self, name)) for name in columns},
            coords={"quantity": list(self.names)},
            attrs={"divergences": self.divergences, "num_draws": self.num_draws, "of": self.of},
        )

    def __str__(self) -> str:
        error, low, high = np.abs(self.error), float(self.ratio.min()), float(self.ratio.max())
        lines = [
            f"Against NUTS, {len(self.names):,} {self.of}: means off by {np.median(error):.2f} posterior sds in the "
            f"median, {error.max():.2f} at most; sds {low:.2f} to {high:.2f} times those of NUTS.",
        ]
        width = max(len(self.names[k]) for k in self.worst())
        lines += [f"  {'':{width}}      mean    of NUTS  error/sd        sd    of NUTS   ratio"]
        for k in self.worst():
            lines.append(
                f"  {self.names[k]:{width}} {self.mean[k]:>9.4g}  {self.nuts_mean[k]:>9.4g}  {self.error[k]:>+8.2f} "
                f"{self.sd[k]:>9.3g}  {self.nuts_sd[k]:>9.3g}  {self.ratio[k]:>6.2f}"
            )
        rhat = f"R-hat up to {np.nanmax(self.rhat):.2f}, " if np.any(np.isfinite(self.rhat)) else ""
        ess = f"effective draws from {np.nanmin(self.ess):,.0f}, " if np.any(np.isfinite(self.ess)) else ""
        lines.append(
            f"NUTS: {self.num_draws:,} draws, {rhat}{ess}{self.divergences} divergences, {self.nuts_seconds:.1f} s; "
            f"the fit took {self.seconds:.1f} s."
        )
        if not self.mixed:
            lines.append("NUTS has not mixed: take more draws or a longer warm-up before trusting the comparison.")
        return "\n".join(lines)


def mixing(values: Float[np.ndarray, "chains draws quantities"]) -> tuple[np.ndarray, np.ndarray]:
    """R-hat and bulk effective sample size of each quantity."""
    from arviz_stats.base.array import array_stats  # half a second to import

    statistics: Any = array_stats
    with np.errstate(all="ignore"):
        rhat = [float(statistics.rhat(values[..., k])) for k in range(values.shape[-1])]
        ess = [float(statistics.ess(values[..., k])) for k in range(values.shape[-1])]
    return np.array(rhat), np.array(ess)
