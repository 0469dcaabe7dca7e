"""Pictures of a quantity over a grid of two inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.ticker import MaxNLocator

from posterion.plots.style import INK, PROBABILITY_MAP, UNCERTAINTY_MAP, axes_for, draw_class_points, look, no_frame


def plot_surface(
    first: np.ndarray,
    second: np.ndarray,
    values: np.ndarray,
    *,
    label: str = "",
    title: str = "",
    input_names: Sequence[str] = ("", ""),
    limits: tuple[float, float] | None = None,
    contours: Sequence[float] | int = 4,
    colours: Colormap = UNCERTAINTY_MAP,
    points: tuple[np.ndarray, np.ndarray] | None = None,
    class_names: Sequence[str] | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a quantity over a grid, with labelled contours so that it reads without colour.

    Parameters
    ----------
    first, second
        Grid lines of the two inputs, (columns,) and (rows,).
    values
        The quantity, shaped (rows, columns).
    label
        Of the quantity, with its unit.
    title
        Of the picture.
    input_names
        Of the two inputs.
    limits
        Of the colours; None for zero, or the least value if that is negative, to the greatest.
    contours
        Their values, or about how many.
    colours
        The colour map.
    points
        Inputs (rows, 2) and labels of data to draw on top.
    class_names
        For a legend of the data; None for none.
    colorbar
        Whether to draw a scale of the colours.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    first, second, values = np.asarray(first), np.asarray(second), np.asarray(values)
    low, high = (min(0.0, float(values.min())), float(values.max())) if limits is None else limits
    with look():
        ax = axes_for(ax, 5.4, 4.6)
        mesh = ax.pcolormesh(
            first, second, values, cmap=colours, vmin=low, vmax=high, shading="gouraud", rasterized=True, zorder=0
        )
        levels = _round_levels(low, high, contours) if isinstance(contours, int) else contours
        levels = [level for level in levels if values.min() < level < values.max()]
        if levels:
            drawn = ax.contour(first, second, values, levels=levels, colors=INK, linewidths=0.6, alpha=0.75, zorder=1)
            ax.clabel(drawn, fontsize=7, fmt=lambda v: f"{v:.3g}", inline_spacing=2)
        if points is not None:
            inputs, labels = points
            draw_class_points(ax, np.asarray(inputs), np.asarray(labels), class_names, size=10, weight="light")
        ax.set(xlabel=input_names[0], ylabel=input_names[1], title=title)
        ax.set(xlim=(first.min(), first.max()), ylim=(second.min(), second.max()))
        ax.set_aspect("equal" if _alike(first, second) else "auto")
        no_frame(ax)
        if points is not None and class_names is not None:
            ax.legend(loc="lower left", handletextpad=0.2, frameon=True, framealpha=0.85, edgecolor="none")
        if colorbar:
            bar = ax.figure.colorbar(mesh, ax=ax, shrink=0.82, aspect=24, pad=0.025)
            bar.set_label(label)
            bar.outline.set_visible(False)  # type: ignore[operator]
    return ax


def plot_probability(
    first: np.ndarray, second: np.ndarray, probability: np.ndarray, *, ax: Axes | None = None, **options: Any
) -> Axes:
    """Draw a probability over a grid: colours of the two classes, white and a thick contour at one half.

    Parameters
    ----------
    first, second
        Grid lines of the two inputs, (columns,) and (rows,).
    probability
        Shaped (rows, columns).
    ax
        Where to draw; None for a new figure.
    **options
        As for `plot_surface`.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    options = {"limits": (0.0, 1.0), "contours": (0.05, 0.25, 0.75, 0.95), "colours": PROBABILITY_MAP} | options
    ax = plot_surface(first, second, probability, ax=ax, **options)
    probability = np.asarray(probability)
    if probability.min() < 0.5 < probability.max():
        with look():
            half = ax.contour(first, second, probability, levels=[0.5], colors=INK, linewidths=1.8, zorder=2)
            ax.clabel(half, fontsize=8, fmt="0.5", inline_spacing=2)
    return ax


def _round_levels(low: float, high: float, number: int) -> list[float]:
    return [float(v) for v in MaxNLocator(number + 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the two inputs run over ranges alike enough to be drawn to the same scale."""
    ratio = np.ptp(first) / np.ptp(second)
    return bool(0.5 <= ratio <= 2.0)
