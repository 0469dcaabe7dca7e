"""Picture of what is uncertain about a binary prediction, taken apart over a grid of two inputs.

The standard deviation of the predicted class, sqrt(p (1 - p)), is a function of the probability alone: it is largest on
the decision boundary however much data there are. What the model does not *know* is something else: how far posterior
draws disagree about the probability. Side by side the pictures show where the one is not the other.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure, SubFigure

from posterion.plots.style import look, shown_figure
from posterion.plots.surface import plot_surface


class _Panel(NamedTuple):
    key: str
    title: str
    label: str
    most: float | None


_PANELS = (
    _Panel("std", "SD of the predicted class: √(p (1 − p))", "SD of 0/1 outcomes", 0.5),
    _Panel("mean_std", "SD of the probability, between draws", "SD of p", None),
    _Panel("aleatoric", "Aleatoric: what no data can remove", "expected entropy (nats)", float(np.log(2))),
    _Panel("epistemic", "Epistemic: what more data could remove", "mutual information (nats)", None),
)


def plot_uncertainty(
    first: np.ndarray,
    second: np.ndarray,
    surfaces: Mapping[str, np.ndarray],
    *,
    points: tuple[np.ndarray, np.ndarray] | None = None,
    input_names: Sequence[str] = ("", ""),
    class_names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw four kinds of uncertainty of a binary outcome over the same grid.

    Left the two that are large wherever classes mix, right the two that tell what the posterior does not know.

    Parameters
    ----------
    first, second
        Grid lines of the two inputs, (columns,) and (rows,).
    surfaces
        ``std``, ``mean_std``, ``aleatoric`` and ``epistemic``, each (rows, columns), as `Prediction` names them.
    points
        Inputs (rows, 2) and labels of data to draw on top.
    input_names
        Of the two inputs.
    class_names
        For a legend of the data; None for none.
    figure
        Where to draw; None for a new one.

    Returns
    -------
    matplotlib.figure.Figure
        With the picture.
    """
    with look():
        figure = shown_figure(8.6, 7.4) if figure is None else figure
        axes = figure.subplots(2, 2, sharex=True, sharey=True)
        for k, (ax, panel) in enumerate(zip(axes.flat, _PANELS, strict=True)):
            names = (input_names[0] if k >= 2 else "", input_names[1] if k % 2 == 0 else "")
            top = panel.most if panel.most is not None else float(np.max(surfaces[panel.key]))
            plot_surface(
                first,
                second,
                surfaces[panel.key],
                title=panel.title,
                label=panel.label,
                limits=(0.0, top),
                points=points,
                input_names=names,
                class_names=class_names if k == 0 else None,
                ax=ax,
            )
    return figure
