"""What drives a prediction: averages over rows of what happens when one input is set, shuffled or nudged.

All three ask the model, not the world: an input that predicts because it goes along with a cause is important here, and
changing it outside may change nothing. Partial dependence and importance also ask about combinations of inputs that may
not exist where inputs go together. Bands are over posterior draws: what the model does not know about its own answer.

References
----------
.. [1] Friedman (2001), Greedy function approximation: a gradient boosting machine. Annals of Statistics 29.
.. [2] Fisher, Rudin and Dominici (2019), All models are wrong, but many are useful: learning a variable's importance by
   studying an entire class of prediction models. JMLR 20.
"""

import numbers
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import xarray

from posterion.decisions._checks import share
from posterion.decisions._prediction import mean_draws
from posterion.errors import DataError, OptionError


@runtime_checkable
class PredictRows(Protocol):
    """``rows -> prediction``, such as ``lambda rows: approx.predict({"x": rows})``; or draws (draws, rows, ...)."""

    def __call__(self, rows: Any, /) -> Any:
        """Predict every row."""
        ...


@runtime_checkable
class ScoreRows(Protocol):
    """``rows -> log predictive density of the rows' outcomes``, in the rows' order."""

    def __call__(self, rows: Any, /) -> Any:
        """Score every row."""
        ...


def partial_dependence(
    predict: PredictRows,
    rows: Any,
    column: Any,
    *,
    values: Sequence[Any] | np.ndarray | int | np.integer = 20,
    background: int = 200,
    level: float = 0.9,
    name: str | None = None,
    random_seed: int = 0,
) -> xarray.Dataset:
    """Mean prediction over rows, with one input set to each of some values [1]_, and its credible band.

    Parameters
    ----------
    predict
        Predicts rows like those given.
    rows
        An array (rows, columns) or a DataFrame.
    column
        Number or name of the input.
    values
        To set it to; a number for as many quantiles of what it has (of whole numbers those that occur), or all of a
        text's or category's values.
    background
        Rows to average over, drawn at random; more only make it slower.
    level
        Of the band.
    name
        The variable, of predictions of several.
    random_seed
        Of the choice of rows.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``low`` and ``high`` along ``value`` (and the axes of one prediction after it).
    """
    share("level", level)
    table = _Table(rows)
    if isinstance(values, numbers.Integral):
        if values < 1:
            raise OptionError(f"values must be a whole number from 1 on, or the values themselves; found {values!r}")
        grid = table.grid(column, int(values))
    else:
        grid = np.asarray(values)
        if grid.ndim != 1 or not len(grid):
            raise OptionError(f"values must be a whole number, or a list of values; found {values!r}")
    rng = np.random.default_rng(np.random.SeedSequence([random_seed, 4]))
    some = rng.choice(table.rows, min(background, table.rows), replace=False)
    asked = table.repeated(some, len(grid)).with_values(column, np.repeat(grid, len(some)))
    draws = mean_draws(predict(asked.data), name)
    if draws.shape[1] != len(grid) * len(some):
        raise DataError(f"predict was asked for {len(grid) * len(some)} rows and answered {draws.shape[1]}")
    curves = draws.reshape(len(draws), len(grid), len(some), *draws.shape[2:]).mean(axis=2)
    low, high = np.quantile(curves, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    dims = ("value", *(f"axis_{k}" for k in range(curves.ndim - 2)))
    return xarray.Dataset(
        {"mean": (dims, curves.mean(axis=0)), "low": (dims, low), "high": (dims, high)},
        coords={"value": grid},
        attrs={"column": str(column), "level": level, "rows": len(some)},
    )


def permutation_importance(
    score: ScoreRows, rows: Any, *, columns: Sequence[Any] | None = None, repeats: int = 5, random_seed: int = 0
) -> xarray.Dataset:
    """How much the log score falls when an input is shuffled among the rows [2]_, in nats per row.

    Parameters
    ----------
    score
        Log predictive density of each row's outcome, held out from the fit:
        ``lambda rows: approx.predict({"x": rows}).log_score("y", y)``.
    rows
        An array (rows, columns) or a DataFrame.
    columns
        Those wanted; None for all.
    repeats
        Shuffles per input.
    random_seed
        Of the shuffles.

    Returns
    -------
    xarray.Dataset
        Along ``column``: ``importance``, and its 95 % bounds ``low`` and ``high`` over rows; the attribute ``score`` is
        the mean log score of the rows as they are.
    """
    table = _Table(rows)
    wanted = table.columns if columns is None else list(columns)
    base = _scores(score, table)
    rng = np.random.default_rng(np.random.SeedSequence([random_seed, 5]))
    found = []
    for column in wanted:
        values = table.column(column)
        falls = [
            base - _scores(score, table.with_values(column, values[rng.permutation(table.rows)]))
            for _ in range(repeats)
        ]
        each = np.mean(falls, axis=0)
        half = 1.96 * each.std(ddof=1) / np.sqrt(table.rows) if table.rows > 1 else np.nan
        found.append((each.mean(), each.mean() - half, each.mean() + half))
    importance, low, high = np.transpose(found)
    return xarray.Dataset(
        {"importance": ("column", importance), "low": ("column", low), "high": ("column", high)},
        coords={"column": wanted},
        attrs={"score": float(base.mean()), "rows": table.rows, "repeats": repeats},
    )


def sensitivity(
    predict: PredictRows,
    rows: Any,
    *,
    columns: Sequence[Any] | None = None,
    scale: Sequence[float] | np.ndarray | None = None,
    step: float = 0.05,
    name: str | None = None,
) -> xarray.Dataset:
    """How fast each row's prediction changes with each input, per standard deviation of the input.

    Central differences (f(x + h s) - f(x - h s)) / 2h, draw by draw. Inputs that are whole numbers may be codes or
    counts, and a model knows nothing of what is between them: they go to the nearest values of other rows at least h s
    away, on one side only at the ends, and what changes is divided by how far that is.

    Where a prediction jumps, as classifiers with the odds of segments do, a single row's effect near the jump grows as
    the step shrinks; the influence of the input, an average of jumps over the distance between rows, does not.

    Parameters
    ----------
    predict
        Predicts rows like those given.
    rows
        An array (rows, columns) or a DataFrame; the inputs wanted must be numbers.
    columns
        Those wanted; None for all that hold numbers.
    scale
        s, of each wanted input; None for their standard deviations among these rows.
    step
        h.
    name
        The variable, of predictions of several.

    Returns
    -------
    xarray.Dataset
        ``effect`` and ``effect_std`` (over posterior draws) along ``row`` and ``column``, and ``influence``, the mean
        size of the effect over rows, along ``column``.
    """
    table = _Table(rows)
    wanted = [c for c in table.columns if table.is_number(c)] if columns is None else list(columns)
    for column in wanted:
        if not table.is_number(column):
            raise DataError(f"column {column!r} does not hold numbers, so it cannot be nudged; use partial_dependence")
    if scale is None:
        spread = np.array([np.std(table.column(c)) for c in wanted])
        if np.any(spread == 0):
            constant = [c for c, s in zip(wanted, spread, strict=True) if s == 0]
            raise DataError(f"columns {constant} are constant among these rows; give scale=, or leave them out")
    else:
        spread = np.asarray(scale, np.float64)
        if spread.shape != (len(wanted),) or not np.all(spread > 0):
            raise OptionError(f"scale must hold {len(wanted)} positive numbers; found {scale!r}")
    effects, spreads = [], []
    for column, unit in zip(wanted, spread, strict=True):
        values = np.asarray(table.column(column), np.float64)
        both = table.repeated(np.arange(table.rows), 2)
        up, down = _nudged(values, step * unit)
        draws = mean_draws(predict(both.with_values(column, np.concatenate([up, down])).data), name)
        way = ((up - down) / unit).reshape(-1, *np.ones(draws.ndim - 2, int))
        slopes = (draws[:, : table.rows] - draws[:, table.rows :]) / way
        effects.append(slopes.mean(axis=0))
        spreads.append(slopes.std(axis=0))
    effect = np.stack(effects, axis=1)
    dims = ("row", "column", *(f"axis_{k}" for k in range(effect.ndim - 2)))
    return xarray.Dataset(
        {
            "effect": (dims, effect),
            "effect_std": (dims, np.stack(spreads, axis=1)),
            "influence": (dims[1:], np.mean(np.abs(effect), axis=0)),
        },
        coords={"column": wanted},
    )


def _nudged(values: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Values above and below: whole numbers at others that occur, if there are any."""
    there = np.unique(values)
    if len(there) < 2 or np.any(there != np.round(there)):
        return values + reach, values - reach
    above = np.minimum(np.searchsorted(there, values + reach), len(there) - 1)
    below = np.maximum(np.searchsorted(there, values - reach, side="right") - 1, 0)
    return there[above], there[below]


def _scores(score: ScoreRows, table: "_Table") -> np.ndarray:
    values = np.asarray(score(table.data), np.float64)
    if values.shape != (table.rows,) or not np.all(np.isfinite(values)):
        raise DataError(
            f"score must give one finite number for each of {table.rows} rows; found shape {values.shape}, "
            f"{int(np.sum(~np.isfinite(values)))} of them not finite"
        )
    return values


class _Table:
    """An array or a DataFrame, column by column, without importing pandas."""

    def __init__(self, data: Any) -> None:
        self.labelled = hasattr(data, "columns") and hasattr(data, "iloc")
        self.data: Any = data if self.labelled else np.asarray(data)
        if len(np.shape(self.data)) != 2 or len(self.data) == 0:
            raise DataError(f"rows must be a table (rows, columns) with at least one row; found {np.shape(self.data)}")
        self.rows = len(self.data)
        self.columns: list[Any] = list(data.columns) if self.labelled else list(range(self.data.shape[1]))

    def column(self, column: Any) -> np.ndarray:
        if column not in self.columns:
            raise OptionError(f"no column {column!r}; there are: {', '.join(map(str, self.columns))}")
        return np.asarray(self.data[column]) if self.labelled else self.data[:, column]

    def is_number(self, column: Any) -> bool:
        return self.column(column).dtype.kind in "fiu"

    def grid(self, column: Any, number: int) -> np.ndarray:
        values = self.column(column)
        if not self.is_number(column):
            return np.unique(values)
        known = values[np.isfinite(values)]
        method = "inverted_cdf" if np.all(known == np.round(known)) else "linear"
        return np.unique(np.quantile(known, np.linspace(0.01, 0.99, number), method=method))

    def repeated(self, rows: np.ndarray, times: int) -> "_Table":
        index = np.tile(rows, times)
        return _Table(self.data.iloc[index].reset_index(drop=True) if self.labelled else self.data[index])

    def with_values(self, column: Any, values: np.ndarray) -> "_Table":
        if self.labelled:
            labelled = self.data.copy(deep=False)  # the other columns are shared
            labelled[column] = values  # unlike `assign`, also where a column's name is no text
            return _Table(labelled)
        # Longer texts and larger numbers than the array can hold would be cut without a word.
        alike = any(self.data.dtype.kind in kinds and values.dtype.kind in kinds for kinds in ("biuf", "U", "S"))
        changed = self.data.astype(np.result_type(self.data, values)) if alike else self.data.copy()
        changed[:, column] = values
        return _Table(changed)
