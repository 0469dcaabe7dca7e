"""Picture of predicted labels against what came true, with the mistakes marked."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from posterion.plots.style import INK, axes_for, draw_class_points, look


def plot_labels(
    inputs: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
    input_names: Sequence[str] = ("", ""),
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw rows with the mark and the colour of the label predicted for them, and a ring around every mistake.

    Parameters
    ----------
    inputs
        Shaped (rows, 2).
    labels, predicted
        What came true and what was predicted: 0, 1, ... per row.
    class_names
        Of labels 0, 1, ...
    input_names
        Of the two inputs.
    title
        None for the count of right predictions.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    inputs, labels, predicted = np.asarray(inputs), np.asarray(labels).astype(int), np.asarray(predicted).astype(int)
    highest = max(labels.max(), predicted.max())
    names = [f"class {k}" for k in range(highest + 1)] if class_names is None else list(class_names)
    wrong = labels != predicted
    with look():
        ax = axes_for(ax, 5.2, 4.6)
        draw_class_points(ax, inputs, predicted, [f"predicted {name}" for name in names], size=20)
        if wrong.any():
            ax.scatter(
                inputs[wrong, 0],
                inputs[wrong, 1],
                s=70,
                marker="o",
                facecolors="none",
                edgecolors=INK,
                linewidths=1.1,
                label=f"mistake ({wrong.sum()})",
                zorder=4,
            )
        right = f"{np.sum(~wrong)} of {wrong.size} held-out rows predicted rightly"
        ax.set(xlabel=input_names[0], ylabel=input_names[1], title=right if title is None else title)
        ax.legend(loc="best", handletextpad=0.3)
    return ax
