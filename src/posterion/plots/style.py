"""The look all pictures share: sizes, colours, marks, and where a picture is drawn.

Colours are those of Okabe and Ito [1]_, which people of every colour vision tell apart. Nothing is told by colour
alone: classes have their own marks, surfaces have labelled contours, intervals have their own widths, so that a picture
still reads when it is printed in grey.

References
----------
.. [1] Okabe and Ito (2008), Color universal design: how to make figures that are colorblind friendly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK = "#1a1a1a"
"""Lines and marks that carry the message."""
MUTED = "#6b6b6b"
"""Text and lines that help to read it."""
FAINT = "#c9c9c9"
"""Lines that only guide the eye."""

CLASS_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
CLASS_MARKS = ("o", "^", "s", "D", "v", "P")

PROBABILITY_MAP = LinearSegmentedColormap.from_list(
    "posterion_probability", ["#3d8abd", "#a3cfe6", "#f8f8f6", "#f6c49c", "#df7c2c"]
)
"""From the first class's blue through white at one half to the second class's orange."""
UNCERTAINTY_MAP = LinearSegmentedColormap.from_list(
    "posterion_uncertainty", ["#fbfbf9", "#dfe2ee", "#b4bcd9", "#8f8cbf", "#7460a5"]
)
"""One hue with falling lightness: dark is uncertain, in grey as well."""

_LOOK: Any = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.dpi": 110.0,
    "savefig.dpi": 160.0,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}


@contextmanager
def look() -> Iterator[None]:
    """Within, Matplotlib draws with the pictures' common sizes and colours; after, its settings are as they were."""
    with matplotlib.rc_context(_LOOK):
        yield


def new_figure(width: float | int, height: float | int) -> Figure:
    """Make a figure (inches) that belongs to no window, for a file: ``new_figure(6, 4).subplots()`` gives axes.

    Parameters
    ----------
    width, height
        In inches.
    """
    with look():
        return Figure(figsize=(width, height), layout="constrained")


def shown_figure(width: float | int, height: float | int) -> Figure:
    """Make a figure (inches) that a notebook or a window shows."""
    from matplotlib import pyplot

    with look():
        return pyplot.figure(figsize=(width, height), layout="constrained")


def axes_for(ax: Axes | None, width: float | int, height: float | int) -> Axes:
    """The axes to draw on: those given, or those of a new shown figure of this size."""
    return shown_figure(width, height).subplots() if ax is None else ax


def draw_class_points(
    ax: Axes,
    inputs: Any,
    labels: Any,
    names: Any = None,
    *,
    size: float | int = 16,
    weight: Literal["full", "light"] = "full",
) -> None:
    """Draw points (rows, 2) with the colour and the mark of their class: first class open, others filled.

    Parameters
    ----------
    ax
        Where to draw.
    inputs
        The points, shaped (rows, 2).
    labels
        0, 1, ... per point.
    names
        Of the classes, for the legend; None draws without entries for one.
    size
        Of a mark, in points squared.
    weight
        "light" for points on top of a surface.
    """
    for label in sorted({int(value) for value in labels}):
        here = labels == label
        colour = CLASS_COLOURS[label % len(CLASS_COLOURS)]
        filled = label % 2 == 1
        light = weight == "light"
        ax.scatter(
            inputs[here, 0],
            inputs[here, 1],
            s=size * (1.15 if CLASS_MARKS[label % len(CLASS_MARKS)] == "^" else 1.0),
            marker=CLASS_MARKS[label % len(CLASS_MARKS)],
            facecolors=colour if filled else "white",
            edgecolors="white" if filled else colour,
            linewidths=0.4 if filled else (0.8 if light else 1.0),
            alpha=0.9 if light else 1.0,
            label=None if names is None else names[label],
            zorder=3,
        )


def no_frame(ax: Axes) -> None:
    """Take the frame off axes that hold a surface; its edge is frame enough."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=2.5)
