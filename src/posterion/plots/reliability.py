"""Picture of calibration: how often predictions came true, against how probable they were said to be."""

from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes

from posterion.plots.style import CLASS_COLOURS, FAINT, INK, MUTED, axes_for, look


@runtime_checkable
class ReliabilityTable(Protocol):
    """Per bin of predicted probability, how often it came true, as `posterion.decisions.reliability` gives it."""

    @property
    def edges(self) -> np.ndarray:
        """Of the bins, one more than there are bins."""
        ...

    @property
    def count(self) -> np.ndarray:
        """Rows in each bin."""
        ...

    @property
    def probability(self) -> np.ndarray:
        """Mean predicted probability in each bin."""
        ...

    @property
    def frequency(self) -> np.ndarray:
        """How often it came true."""
        ...

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of each frequency."""
        ...


def plot_reliability(
    table: ReliabilityTable, *, title: str | None = None, outcome: str = "the outcome", ax: Axes | None = None
) -> Axes:
    """Draw a reliability diagram with 95 % intervals and the number of rows behind every point.

    Parameters
    ----------
    table
        Edges, counts, mean predicted probabilities and frequencies of the bins.
    title
        None for the expected calibration error.
    outcome
        What the probability is of.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    filled = np.asarray(table.count) > 0
    count, probability, frequency = (np.asarray(x)[filled] for x in (table.count, table.probability, table.frequency))
    low, high = (bound[filled] for bound in table.interval())
    with look():
        ax = axes_for(ax, 4.8, 5.6)
        ax.plot([0, 1], [0, 1], color=MUTED, lw=1.0, ls=(0, (4, 3)), label="perfectly calibrated", zorder=1)
        ax.vlines(probability, low, high, color=CLASS_COLOURS[0], lw=1.3, zorder=2)
        ax.scatter(probability, frequency, s=30, color=CLASS_COLOURS[0], edgecolors="white", linewidths=0.8, zorder=3)
        ax.legend(loc="lower right")
        widths, centres = np.diff(table.edges), (np.asarray(table.edges)[1:] + np.asarray(table.edges)[:-1]) / 2
        below = ax.inset_axes((0.0, -0.26, 1.0, 0.18))
        below.bar(centres, table.count, width=0.9 * widths, color=FAINT, edgecolor=MUTED, linewidth=0.5)
        for centre, number in zip(centres, table.count, strict=True):
            below.annotate(
                f"{number}", (centre, number), (0, 1.5), textcoords="offset points", ha="center", fontsize=7, color=INK
            )
        below.set(xlim=(-0.02, 1.02), ylim=(0, 1.25 * np.max(table.count)), ylabel="rows", yticks=[])
        below.set_xlabel(f"predicted probability of {outcome}")
        below.spines["left"].set_visible(False)
        gap = float(np.sum(count * np.abs(frequency - probability)) / np.sum(count))
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="how often it came true (95 % interval)")
        ax.set_title(f"Expected calibration error {gap:.3f} ({np.sum(count):,} rows)" if title is None else title)
        ax.tick_params(labelbottom=False)
    return ax
