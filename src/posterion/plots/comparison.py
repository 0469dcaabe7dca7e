"""Picture of an approximation beside MCMC: errors of means, and ratios of spreads."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes

from posterion.plots.style import CLASS_COLOURS, FAINT, MUTED, look, shown_figure


@runtime_checkable
class ComparisonTable(Protocol):
    """What `Posterior.compare_with_nuts` gives."""

    names: tuple[str, ...]

    @property
    def error(self) -> np.ndarray:
        """Difference of the means in posterior standard deviations."""
        ...

    @property
    def ratio(self) -> np.ndarray:
        """Ratio of the standard deviations."""
        ...

    def worst(self, count: int = 5) -> list[int]:
        """Places of the quantities that differ most."""
        ...


def plot_comparison(table: ComparisonTable, *, most: int = 20, axes: Any = None) -> tuple[Axes, Axes]:
    """Draw the quantities that differ most: how far their means are off, and how wide they are beside MCMC.

    Parameters
    ----------
    table
        From `Posterior.compare_with_nuts`.
    most
        Quantities shown, the worst ones first.
    axes
        Two Matplotlib axes; None for a new figure.

    Returns
    -------
    tuple
        The axes of the errors and of the ratios.
    """
    shown = table.worst(most)
    places = np.arange(len(shown))
    with look():
        if axes is None:
            axes = shown_figure(7.2, 1.2 + 0.22 * len(shown)).subplots(1, 2, sharey=True)
        left, right = axes
        error, ratio = np.asarray(table.error)[shown], np.asarray(table.ratio)[shown]
        left.axvspan(-0.3, 0.3, color=FAINT, alpha=0.35, lw=0)
        left.axvline(0.0, color=MUTED, lw=0.8)
        left.scatter(error, places, s=26, color=CLASS_COLOURS[0], zorder=3)
        left.set(xlabel="error of the mean, in posterior sds", yticks=places, ylim=(len(shown) - 0.5, -0.5))
        left.set_yticklabels([table.names[k] for k in shown])
        reach = max(0.5, 1.15 * float(np.abs(error).max(initial=0.0)))
        left.set_xlim(-reach, reach)
        right.axvspan(1 / 1.05, 1.05, color=FAINT, alpha=0.35, lw=0)
        right.axvline(1.0, color=MUTED, lw=0.8)
        right.scatter(ratio, places, s=26, marker="s", color=CLASS_COLOURS[1], zorder=3)
        right.set_xscale("log")
        low, high = min(0.5, float(ratio.min(initial=1.0)) / 1.2), max(2.0, 1.2 * float(ratio.max(initial=1.0)))
        ticks = [t for t in (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if low <= t <= high]
        right.set(xlim=(low, high), xlabel="sd, over that of MCMC", xticks=ticks)
        right.set_xticklabels([f"{t:g}" for t in ticks])
        right.minorticks_off()
        left.set_title("Means")
        right.set_title("Spreads")
    return left, right
