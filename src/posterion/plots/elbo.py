"""Picture of the ELBO along a fit: noisy estimates, their running mean, the clean values after each round, the stop."""

import textwrap

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from posterion.plots.style import CLASS_COLOURS, FAINT, INK, MUTED, axes_for, look

_MOST_POINTS = 2000
"""Columns a noisy line is reduced to; more than a printed picture has."""
_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}


def plot_elbo(
    history: xr.Dataset, *, window: int | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the negative ELBO of a fit over its steps.

    The axis starts where the fit has found its way, so that the end can be read; how high it began is written down.

    Parameters
    ----------
    history
        ``neg_elbo`` (step), and ``elbo`` and ``gain_se`` (comparison), in nats: `Posterior.history`.
    window
        Steps of the running mean; None for a fiftieth of all.
    title
        None for the sentence that says why the fit stopped.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the picture.
    """
    steps = np.asarray(history["step"].values)
    losses = np.asarray(history["neg_elbo"].values, float)
    sentence = title if title is not None else str(history.attrs.get("why_it_stopped", ""))
    with look():
        ax = axes_for(ax, 6.6, 3.7)
        ax.set(xlabel="step", ylabel="negative ELBO (nats)")
        ax.set_title(_wrapped(sentence, ax), fontsize=9.5)
        ax.xaxis.set_major_formatter("{x:,.0f}")
        if steps.size == 0:
            ax.text(0.5, 0.5, "no steps were taken", transform=ax.transAxes, ha="center", color=MUTED)
            return ax
        width = max(1, steps.size // 50) if window is None else max(1, min(window, steps.size))
        smooth = running_mean(losses, width)
        _draw_noisy(ax, steps, losses)
        ax.plot(steps, smooth, color=CLASS_COLOURS[0], lw=1.6, label=f"mean over {width:,} steps", zorder=3)
        clean = _draw_comparisons(ax, history)
        low, high = _limits(losses, smooth, clean)
        ax.set(xlim=(0, steps[-1] * 1.02), ylim=(low, high))
        if losses[0] > high:
            ax.annotate(
                f"starts at {losses[0]:,.0f}",
                xy=(steps[-1] * 0.012, high),
                xytext=(6, -10),
                textcoords="offset points",
                va="top",
                color=INK,
                fontsize=8,
                bbox=_BEHIND_TEXT,
            )
        ax.axvline(steps[-1], color=INK, lw=0.9, ls=(0, (4, 3)), zorder=2)
        ax.annotate(
            f"stop after {steps[-1]:,} steps",
            xy=(steps[-1], 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5, 6),
            textcoords="offset points",
            ha="right",
            color=INK,
            fontsize=8,
            bbox=_BEHIND_TEXT,
        )
        ax.legend(loc="upper right", bbox_to_anchor=(0.97, 1.0), frameon=True, framealpha=0.85, edgecolor="none")
    return ax


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centred means over ``width`` values, fewer at the ends; what is not finite is left out of them."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    position = np.arange(values.size)
    first, last = np.maximum(position - width // 2, 0), np.minimum(position + (width + 1) // 2, values.size)
    with np.errstate(invalid="ignore"):
        return (sums[last] - sums[first]) / (counts[last] - counts[first])


def _draw_noisy(ax: Axes, steps: np.ndarray, losses: np.ndarray) -> None:
    """Every estimate as a thin line; where they are many, the band from the lowest to the highest of neighbours."""
    label = "estimate of each step"
    if steps.size <= _MOST_POINTS:
        ax.plot(steps, losses, color=FAINT, lw=0.6, label=label, zorder=1)
        return
    per_column = -(-steps.size // _MOST_POINTS)
    columns = steps.size // per_column
    cut = losses[: columns * per_column].reshape(columns, per_column)
    centre = steps[: columns * per_column].reshape(columns, per_column).mean(axis=1)
    low, high = (np.nan_to_num(f(cut, axis=1), posinf=np.nan, neginf=np.nan) for f in (np.min, np.max))
    ax.fill_between(centre, low, high, color=FAINT, lw=0, label=label, zorder=1)


def _draw_comparisons(ax: Axes, history: xr.Dataset) -> np.ndarray:
    """The clean values, on fresh draws of all rows; the bars are for the comparison of one with the one before."""
    if "comparison" not in history.sizes or history.sizes["comparison"] == 0:
        return np.empty(0)
    clean = -np.asarray(history["elbo"].values, float)
    ax.errorbar(
        np.asarray(history["comparison"].values),
        clean,
        yerr=2 * np.asarray(history["gain_se"].values, float),
        fmt="D",
        ms=5,
        mfc=CLASS_COLOURS[1],
        mec="white",
        mew=0.7,
        ecolor=CLASS_COLOURS[1],
        elinewidth=1.2,
        capsize=2.5,
        label="after each round, on fresh draws\n(bar: ± 2 standard errors of its gain)",
        zorder=4,
    )
    return clean


def _limits(losses: np.ndarray, smooth: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    """Of the axis: what the second half's estimates span, and the running mean from a twentieth of the way on."""
    settled = losses[losses.size // 2 :]
    settled = settled[np.isfinite(settled)]
    if settled.size == 0:
        return 0.0, 1.0
    low, high = (float(bound) for bound in np.quantile(settled, [0.002, 0.99]))
    high = max(high, float(np.nan_to_num(smooth[smooth.size // 20 :].max(), nan=-np.inf)))
    finite = clean[np.isfinite(clean)]
    if finite.size:
        low, high = min(low, float(finite.min())), max(high, float(finite[-1]))
    room = 0.08 * (high - low) or 1.0
    return low - room, high + 1.5 * room


def _wrapped(sentence: str, ax: Axes) -> str:
    """The sentence in lines no wider than the axes: a letter of this size is about 5.4 points wide."""
    points = ax.get_window_extent().width * 72 / ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    return "\n".join(textwrap.wrap(sentence[:1].upper() + sentence[1:], max(30, int(points / 5.4))))
