"""What drives a prediction, as pictures: importances of inputs, and how the prediction follows one of them."""

from collections.abc import Sequence

import numpy as np
import xarray
from matplotlib.axes import Axes

from posterion.plots.style import CLASS_COLOURS, INK, MUTED, axes_for, look

__all__ = ["plot_dependence", "plot_importance"]


def plot_importance(table: xarray.Dataset, *, most: int = 12, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how much the log score falls when an input is shuffled, largest first, with 95 % intervals.

    Parameters
    ----------
    table
        As `posterion.decisions.permutation_importance` gives it.
    most
        Inputs to show.
    title
        None for what the numbers are.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    table = table.sortby("importance", ascending=False).isel(column=slice(0, most))
    names, place = [str(name) for name in table.column.values], np.arange(table.sizes["column"])[::-1]
    with look():
        ax = axes_for(ax, 5.2, 0.8 + 0.28 * len(names))
        ax.axvline(0, color=MUTED, lw=0.8)
        ax.hlines(place, table.low.values, table.high.values, color=CLASS_COLOURS[0], lw=1.4)
        ax.scatter(table.importance.values, place, s=28, color=CLASS_COLOURS[0], edgecolors="white", zorder=3)
        ax.set_yticks(place, names)
        ax.set_xlabel("fall of the log score when shuffled (nats a row)")
        ax.set_title("What the predictions rest on" if title is None else title)
    return ax


def plot_dependence(
    values: Sequence[float] | Sequence[str] | np.ndarray,
    mean: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    name: str = "",
    outcome: str = "prediction",
    ax: Axes | None = None,
) -> Axes:
    """Draw how the mean prediction follows one input, with a band.

    Parameters
    ----------
    values
        Of the input: numbers for a line, labels for points.
    mean, low, high
        Mean prediction and the ends of the band, one per value.
    name
        Of the input.
    outcome
        What is predicted.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    values = np.asarray(values)
    with look():
        ax = axes_for(ax, 3.2, 2.4)
        if values.dtype.kind in "fiu":
            ax.fill_between(values, low, high, color=CLASS_COLOURS[0], alpha=0.18, lw=0)
            ax.plot(values, mean, color=CLASS_COLOURS[0])
        else:
            place = np.arange(len(values))
            ax.vlines(place, low, high, color=CLASS_COLOURS[0], lw=1.4)
            ax.scatter(place, mean, s=28, color=CLASS_COLOURS[0], edgecolors="white", zorder=3)
            ax.set_xticks(place, [str(v)[:12] for v in values], rotation=35, ha="right")
        ax.set_xlabel(name, color=INK)
        ax.set_ylabel(outcome)
    return ax
