"""Picture of data in two inputs, by class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from posterion.plots.style import axes_for, draw_class_points, look


def plot_classes(
    inputs: np.ndarray,
    labels: np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
    input_names: Sequence[str] = ("", ""),
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the rows of two inputs with the mark and the colour of their class.

    Parameters
    ----------
    inputs
        Shaped (rows, 2).
    labels
        0, 1, ... per row.
    class_names
        Of labels 0, 1, ...; the legend adds how many rows there are of each.
    input_names
        Of the two inputs.
    title
        Of the picture.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    labels = np.asarray(labels).astype(int)
    names = [f"class {k}" for k in range(labels.max() + 1)] if class_names is None else list(class_names)
    counted = [f"{name} ({np.sum(labels == k)})" for k, name in enumerate(names)]
    with look():
        ax = axes_for(ax, 5.2, 4.6)
        draw_class_points(ax, np.asarray(inputs), labels, counted, size=20)
        ax.set(xlabel=input_names[0], ylabel=input_names[1], title=title)
        ax.legend(loc="best", handletextpad=0.3)
    return ax
