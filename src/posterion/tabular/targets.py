"""The column to be predicted: labels or numbers, and which of its rows can be used."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from posterion.errors import DataError
from posterion.tabular.columns import as_numbers, kind_of, other_sheets, unread

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["classification", "regression"]

_MOST_CLASSES = 100
_FEW_NUMBERS = 10
"""Whole numbers with at most so many distinct values are labels, unless the user says otherwise."""


@dataclass(frozen=True)
class Target:
    """The training rows' outcomes.

    Parameters
    ----------
    name
        Of the column.
    task
        Whether it holds labels or numbers.
    values
        One per usable row: labels as text, or float64.
    usable
        Which rows of the table have an outcome.
    why
        How the task was decided, in words.
    """

    name: str
    task: Task
    values: np.ndarray
    usable: np.ndarray
    why: str

    @property
    def classes(self) -> list[str]:
        """Labels in order of their names; none for numbers."""
        return sorted(set(self.values)) if self.task == "classification" else []


def read_target(frame: "pd.DataFrame", name: str, task: str = "auto", *, vary: bool = True) -> Target:
    """Take the column to be predicted out of a table.

    Parameters
    ----------
    frame
        The whole table.
    name
        The column.
    task
        "classification", "regression", or "auto" to decide by what the column holds.
    vary
        Whether it has to have more than one value, as it must for something to be learned.

    Raises
    ------
    DataError
        If there is no such column, it has one value only, or does not fit the task.
    """
    if name not in frame.columns:
        has = [str(column) for column in frame.columns]
        raise DataError(f"there is no column {name!r} to predict; the table has {has}{other_sheets(frame)}")
    values = frame[name]
    known = values.notna().to_numpy()
    if not known.any():
        raise DataError(f"the target {name!r} has no values")
    kind, distinct = kind_of(values), values.dropna().nunique()
    infinite = int(np.sum(np.isinf(as_numbers(values, "number")))) if kind == "number" else 0
    if infinite:
        raise DataError(f"the target {name!r} has {infinite} infinite values")
    if task == "auto":
        task, why = _decide(values[known], kind, distinct)
    else:
        why = "as asked for"
    if task == "regression":
        if kind not in ("number", "boolean"):
            what_to_do = unread(values[known]) or "; use --task classification"
            raise DataError(f"the target {name!r} is a {kind}, not a number{what_to_do}")
        numbers = as_numbers(values, "number" if kind == "number" else "boolean")[known]
        if vary and np.ptp(numbers) == 0:
            raise DataError(f"the target {name!r} is {numbers[0]:g} in every row: there is nothing to predict")
        return Target(name, "regression", numbers, known, why)
    labels = _labels(values[known], kind)
    counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    if vary and len(counts) < 2:
        raise DataError(f"the target {name!r} is {labels[0]!r} in every row: there is nothing to predict")
    if len(counts) > _MOST_CLASSES:
        what_to_do = ". If it is a number, use --task regression" if kind == "number" else unread(values[known])
        raise DataError(
            f"the target {name!r} has {len(counts):,} labels; at most {_MOST_CLASSES} can be predicted{what_to_do}"
        )
    return Target(name, "classification", labels, known, why)


def _decide(values: "pd.Series", kind: str, distinct: int) -> tuple[str, str]:
    if kind in ("category", "boolean"):
        return "classification", f"its {distinct} different values are labels"
    if kind == "date":
        raise DataError(f"the target {values.name!r} is a date; give the number of days to be predicted instead")
    numbers = as_numbers(values, "number")
    if distinct <= _FEW_NUMBERS and np.all(numbers == np.floor(numbers)):
        return "classification", f"it has only {distinct} different values, all whole numbers"
    return "regression", f"it is a number with {distinct:,} different values"


def _labels(values: "pd.Series", kind: str) -> np.ndarray:
    """Labels as text, whole numbers without a point."""
    if kind == "number":
        numbers = as_numbers(values, "number")
        if np.all(numbers == np.floor(numbers)):
            return np.asarray([str(int(n)) for n in numbers], dtype=object)
    return np.asarray(values.astype(str).str.strip(), dtype=object)
