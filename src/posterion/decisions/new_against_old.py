"""Drift: whether new rows still look like those the model was fitted to, before anyone believes predictions of them.

Three questions, from plain to subtle. Does a value lie outside of all that was seen? Has a column's distribution moved:
Kolmogorov and Smirnov's test for numbers, chi-squared for categories, p-values corrected for the number of columns
(Holm)? Have all columns together moved, even if none alone has: a permutation test of the energy distance [1]_? With
many rows a test finds differences that do not matter, so each comes with its size. Inputs that have not drifted do not
prove that outcomes still depend on them as they did: only new outcomes can.

References
----------
.. [1] Székely and Rizzo (2013), Energy statistics: a class of statistics based on distances. JSPI 143.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from posterion.decisions._checks import share
from posterion.errors import DataError

_ROWS = 300
"""Rows of each side that the joint test looks at, drawn at random: it compares every pair."""
_PERMUTATIONS = 199
_MATTERS = 0.1
"""Largest distance of two distribution functions below which a column's difference is called small."""


@dataclass(frozen=True, eq=False)
class Drift:
    """How new rows differ from the training rows.

    Parameters
    ----------
    columns
        Along ``column``: ``kind`` ("number" or "category"), ``distance`` (between the distributions, 0 to 1),
        ``p_value`` (corrected for the number of columns), ``outside`` (share of new values beyond all training values)
        and ``missing`` (share of new values that are missing).
    joint_p_value
        Of all columns together.
    outside_rows
        Share of new rows with at least one value outside.
    entitled
        Whether the model is still entitled to an opinion: nothing was found that speaks against it.
    reasons
        Sentences: what was found.
    """

    columns: xarray.Dataset
    joint_p_value: float
    outside_rows: float
    entitled: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        head = "No drift found" if self.entitled else "The new rows have drifted"
        return "\n".join([f"{head}:", *(f"- {reason}" for reason in self.reasons)])


def drift(training: Any, new: Any, *, risk: float = 0.01, random_seed: int = 0) -> Drift:
    """Compare a batch of new rows with the training rows.

    Parameters
    ----------
    training, new
        DataFrames with the same columns, or arrays (rows, columns).
    risk
        Probability of an alarm by each of the two tests, columns and joint, when nothing has changed.
    random_seed
        Of the rows and permutations of the joint test.

    Raises
    ------
    DataError
        If the columns differ, or there are no rows.
    """
    share("risk", risk)
    old_columns, new_columns = _columns(training), _columns(new)
    if list(old_columns) != list(new_columns):
        raise DataError(f"columns must be the same; training has {list(old_columns)}, the new rows {list(new_columns)}")
    rows = [_compare(name, old_columns[name], new_columns[name]) for name in old_columns]
    kinds, distances, p_values, outside, missing = zip(*rows, strict=True)
    corrected = _holm(np.asarray(p_values))
    table = xarray.Dataset(
        {
            "kind": ("column", list(kinds)),
            "distance": ("column", np.asarray(distances)),
            "p_value": ("column", corrected),
            "outside": ("column", np.array([o.mean() for o in outside])),
            "missing": ("column", np.asarray(missing)),
        },
        coords={"column": [str(name) for name in old_columns]},
    )
    beyond = float(np.mean(np.any(outside, axis=0)))
    joint = _joint(old_columns, new_columns, random_seed)
    return Drift(table, joint, beyond, *_judge(table, joint, beyond, len(outside[0]), _rows(old_columns), risk))


def _judge(
    table: xarray.Dataset, joint: float, beyond: float, new_rows: int, old_rows: int, risk: float
) -> tuple[bool, tuple[str, ...]]:
    moved = table.isel(column=np.flatnonzero(table.p_value.values < risk))
    reasons = []
    for name in moved.sortby("distance", ascending=False).column.values[:5]:
        one = moved.sel(column=name)
        size = "a small difference" if one.distance < _MATTERS else "different"
        far, p_value = one.distance.item(), one.p_value.item()
        reasons.append(f"{name} is {size}: its distributions differ by up to {far:.2f} (p {p_value:.1g})")
    if moved.sizes["column"] > 5:
        reasons.append(f"{moved.sizes['column'] - 5} more columns are different")
    large = bool(np.any(moved.distance.values >= _MATTERS))
    if joint < risk:
        reasons.append(f"all columns together are distributed differently (p {joint:.2g})")
    # Beyond the extremes of n training rows lies a new one with probability 2 / (n + 1) per column, by chance alone.
    by_chance = min(1.0, 2 * table.sizes["column"] / (old_rows + 1))
    allowed = by_chance + 3 * np.sqrt(by_chance * (1 - by_chance) / new_rows) + 1 / new_rows
    if beyond > allowed:
        reasons.append(
            f"{beyond:.1%} of the rows have a value outside of all training values; chance allows {allowed:.1%}"
        )
    entitled = not (large or joint < risk or beyond > allowed)
    if not reasons:
        reasons.append(f"{new_rows:,} new rows look like the training rows in every column and together")
    return entitled, tuple(reasons)


def _columns(table: Any) -> dict[Any, np.ndarray]:
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        found = {name: np.asarray(table[name]) for name in table.columns}
    else:
        array = np.asarray(table)
        if array.ndim != 2:
            raise DataError(f"rows must be a table (rows, columns); found {array.shape}")
        found = {k: array[:, k] for k in range(array.shape[1])}
    if not found or _rows(found) == 0:
        raise DataError("a table must have at least one column and one row")
    return found


def _rows(columns: dict[Any, np.ndarray]) -> int:
    return len(next(iter(columns.values())))


def _is_missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([v is None or v != v for v in values]) if values.dtype == object else np.zeros(len(values), bool)


def _compare(name: Any, old: np.ndarray, new: np.ndarray) -> tuple[str, float, float, np.ndarray, float]:
    """Kind, distance, p-value, which new values lie outside, and the share missing."""
    from scipy.stats import chi2_contingency, ks_2samp

    gone = _is_missing(new)
    a, b = old[~_is_missing(old)], new[~gone]
    if old.dtype.kind in "fiu" and new.dtype.kind in "fiu":
        outside = np.zeros(len(new), bool)
        if len(a) == 0 or len(b) == 0:
            return "number", float(len(a) != len(b)), 1.0, outside, float(gone.mean())
        outside[~gone] = (b < a.min()) | (b > a.max())
        test: Any = ks_2samp(a, b, method="asymp")
        return "number", float(test.statistic), float(test.pvalue), outside, float(gone.mean())
    a, b = a.astype(str), b.astype(str)
    known, labels = set(a.tolist()), sorted({*a.tolist(), *b.tolist()})
    outside = np.zeros(len(new), bool)
    outside[~gone] = [value not in known for value in b.tolist()]
    counts = np.array([[np.sum(side == label) for label in labels] for side in (a, b)])
    if len(labels) < 2 or not counts.sum(axis=1).all():
        return "category", 0.0, 1.0, outside, float(gone.mean())
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    chi2: Any = chi2_contingency(counts, correction=False)
    return "category", distance, float(chi2.pvalue), outside, float(gone.mean())


def _holm(p_values: np.ndarray) -> np.ndarray:
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    corrected = np.empty_like(stepped)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _joint(old: dict[Any, np.ndarray], new: dict[Any, np.ndarray], random_seed: int) -> float:
    rng = np.random.default_rng(np.random.SeedSequence([random_seed, 6]))
    sides = []
    for columns in (old, new):
        some = rng.permutation(_rows(columns))[:_ROWS]
        sides.append({name: values[some] for name, values in columns.items()})
    features = np.concatenate([_feature(old[name], sides[0][name], sides[1][name]) for name in old], axis=1)
    first = len(next(iter(sides[0].values())))
    squares = np.sum(features**2, axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0.0))
    sign = np.where(np.arange(len(features)) < first, 1 / first, -1 / (len(features) - first))
    signs = np.stack([sign, *(rng.permutation(sign) for _ in range(_PERMUTATIONS))])
    energies = -np.sum((signs @ distances) * signs, axis=1)
    return int(np.sum(energies >= energies[0])) / (_PERMUTATIONS + 1)


def _feature(reference: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A column of both sides as numbers of unit spread; missing values are a value of their own."""
    both, gone = np.concatenate([old, new]), np.concatenate([_is_missing(old), _is_missing(new)])
    if reference.dtype.kind in "fiu" and new.dtype.kind in "fiu":
        seen = reference[~_is_missing(reference)].astype(float)
        centre, spread = (seen.mean(), seen.std()) if len(seen) else (0.0, 1.0)
        values = np.where(gone, 0.0, (np.where(gone, centre, both).astype(float) - centre) / (spread or 1.0))
        return np.column_stack([values, gone.astype(float)]) if gone.any() else values[:, None]
    text = np.where(gone, "", both.astype(str))
    labels = np.unique(text)[:50]
    return (text[:, None] == labels).astype(float) / np.sqrt(2)
