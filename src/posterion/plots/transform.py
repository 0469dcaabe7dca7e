"""Picture of the probability integral transform: where outcomes fell in their predictive distributions."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from posterion.errors import DataError, OptionError
from posterion.plots.style import CLASS_COLOURS, FAINT, INK, MUTED, axes_for, look


def plot_pit(transform: Any, *, bins: int = 20, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a histogram of probability integral transforms, with the band that holds 95 % of right predictions' bins.

    Flat if all is well; a hump in the middle if predictions are too wide, a bowl if they are too narrow, a slope if
    they are biased.

    Parameters
    ----------
    transform
        As `posterion.decisions.pit` gives it, (rows,).
    bins
        Of equal width.
    title
        None for how many bins are outside the band; by chance it is one in twenty.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.

    Raises
    ------
    DataError
        If the transform is not between 0 and 1.
    OptionError
        For fewer than two bins.
    """
    u = np.asarray(transform, np.float64).ravel()
    if u.size == 0 or not np.all((u >= 0) & (u <= 1)):  # NaN fails both
        raise DataError("a probability integral transform lies between 0 and 1, for at least one row")
    if bins < 2:
        raise OptionError(f"bins must be at least 2; found {bins}")
    count, edges = np.histogram(u, bins=bins, range=(0, 1))
    expected, reach = u.size / bins, 1.96 * float(np.sqrt(u.size * (1 - 1 / bins) / bins))  # of a binomial count
    low, high = max(0.0, expected - reach), expected + reach
    outside = int(np.sum((count < low) | (count > high)))
    with look():
        ax = axes_for(ax, 5.2, 3.8)
        ax.bar(edges[:-1], count, width=1 / bins, align="edge", color=FAINT, edgecolor=MUTED, linewidth=0.5)
        ax.axhspan(low, high, color=CLASS_COLOURS[0], alpha=0.18, lw=0, label="95 % of right ones")
        ax.axhline(expected, color=INK, lw=1.0, ls=(0, (4, 3)))
        ax.set(xlim=(0, 1), ylim=(0, 1.15 * max(float(count.max()), high)))
        ax.set(xlabel="place of the outcome in its predictive distribution", ylabel="rows")
        ax.set_title(f"{outside} of {bins} bins outside the band ({u.size:,} rows)" if title is None else title)
        ax.legend(loc="upper right")
    return ax
