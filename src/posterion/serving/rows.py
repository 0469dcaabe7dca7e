"""From what people send to rows a model can take: JSON objects and CSV cells, with row and column of every fault."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, Any

import numpy as np

from posterion.serving.model import Input, ServedModel

_MOST_FAULTS = 20
_TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")
_LARGEST_LINE = 1 << 20
_LARGEST = 1e300
_PLAIN = {float, int}
_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?)?Z?")
_DAY_FIRST = re.compile(r"^(\d{1,2})\.(\d{1,2})\.(\d{4})")
_DECIMAL_COMMA, _THOUSANDS = r"^\s*([-+]?\d*),(\d+)\s*$", r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*"
_SECONDS_PER_YEAR = 365.25 * 86_400


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request.

    Parameters
    ----------
    message
        What was found and what was expected.
    row
        Number of the row, from 1; None if it is not about one.
    column
        Name of the column; None if it is not about one.
    """

    message: str
    row: int | None = None
    column: str | None = None


class RefusedError(Exception):
    """A request that cannot be answered.

    Parameters
    ----------
    faults
        Why.
    status
        The HTTP status.
    """

    def __init__(self, faults: Sequence[Fault], status: int = 422) -> None:
        super().__init__(faults[0].message)
        self.faults, self.status = tuple(faults[:_MOST_FAULTS]), status


def frame_from_json(model: ServedModel, rows: Sequence[Mapping[str, Any]], *, most: int) -> Any:
    """A DataFrame of the model's inputs from JSON objects.

    Raises
    ------
    RefusedError
        With every fault, up to twenty.
    """
    import pandas

    if not rows:
        raise RefusedError([Fault("rows is empty: send at least one row")])
    if len(rows) > most:
        raise RefusedError([Fault(f"{len(rows):,} rows in one request; at most {most:,} are accepted")], 413)
    names = tuple(one.name for one in model.inputs)
    if all(one.kind == "number" for one in model.inputs):
        numbers = _numbers(names, rows)
        if numbers is not None:
            return pandas.DataFrame(numbers, columns=_index(names))
    faults: list[Fault] = []
    known = set(names)
    for number, row in enumerate(rows, 1):
        strange = next((name for name in row if name not in known), None)
        if strange is not None:
            faults.append(Fault(f"the model has no column {_short(strange)}", number, _written(strange)[:100]))
    columns: dict[str, Any] = {}
    for one in model.inputs:
        cells = []
        for number, row in enumerate(rows, 1):
            value, fault = _cell(one, row.get(one.name), absent=one.name not in row, missing=model.takes_missing)
            if fault:
                faults.append(Fault(fault, number, one.name))
            cells.append(value)
        columns[one.name] = np.asarray(cells, dtype=object if one.kind == "category" else np.float64)
    if faults:
        raise RefusedError(sorted(faults, key=lambda fault: fault.row or 0))
    if all(one.kind != "category" for one in model.inputs):  # one block of numbers is made faster than thirty columns
        return pandas.DataFrame(np.stack(list(columns.values()), axis=1), columns=_index(names))
    return _frame(columns)


def _numbers(names: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """The rows as one array if all cells are plain numbers, as nearly always; None if they need a closer look."""
    try:
        lines = [[row[name] for name in names] for row in rows]
        if any(len(row) != len(names) for row in rows) or not {type(cell) for line in lines for cell in line} <= _PLAIN:
            return None
        numbers = np.array(lines, np.float64)
    except (KeyError, OverflowError):
        return None
    return numbers if np.all(np.abs(numbers) <= _LARGEST) else None  # which NaN is not


@lru_cache(maxsize=64)
def _index(names: tuple[str, ...]) -> Any:
    """Made once: for one row it takes longer than the rest of the table."""
    import pandas

    return pandas.Index(list(names))


def _frame(columns: Mapping[str, np.ndarray]) -> Any:
    """The columns as they are: pandas would make its own text of objects, with NaN in place of None."""
    import pandas

    return pandas.DataFrame({name: pandas.Series(values, dtype=values.dtype) for name, values in columns.items()})


def _cell(one: Input, value: Any, *, absent: bool, missing: bool) -> tuple[Any, str | None]:
    """The cell as the model takes it, or what is wrong with it."""
    nothing = None if one.kind == "category" else math.nan
    if value is None or (isinstance(value, str) and value.strip() in _MISSING):
        if missing:
            return nothing, None
        return nothing, "missing" if absent else "empty, and this model takes no missing values"
    if one.kind == "category":
        if not isinstance(value, str | int | float | bool):
            return None, f"found {_short(value)}, expected a label"
        label = _written(value).strip()
        # A label never seen is no fault where the model knows what to do with it, which is where it takes missing ones.
        if not missing and one.categories and label not in one.categories:
            return None, f"found {_short(label)}, expected one of {', '.join(map(_short, one.categories[:10]))}"
        return label, None
    if isinstance(value, str):
        text = value.strip()
        if one.kind == "boolean" and text.lower() in _TRUTH:
            return _TRUTH[text.lower()], None
        years = _years(text) if one.kind == "date" else None
        if years is not None:
            return years, None
        try:
            value = float(text)
        except ValueError:
            return math.nan, f"found {_short(value)}, expected {_expected(one)}"
    if isinstance(value, bool) and one.kind == "boolean":
        return float(value), None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan, f"found {_short(value)}, expected {_expected(one)}"
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or abs(number) > _LARGEST or (one.kind == "boolean" and number not in (0.0, 1.0)):
        return math.nan, f"found {_short(value)}, expected {_expected(one)}"
    return number, None


def _expected(one: Input) -> str:
    return {"boolean": "true or false", "date": "a date such as 2020-03-31"}.get(one.kind, "a finite number")


def _years(text: str) -> float | None:
    """Years from 1970 to a date that is written as one; None if there is no such day."""
    found = _DATE.fullmatch(_DAY_FIRST.sub(r"\3-\2-\1", text))
    if found is None:
        return None
    try:
        day = datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)
    except ValueError:
        return None
    return day.timestamp() / _SECONDS_PER_YEAR


def _written(value: Any) -> str:
    """As text that can be written: halves of characters, which JSON can hold and no file can, become question marks."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def frames_from_csv(model: ServedModel, file: IO[bytes], *, rows: int, most: int) -> Iterator[Any]:
    """DataFrames of the model's inputs from CSV with a line of names, a part at a time; other columns are left out.

    Raises
    ------
    RefusedError
        With the first faults.
    """
    import pandas

    start = file.tell()
    first = file.readline(_LARGEST_LINE)
    if not first.strip():
        raise RefusedError([Fault("the table is empty: expected a line of column names and rows below it")])
    delimiter = max(b",;\t|", key=lambda mark: first.count(bytes([mark])))
    file.seek(start)
    done, wanted = 0, [one.name for one in model.inputs]
    try:
        reader = pandas.read_csv(
            file,
            sep=chr(delimiter),
            dtype=str,
            keep_default_na=False,
            na_values=[],
            chunksize=rows,
            encoding="utf-8-sig",
            on_bad_lines="error",
            low_memory=True,
        )
        with reader as parts:
            for part in parts:
                if done == 0:
                    absent = [name for name in wanted if name not in part.columns]
                    if absent:
                        raise RefusedError([Fault(f"the table has no column {_short(n)}", None, n) for n in absent])
                if part.empty:
                    continue
                if done + len(part) > most:
                    raise RefusedError([Fault(f"the table has more than {most:,} rows")], 413)
                cells = part[wanted] if delimiter == ord(",") else _with_points(model, part[wanted])
                yield _checked(model, cells, done)
                done += len(part)
    except UnicodeDecodeError as error:
        raise RefusedError([Fault("the table is not UTF-8 text; save it as CSV UTF-8")]) from error
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        detail = str(error).replace("Error tokenizing data. C error: ", "").strip()
        raise RefusedError([Fault(f"the table cannot be read as CSV: {detail}")]) from error
    if done == 0:
        raise RefusedError([Fault("the table has column names but no rows")])


def _with_points(model: ServedModel, part: Any) -> Any:
    """Decimal commas as points, unless all commas of a column may be those between thousands: these are refused."""
    written = {}
    for one in model.inputs:
        cells = part[one.name]
        commas = cells[cells.str.contains(",", regex=False)] if one.kind == "number" else cells[:0]
        if len(commas) and not commas.str.fullmatch(_THOUSANDS).all():
            written[one.name] = cells.str.replace(_DECIMAL_COMMA, r"\1.\2", regex=True)
    return part.assign(**written)


def _checked(model: ServedModel, part: Any, before: int) -> Any:
    import pandas

    columns, faults = {}, []
    for one in model.inputs:
        cells = part[one.name].reset_index(drop=True)
        if one.kind != "category":
            quick = np.asarray(pandas.to_numeric(cells, errors="coerce"), np.float64)
            fits = np.isin(quick, (0.0, 1.0)) if one.kind == "boolean" else np.abs(quick) <= _LARGEST
            if np.all(fits):  # all cells are numbers, as nearly always
                columns[one.name] = quick
                continue
        values = []
        for number, text in enumerate(cells.tolist()):
            value, fault = _cell(one, text, absent=False, missing=model.takes_missing)
            if fault and len(faults) < _MOST_FAULTS:
                faults.append(Fault(fault, before + number + 1, one.name))
            values.append(value)
        columns[one.name] = np.asarray(values, dtype=object if one.kind == "category" else np.float64)
    if faults:
        raise RefusedError(sorted(faults, key=lambda fault: fault.row or 0))
    return _frame(columns)
