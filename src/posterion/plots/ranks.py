"""Picture of simulation-based calibration: how the ranks' distribution departs from the uniform one."""

from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes

from posterion.plots.style import CLASS_COLOURS, FAINT, MUTED, axes_for, look


@runtime_checkable
class RankTable(Protocol):
    """What `posterion.calibrate` gives."""

    names: tuple[str, ...]

    @property
    def positions(self) -> np.ndarray:
        """Ranks as numbers between 0 and 1."""
        ...

    @property
    def p_values(self) -> np.ndarray:
        """Per quantity."""
        ...


def plot_ranks(table: RankTable, *, most: int = 6, ax: Axes | None = None) -> Axes:
    """Draw the empirical distribution of the ranks minus the uniform one, with a band that holds 95 % of such curves.

    A curve that leaves the band is not calibrated: above on the left and below on the right is too narrow.

    Parameters
    ----------
    table
        From `posterion.calibrate`.
    most
        Quantities drawn in colour, those of the smallest p-values; all others are faint.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    positions = np.asarray(table.positions)
    repetitions, quantities = positions.shape
    worst = sorted(np.argsort(table.p_values, kind="stable")[:most])  # in the order of the model, as are their colours
    grid = np.linspace(0, 1, 201)
    root = np.sqrt(repetitions)
    band = float(1.358 / (root + 0.12 + 0.11 / root))  # 95 % quantile of Kolmogorov's statistic, by Stephens (1970)
    with look():
        ax = axes_for(ax, 5.2, 3.8)
        ax.axhspan(-band, band, color=FAINT, alpha=0.35, lw=0, label="95 % of calibrated ones")
        ax.axhline(0.0, color=MUTED, lw=0.8)
        for k in range(quantities):
            curve = np.searchsorted(np.sort(positions[:, k]), grid, side="right") / repetitions - grid
            if k in worst:
                place = worst.index(k)
                style = ("-", "--", "-.", ":")[place // len(CLASS_COLOURS) % 4]
                ax.plot(grid, curve, style, color=CLASS_COLOURS[place % len(CLASS_COLOURS)], label=table.names[k])
            else:
                ax.plot(grid, curve, color=FAINT, lw=0.7, zorder=1)
        ax.legend(loc="upper right")
        ax.set(xlim=(0, 1), xlabel="position of the truth among the draws", ylabel="share below, minus uniform")
        ax.set_title(f"Simulation-based calibration, {repetitions} repetitions")
    return ax
