"""What the columns of a table are: numbers, categories, truth values or dates; and which cannot be used, and why."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from posterion.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "category", "boolean", "date"]

MOST_CATEGORIES = 50
"""Labels of a column of text beyond which it is taken for free text, or has its rare labels joined."""
_CATEGORY_SHARE = 0.5
"""Distinct labels per row from which a column of text says something else in every row."""
_TRUTH = {"true": True, "false": False, "yes": True, "no": False, "t": True, "f": False, "y": True, "n": False}
_DATE = re.compile(r"(\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}\.\d{1,2}\.\d{4})([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?Z?")
"""Dates that can be read in one way only: the year first, or the day first and points between."""
_TWO_WAYS = re.compile(r"\d{1,2}[-/]\d{1,2}[-/](\d{2}|\d{4})( .*)?")
_NUMBER_WITH_MORE = re.compile(r"[^\w\s]{0,2} ?\d[\d.,' ]*([^\w\s]|[A-Za-z]{1,3})?")
"""Money, thousands with marks between them, units, percentages: none of them like the numbers of a contract."""
_EXPECTED = {"number": "a number", "boolean": "yes or no, or true or false", "date": "a date such as 2020-03-31"}
_LARGEST_WHOLE = 2.0**53
"""From here on float64 cannot tell all whole numbers apart."""
_SECONDS_PER_YEAR = 365.25 * 86_400


@dataclass(frozen=True)
class Column:
    """One usable column.

    Parameters
    ----------
    name
        As in the table.
    kind
        What its cells are.
    categories
        Labels seen in the training rows, most frequent first (for "category").
    low, high, middle
        Smallest, largest and median value in the training rows (for "number"; of a "date", in years since 1970).
    missing
        Training rows without a value.
    whole
        Whether all its numbers are whole.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    low: float = math.nan
    high: float = math.nan
    middle: float = math.nan
    missing: int = 0
    whole: bool = False

    def describe(self) -> str:
        """Its content in a few words, for a listing."""
        if self.kind == "category":
            shown = ", ".join(self.categories[:4]) + (", ..." if len(self.categories) > 4 else "")
            return f"{len(self.categories)} labels: {shown}"
        if self.kind == "boolean":
            return "true or false"
        if self.kind == "date":
            return f"{self.written(self.low)} to {self.written(self.high)}"
        return f"{self.low:g} to {self.high:g}, median {self.middle:g}"

    def written(self, value: Any) -> str:
        """A checked cell as a person would write it."""
        if value is None or value != value:
            return ""
        if self.kind == "date":
            return str(np.datetime64("1970-01-01") + np.timedelta64(round(value * _SECONDS_PER_YEAR), "s"))[:10]
        if self.kind == "boolean":
            return "yes" if value else "no"
        return f"{value:.4g}" if self.kind == "number" else str(value)


@dataclass(frozen=True)
class Schema:
    """The columns a model takes, and those it leaves out.

    Parameters
    ----------
    columns
        The inputs, in the order of the table.
    dropped
        Name of every column that is left out, with the reason.
    num_rows
        Training rows.
    """

    columns: tuple[Column, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    num_rows: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the inputs."""
        return [column.name for column in self.columns]

    def to_plain(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Schema":
        """The inverse of `to_plain`."""
        columns = tuple(Column(**(c | {"categories": tuple(c["categories"])})) for c in plain["columns"])
        dropped = tuple((name, reason) for name, reason in plain["dropped"])
        return cls(columns, dropped, plain["num_rows"])


def infer_schema(
    frame: "pd.DataFrame", *, leave_out: Sequence[str] = (), whole: "pd.DataFrame | None" = None
) -> Schema:
    """Decide what every column is.

    Parameters
    ----------
    frame
        Training rows.
    leave_out
        Columns that are not inputs (the target, names the user excludes).
    whole
        The table the training rows are a part of: what numbers its rows may have gaps in a part of them.

    Raises
    ------
    DataError
        If no usable column is left; the message lists every column with the reason.
    """
    columns: list[Column] = []
    dropped: list[tuple[str, str]] = []
    for name in frame.columns:
        if name in leave_out:
            continue
        found = _column(frame[name])
        if whole is not None and not isinstance(found, str):
            in_whole = _column(whole[name])
            found = in_whole if isinstance(in_whole, str) else found
        if isinstance(found, str):
            dropped.append((name, found))
        else:
            columns.append(found)
    if not columns:
        reasons = "; ".join(f"{name!r} {reason}" for name, reason in dropped) or "there is no other column"
        raise DataError(f"no column can serve as an input: {reasons}")
    return Schema(tuple(columns), tuple(dropped), len(frame))


def _column(values: "pd.Series") -> Column | str:
    """The column, or why it cannot be used."""
    name, known = str(values.name), values.dropna()
    missing = len(values) - len(known)
    if known.empty:
        return "has no values"
    if known.nunique() == 1 and not missing:
        return f"is constant ({_shorten(known.iloc[0])} in every row)"
    kind = kind_of(values)
    if kind == "boolean":
        return Column(name, kind, missing=missing)
    if kind in ("number", "date"):
        numbers = as_numbers(values, kind)
        finite = numbers[np.isfinite(numbers)]
        infinite = int(np.sum(np.isinf(numbers)))
        if infinite:
            raise DataError(f"column {name!r} has {infinite} infinite values; leave those cells empty, or correct them")
        whole = bool(np.all(finite == np.floor(finite))) and kind == "number"
        if whole and not missing and _is_counter(finite):
            return "numbers the rows (an identifier)"
        if whole and np.abs(finite).max() >= _LARGEST_WHOLE and known.nunique() > np.unique(finite).size:
            return "has whole numbers beyond 2^53, too long to be told apart as numbers (an identifier)"
        low, middle, high = (float(x) for x in np.quantile(finite, (0.0, 0.5, 1.0)))
        return Column(name, kind, (), low, high, middle, missing, whole)
    labels = known.astype(str).str.strip()
    counts = labels.value_counts()
    if len(counts) > MOST_CATEGORIES and len(counts) > _CATEGORY_SHARE * len(known):
        what = "is different in nearly every row (an identifier or free text)"
        return f"{what}: {len(counts):,} values in {len(known):,} rows" + unread(known)
    return Column(name, "category", tuple(map(str, counts.index)), missing=missing)


def unread(known: "pd.Series") -> str:
    """What to do about text that a person would read as numbers or dates; nothing if it is just text."""
    text = known.astype(str).str.strip()
    if text.str.fullmatch(_TWO_WAYS).all():
        return f". Dates such as {_shorten(text.iloc[0])} can be read in two ways: write them as 2020-03-31"
    if text.str.fullmatch(_NUMBER_WITH_MORE).all() and text.str.contains(r"[.,'€$£¥%]").any():
        return f". For numbers such as {_shorten(text.iloc[0])} to be read, write them as 1234.5, without anything else"
    return ""


def other_sheets(frame: "pd.DataFrame") -> str:
    """Where else a column may be that the table lacks: in another sheet of the Excel file it was read from."""
    sheets = frame.attrs.get("sheets", [])
    if len(sheets) < 2:
        return ""
    return f". Its Excel file has the sheets {sheets}, of which the first is read unless one is named: FILE.xlsx:SHEET"


def kind_of(values: "pd.Series") -> Kind:
    """What the cells of a column are, by their type and, for text, by what they say."""
    import pandas as pd
    from pandas.api import types

    known = values.dropna()
    if types.is_bool_dtype(known.dtype):
        return "boolean"
    if types.is_numeric_dtype(known.dtype):
        return "number"
    if types.is_datetime64_any_dtype(known.dtype):
        return "date"
    text = pd.Series(known.astype(str).unique(), dtype=object).str.strip()  # few, even where there are many rows
    if set(text.str.lower()) <= set(_TRUTH):
        return "boolean"
    if pd.to_numeric(text, errors="coerce").notna().all():
        return "number"
    return "date" if text.str.fullmatch(_DATE).all() else "category"


def as_numbers(values: "pd.Series", kind: Kind) -> np.ndarray:
    """The cells as float64, NaN where missing or not to be understood; dates as years since 1970."""
    import pandas as pd

    if kind == "date":
        if pd.api.types.is_numeric_dtype(values.dtype):  # truth values, too: what a part of a table was taken for
            return np.full(len(values), np.nan)
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            values = values.astype("string").str.strip()
            values = values.str.replace(r"^(\d{1,2})\.(\d{1,2})\.(\d{4})", r"\3-\2-\1", regex=True)
            values = values.str.replace(r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})", _padded, regex=True)
        dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
        seconds = (dates - pd.Timestamp("1970-01-01", tz="UTC")).dt.total_seconds()
        return np.asarray(seconds, np.float64) / _SECONDS_PER_YEAR
    if kind == "boolean":
        text = values.astype("string").str.strip().str.lower()
        truth = text.map({**_TRUTH, "1": True, "0": False, "1.0": True, "0.0": False})
        return np.asarray(truth.astype("float64"), np.float64)
    return np.asarray(pd.to_numeric(values, errors="coerce"), np.float64)


def _padded(date: re.Match) -> str:
    return f"{date[1]}-{date[2]:0>2}-{date[3]:0>2}"


def _is_counter(numbers: np.ndarray) -> bool:
    """Whether whole numbers count the rows up, in any order, with few gaps (rows that were taken out)."""
    rows = numbers.size
    return bool(rows > 20 and np.unique(numbers).size == rows and np.ptp(numbers) < 1.1 * rows)


def _shorten(value: Any) -> str:
    text = repr(value.item() if hasattr(value, "item") else value)
    return text if len(text) < 30 else text[:27] + "..."


@dataclass(frozen=True)
class Checked:
    """Rows that fit a schema.

    Parameters
    ----------
    frame
        One column per input: numbers as float64 with NaN for missing, categories as text with None for missing.
    notes
        What was noticed: labels never seen in training, values far outside the training range, columns not used.
    """

    frame: "pd.DataFrame"
    notes: tuple[str, ...] = ()


def check_rows(frame: "pd.DataFrame", schema: Schema, *, first_row: int = 1) -> Checked:
    """Hold new rows against the schema of the training rows.

    Parameters
    ----------
    frame
        New rows; columns the schema does not know are left out.
    schema
        What the model takes.
    first_row
        Number of the first row, for messages.

    Raises
    ------
    DataError
        If an input is missing, or a cell is not what its column holds; the message names column, row and cell.
    """
    import pandas as pd

    absent = [name for name in schema.names if name not in frame.columns]
    if absent:
        raise DataError(f"the rows lack the columns {absent}; the model takes {schema.names}{other_sheets(frame)}")
    cells: dict[str, np.ndarray] = {}
    for column in schema.columns:
        values = frame[column.name]
        if column.kind == "category":
            text = values.where(values.isna(), values.astype(str).str.strip()).astype(object)
            cells[column.name] = text.where(text.notna(), None).to_numpy()
            continue
        numbers = as_numbers(values, column.kind)
        wrong = np.flatnonzero((np.isnan(numbers) & values.notna().to_numpy()) | np.isinf(numbers))
        if wrong.size:
            cell, wanted = _shorten(values.iloc[wrong[0]]), _EXPECTED[column.kind]
            raise DataError(
                f"column {column.name!r}, row {first_row + int(wrong[0])}: found {cell}, expected {wanted}"
                + (f" ({wrong.size} such cells)" if wrong.size > 1 else "")
            )
        cells[column.name] = numbers
    # Each with its type: pandas would make text of objects, with NaN in place of None.
    columns = {name: pd.Series(values, frame.index, dtype=values.dtype) for name, values in cells.items()}
    return Checked(pd.DataFrame(columns, index=frame.index), notes_on(cells, schema))


def notes_on(cells: Mapping[str, np.ndarray], schema: Schema) -> tuple[str, ...]:
    """What is unlike the training rows in checked rows: labels never seen, numbers far outside.

    Parameters
    ----------
    cells
        One array for each column: numbers as float64, labels as text or None.
    schema
        What the model takes.
    """
    notes = []
    for column in schema.columns:
        values = cells[column.name]
        if column.kind == "category":
            strange = sorted({cell for cell in values.tolist() if isinstance(cell, str)} - set(column.categories))
            if strange:
                shown = ", ".join(map(repr, strange[:3])) + (", ..." if len(strange) > 3 else "")
                notes.append(f"column {column.name!r} has labels that training did not: {shown}")
        elif column.kind != "boolean":
            reach = column.high - column.low
            far = int(np.count_nonzero((values < column.low - reach) | (values > column.high + reach)))
            if far:
                notes.append(
                    f"column {column.name!r} has {far} {'value' if far == 1 else 'values'} far outside the training "
                    f"rows' {column.written(column.low)} to {column.written(column.high)}"
                )
    return tuple(notes)
