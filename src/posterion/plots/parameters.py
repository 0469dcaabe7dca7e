"""Picture of the marginal posteriors of all variables, entry by entry: "uncertainty of our network weights"."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from posterion.plots.style import CLASS_COLOURS, FAINT, INK, MUTED, look, shown_figure

_MOST_VIOLINS = 64
"""Entries of one variable that are drawn one by one; more are drawn as one band, sorted."""
_SLOTS_PER_LINE = 44
_LETTERS_PER_SLOT = 3.4
"""That fit above a violin's share of the width; fewer where panels have numbers of their own between them."""
_DENSITY_DRAWS = 1000
"""Draws that a density's shape needs; intervals use all."""


@dataclass(frozen=True)
class _Marginals:
    """The draws of one variable, (draws, entries), and how its entries are called."""

    name: str
    draws: np.ndarray
    minor: tuple[str, ...]
    major: tuple[str, ...]
    dims: tuple[str, ...]

    @property
    def entries(self) -> int:
        return self.draws.shape[1]

    @property
    def slots(self) -> int:
        return min(max(self.entries, 4), _SLOTS_PER_LINE)


def plot_parameters(
    draws: xr.DataTree | xr.Dataset,
    *,
    var_names: Sequence[str] | None = None,
    probability: float = 0.9,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the marginal posterior of every entry of every variable: density, median, central intervals.

    Thick bars hold half of the posterior, thin ones ``probability`` of it. A variable of very many entries is drawn as
    bands over its entries, sorted by their median.

    Parameters
    ----------
    draws
        An ArviZ tree with the group ``posterior``, that group, or its dataset, with dims (chain, draw, ...).
    var_names
        The variables; None for all.
    probability
        Of the wide interval.
    figure
        Where to draw; None for a new one of a fitting size.

    Returns
    -------
    matplotlib.figure.Figure
        With the picture.
    """
    lines = list(_lines(_found(draws, var_names)))
    narrowest = _widest(lines)
    with look():
        if figure is None:
            figure = shown_figure(*_size(lines))
        for row, line in enumerate(lines):
            widths = [m.slots for m in line]
            if sum(widths) < narrowest:
                widths.append(narrowest - sum(widths))  # room left free, so that few entries are not stretched
            grid = figure.add_gridspec(len(lines), 1)[row].subgridspec(1, len(widths), width_ratios=widths)
            comparable, shared = _comparable(line), None
            letters_per_slot = _LETTERS_PER_SLOT if comparable else 0.8 * _LETTERS_PER_SLOT
            for column, marginals in enumerate(line):
                together = shared if comparable else None
                ax = figure.add_subplot(grid[column], sharey=together)
                _draw(ax, marginals, probability, letters_per_slot)
                if together is not None:
                    ax.tick_params(labelleft=False)
                if column == 0:
                    ax.set_ylabel("value")
                shared = shared or ax
    return figure


def parameters_size(draws: xr.DataTree | xr.Dataset, *, var_names: Sequence[str] | None = None) -> tuple[float, float]:
    """Width and height (inches) that suit `plot_parameters` of these draws, to make a figure of one's own for it.

    Parameters
    ----------
    draws, var_names
        As passed to `plot_parameters`.
    """
    return _size(list(_lines(_found(draws, var_names))))


def _size(lines: Sequence[Sequence[_Marginals]]) -> tuple[float, float]:
    return 0.6 + 0.2 * _widest(lines), 3.0 * len(lines)


def _widest(lines: Sequence[Sequence[_Marginals]]) -> int:
    return max(_SLOTS_PER_LINE // 2, max(sum(m.slots for m in line) for line in lines))


def _found(draws: xr.DataTree | xr.Dataset, var_names: Sequence[str] | None) -> list[_Marginals]:
    if isinstance(draws, xr.DataTree):  # the tree, or what `tree["posterior"]` gives
        draws = (draws["posterior"] if "posterior" in draws.children else draws).to_dataset()
    names = [str(name) for name in (draws.data_vars if var_names is None else var_names)]
    return [_marginals(draws[name], name) for name in names]


def _marginals(values: xr.DataArray, name: str) -> _Marginals:
    inner = [str(d) for d in values.dims if d not in ("chain", "draw")]
    ordered = values.transpose("chain", "draw", *inner)
    shape = ordered.shape[2:]
    flat = np.asarray(ordered.values, float).reshape(ordered.shape[0] * ordered.shape[1], -1)
    labels = [_labels(values, dim) for dim in inner]
    minor = tuple(labels[-1][k[-1]] for k in np.ndindex(shape)) if inner else ("",)
    major = tuple(", ".join(labels[j][k[j]] for j in range(len(k) - 1)) for k in np.ndindex(shape)) if inner else ("",)
    return _Marginals(name, flat, minor, major, tuple(d for d in inner if "_dim_" not in d))


def _labels(values: xr.DataArray, dim: str) -> list[str]:
    return [str(label) for label in (values.coords[dim].values if dim in values.coords else range(values.sizes[dim]))]


def _lines(found: Iterable[_Marginals]) -> Iterable[list[_Marginals]]:
    """Variables that fit beside each other."""
    line: list[_Marginals] = []
    for marginals in found:
        if line and sum(m.slots for m in line) + marginals.slots > _SLOTS_PER_LINE:
            yield line
            line = []
        line.append(marginals)
    if line:
        yield line


def _comparable(line: Sequence[_Marginals]) -> bool:
    """Whether variables live on scales alike enough for one axis."""
    ranges = [(float(np.quantile(m.draws, 0.001)), float(np.quantile(m.draws, 0.999))) for m in line]
    widest = max(high for _, high in ranges) - min(low for low, _ in ranges)
    return all(high - low > 0.25 * widest for low, high in ranges)


def _draw(ax: Axes, marginals: _Marginals, probability: float, letters_per_slot: float) -> None:
    outer, inner = (1 - probability) / 2, 0.25
    quantiles = np.quantile(marginals.draws, [outer, inner, 0.5, 1 - inner, 1 - outer], axis=0)
    if marginals.draws.min() < 0 < marginals.draws.max():
        ax.axhline(0.0, color=FAINT, lw=0.8, zorder=0)
    ax.set_title(marginals.name, fontsize=9.5)
    if marginals.entries > _MOST_VIOLINS:
        _draw_bands(ax, quantiles)
        return
    position = np.arange(marginals.entries)
    _draw_densities(ax, marginals.draws[:: max(1, len(marginals.draws) // _DENSITY_DRAWS)], position)
    colour = CLASS_COLOURS[0]
    ax.vlines(position, quantiles[0], quantiles[4], color=colour, lw=0.9, zorder=2)
    ax.vlines(position, quantiles[1], quantiles[3], color=colour, lw=2.8, zorder=3)
    ax.scatter(position, quantiles[2], s=11, color="white", edgecolors=INK, linewidths=0.7, zorder=4)
    ax.set_xlim(-0.7, max(marginals.entries, 2) - 0.3)
    ax.set_xticks(position, marginals.minor, fontsize=7 if max(map(len, marginals.minor)) < 4 else 6.5)
    if max(map(len, marginals.minor)) > 3:
        ax.tick_params(axis="x", labelrotation=90)
    ax.tick_params(axis="x", length=0)
    ax.spines["bottom"].set_visible(False)
    _draw_groups(ax, marginals, letters_per_slot)
    if marginals.dims:
        ax.set_xlabel(marginals.dims[-1], fontsize=8, color=MUTED)


def _draw_densities(ax: Axes, draws: np.ndarray, position: np.ndarray) -> None:
    varied = np.ptp(draws, axis=0) > 0
    if not varied.any():
        return
    shapes: Any = ax.violinplot(
        draws[:, varied], positions=position[varied], widths=0.92, showextrema=False, points=80, bw_method="silverman"
    )
    for body in shapes["bodies"]:
        body.set(facecolor="#bcd7ea", edgecolor="none", alpha=1.0, zorder=1)


def _draw_groups(ax: Axes, marginals: _Marginals, letters_per_slot: float) -> None:
    """Thin lines between the groups of the leading dims, with their labels above."""
    if not any(marginals.major):
        return
    starts = [k for k in range(marginals.entries) if k == 0 or marginals.major[k] != marginals.major[k - 1]]
    leading = ", ".join(marginals.dims[:-1])
    length = max(len(marginals.major[start]) for start in starts) + len(leading) + 1
    named = leading and length < letters_per_slot * marginals.entries / len(starts)
    for start, end in zip(starts, [*starts[1:], marginals.entries], strict=True):
        if start:
            ax.axvline(start - 0.5, color=FAINT, lw=0.6, zorder=0)
        ax.annotate(
            f"{leading} {marginals.major[start]}" if named else marginals.major[start],
            ((start + end - 1) / 2, 1.0),
            (0, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7,
            color=MUTED,
        )


def _draw_bands(ax: Axes, quantiles: np.ndarray) -> None:
    quantiles = quantiles[:, np.argsort(quantiles[2])]
    position = np.arange(quantiles.shape[1])
    colour = CLASS_COLOURS[0]
    ax.fill_between(position, quantiles[0], quantiles[4], color=colour, alpha=0.25, lw=0)
    ax.fill_between(position, quantiles[1], quantiles[3], color=colour, alpha=0.45, lw=0)
    ax.plot(position, quantiles[2], color=INK, lw=0.9)
    ax.set_xlabel(f"{position.size:,} entries, sorted by their median", fontsize=8, color=MUTED)
    ax.set_xlim(0, position.size - 1)
