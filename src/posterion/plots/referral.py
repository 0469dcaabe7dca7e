"""Picture of what referring rows to a person buys: the loss among those kept, against the share referred."""

from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from posterion.plots.style import CLASS_COLOURS, FAINT, INK, MUTED, axes_for, look

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))


def plot_referral(
    curve: xarray.Dataset,
    *,
    loss: str = "mean loss of the rows kept",
    title: str | None = None,
    most: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw referral curves, the best possible one, and what referring at random would leave.

    Parameters
    ----------
    curve
        As `posterion.decisions.referral_curve` gives it.
    loss
        What the loss is, for the axis: "error rate of the rows kept".
    title
        None for the best uncertainty, by the area under its curve.
    most
        Largest share referred that is drawn; beyond it few rows are left and curves mean little.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    shown = curve.isel(referred=np.flatnonzero(curve.referred.values <= most))
    share = 100 * shown.referred.values
    with look():
        ax = axes_for(ax, 5.4, 4.2)
        ax.axhline(float(shown.perfect[0]), color=FAINT, lw=1.0, zorder=1)
        ax.annotate("referred at random", (0.995, float(shown.perfect[0])), (0, 3), **_beside_axis())
        ax.fill_between(share, 0, shown.perfect.values, color=FAINT, alpha=0.45, lw=0, label="unavoidable", zorder=0)
        for k, name in enumerate(shown.uncertainty.values):
            one = shown.sel(uncertainty=name)
            colour, dashes = CLASS_COLOURS[k % len(CLASS_COLOURS)], _DASHES[k % len(_DASHES)]
            label = f"{name} (area {one.area.item():.3g})"
            ax.plot(share, one.loss.values, color=colour, ls=dashes, lw=1.6, label=label, zorder=3)
        best = str(shown.uncertainty.values[int(np.argmin(shown.area.values))])
        ax.set(xlabel="rows referred (%)", ylabel=loss, xlim=(0, 100 * most))
        ax.set_ylim(bottom=0)
        ax.set_title(f"Least loss under {best}" if title is None else title)
        ax.legend(loc="best")
    return ax


def plot_coverage(table: xarray.Dataset, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how often central intervals held what came true, against how often they should have.

    Parameters
    ----------
    table
        As `posterion.decisions.coverage` gives it.
    title
        None for the level that is furthest off.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    level, covered = table.level.values, table.covered.values
    with look():
        ax = axes_for(ax, 4.8, 4.4)
        ax.plot([0, 1], [0, 1], color=MUTED, lw=1.0, ls=(0, (4, 3)), label="as promised", zorder=1)
        ax.vlines(level, table.low.values, table.high.values, color=CLASS_COLOURS[0], lw=1.3, zorder=2)
        ax.scatter(level, covered, s=30, color=CLASS_COLOURS[0], edgecolors="white", linewidths=0.8, zorder=3)
        ax.text(0.98, 0.1, "below: too narrow", transform=ax.transAxes, ha="right", fontsize=8, color=INK)
        ax.text(0.02, 0.94, "above: too wide", transform=ax.transAxes, fontsize=8, color=INK)
        worst = int(np.argmax(np.abs(covered - level)))
        held = f"Intervals of {level[worst]:.0%} held {covered[worst]:.0%} of {int(table.rows[worst]):,} rows"
        confidence = f"{table.attrs.get('confidence', 0.95):.0%}"
        ax.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="meant to hold", ylabel=f"held ({confidence} interval)")
        ax.set_title(held if title is None else title)
        ax.legend(loc="lower right")
    return ax


def _beside_axis() -> dict[str, Any]:
    return {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "ha": "right",
        "fontsize": 8,
        "color": MUTED,
    }
