"""Tables from files: CSV, TSV, Parquet, Feather and Excel, whole or in parts, with errors that name the place."""

import csv
import io
import re
import sys
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posterion._optional import import_optional
from posterion.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

ROWS_PER_PART = 65_536
"""Rows that are held in memory at once when a file is read in parts."""

_SNIFFED_BYTES = 1 << 16
_DELIMITERS = ",;\t|"
_MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "-", "#N/A", "<NA>")
"""Cells that mean "not known". A bare question mark is the habit of many published data sets."""

STANDARD_INPUT = "-"


def read_table(path: str | PathLike) -> "pd.DataFrame":
    """Read a whole table.

    Parameters
    ----------
    path
        A file whose ending says what it is (``.csv``, ``.tsv``, ``.txt``, ``.parquet``, ``.feather``, ``.arrow``,
        ``.xlsx``), or ``-`` for CSV on standard input. CSV may be separated by commas, semicolons, tabs or bars, have
        decimal commas unless commas separate, and be compressed (``.csv.gz``). Of an Excel file the first sheet is
        read, or the one named after a colon (``patients.xlsx:2024``).

    Returns
    -------
    pandas.DataFrame
        With text for column names; cells such as ``NA`` or ``?`` are missing values.

    Raises
    ------
    DataError
        If there is no such file, it cannot be read as what it claims to be (with the line), it has no rows, or two
        columns have the same name.
    """
    import pandas as pd

    parts = list(read_parts(path, rows=sys.maxsize))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def read_parts(path: str | PathLike, *, rows: int = ROWS_PER_PART) -> Iterator["pd.DataFrame"]:
    """Read a table a part at a time, in memory that does not grow with the file (but for Excel, which is read whole).

    Parameters
    ----------
    path
        As for `read_table`.
    rows
        The most rows of a part.
    """
    name = str(path)
    kind = _kind(name)
    if kind == "csv":
        parts = _csv_parts(name, rows)
    elif kind == "parquet":
        parts = _parquet_parts(name, rows)
    elif kind == "feather":
        parts = _feather_parts(name, rows)
    else:
        parts = _excel_parts(*_sheet_of(name), rows)
    empty = True
    for part in parts:
        empty = empty and part.empty
        yield _with_checked_names(part, name)
    if empty:
        raise DataError(f"{_shown(name)} has no rows: expected a line of column names and at least one row below it")


def _kind(name: str) -> str:
    if name == STANDARD_INPUT:
        return "csv"
    path = Path(_sheet_of(name)[0])
    if path.is_dir():
        raise DataError(f"{name!r} is a folder; expected a file with a table")
    if not path.exists():
        raise DataError(f"there is no file {name!r}")
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in (".gz", ".bz2", ".xz", ".zst"):
        endings = endings[:-1]
    ending = endings[-1] if endings else ""
    kinds = {
        **dict.fromkeys((".csv", ".tsv", ".txt", ".data", ""), "csv"),
        **dict.fromkeys((".parquet", ".pq"), "parquet"),
        **dict.fromkeys((".feather", ".arrow", ".ipc"), "feather"),
        **dict.fromkeys((".xlsx", ".xlsm"), "excel"),
    }
    if ending not in kinds:
        raise DataError(
            f"{name!r}: tables are read from .csv, .tsv, .txt, .parquet, .feather, .arrow and .xlsx files, not from "
            f"{ending!r}; save it as one of them"
        )
    return kinds[ending]


def _shown(name: str) -> str:
    return "standard input" if name == STANDARD_INPUT else repr(name)


# ---- text
def _csv_parts(name: str, rows: int) -> Iterator["pd.DataFrame"]:
    import pandas as pd

    with _opened(name) as stream:
        head = stream.read(_SNIFFED_BYTES)
        if b"\x00" in head:
            raise DataError(f"{_shown(name)} is not text: it holds a zero byte at place {head.index(bytes(1)) + 1}")
        if not head.strip():
            raise DataError(f"{_shown(name)} is empty: expected a line of column names and rows below it")
        delimiter = _delimiter(head, name)
        first = head.decode("utf-8-sig", errors="replace").splitlines()[0]
        # pandas would rename the second of two equal columns without a word.
        _refuse_doubled([cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])], name)
        text = io.TextIOWrapper(_Joined(head, stream), encoding="utf-8-sig", newline="")
        options: dict[str, Any] = {
            "sep": delimiter,
            "decimal": _decimal(head, delimiter),
            "na_values": _MISSING,
            "keep_default_na": False,
            "skipinitialspace": True,
            "low_memory": False,
            "on_bad_lines": "error",
        }
        try:
            with pd.read_csv(text, chunksize=rows, **options) as reader:
                for part in reader:
                    if not isinstance(part.index, pd.RangeIndex):  # pandas takes what is too much for an index
                        raise DataError(
                            f"{_shown(name)} cannot be read as a table: its rows have more cells than the first line "
                            "has column names"
                        )
                    yield part
        except UnicodeDecodeError as error:
            raise DataError(
                f"{_shown(name)} is not in UTF-8: byte {error.object[error.start]:#04x} at place {error.start + 1} of "
                "what was read last; save it as UTF-8"
            ) from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, csv.Error, OverflowError) as error:
            reason = str(error).replace("Error tokenizing data. C error: ", "").strip().rstrip(".")
            raise DataError(f"{_shown(name)} cannot be read as a table: {reason}") from None


def _opened(name: str) -> Any:
    if name == STANDARD_INPUT:
        return sys.stdin.buffer
    endings = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
    module = endings.get(Path(name).suffix.lower())
    if module is None:
        return open(name, "rb")
    import importlib

    return importlib.import_module(module).open(name, "rb")


class _Joined(io.RawIOBase):
    """A stream with what was read from its beginning put back in front."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head, self._rest = io.BytesIO(head), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _delimiter(head: bytes, name: str) -> str:
    """The separator of the first line: the one that splits it most often outside of quotes."""
    if name.lower().endswith((".tsv", ".tsv.gz")):
        return "\t"
    first = head.decode("utf-8-sig", errors="replace").splitlines()[0]
    outside = "".join(part for k, part in enumerate(first.split('"')) if k % 2 == 0)
    counts = {delimiter: outside.count(delimiter) for delimiter in _DELIMITERS}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    return best if counts[best] else ","


def _decimal(head: bytes, delimiter: str) -> str:
    """A comma if the numbers of the first rows have one, as they do in most of Europe and South America.

    It is none where commas separate the cells, where other numbers have a point, or where every comma stands before
    three digits, as those between thousands do.
    """
    if delimiter == ",":
        return "."
    text = head.decode("utf-8-sig", errors="replace")
    cells = [cell.strip().strip('"') for line in text.splitlines()[1:] for cell in line.split(delimiter)]
    commas = [cell for cell in cells if _WITH_COMMA.fullmatch(cell)]
    thousands = all(_THOUSANDS.fullmatch(cell) for cell in commas)
    return "," if commas and not thousands and not any(_WITH_POINT.fullmatch(cell) for cell in cells) else "."


_WITH_COMMA, _WITH_POINT = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.I), re.compile(r"[-+]?\d*\.\d+(e[-+]?\d+)?", re.I)
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


# ---- binary
def _parquet_parts(name: str, rows: int) -> Iterator["pd.DataFrame"]:
    parquet = import_optional("pyarrow.parquet", "stream", "Reading Parquet files")
    import pyarrow

    try:
        with parquet.ParquetFile(name) as file:
            if rows == sys.maxsize:
                yield file.read().to_pandas()
                return
            for batch in file.iter_batches(batch_size=rows):
                yield batch.to_pandas()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name!r} cannot be read as Parquet: {_first_line(error)}") from None


def _feather_parts(name: str, rows: int) -> Iterator["pd.DataFrame"]:
    feather = import_optional("pyarrow.feather", "stream", "Reading Feather files")
    import pyarrow

    try:
        table = feather.read_table(name, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name!r} cannot be read as Feather: {_first_line(error)}") from None
    for start in range(0, max(table.num_rows, 1), min(rows, max(table.num_rows, 1))):
        yield table.slice(start, rows).to_pandas()


def _sheet_of(name: str) -> tuple[str, str | None]:
    """The file, and the sheet that is named after a colon behind an Excel file's ending."""
    found = re.fullmatch(r"(.+\.xls[xm]):(.+)", name, re.I)
    return (name, None) if found is None or Path(name).exists() else (found[1], found[2])


def _excel_parts(name: str, sheet: str | None, rows: int) -> Iterator["pd.DataFrame"]:
    import_optional("openpyxl", "tables", "Reading Excel files")
    import zipfile

    import pandas as pd

    try:
        with pd.ExcelFile(name) as book:
            if sheet is not None and sheet not in book.sheet_names:
                raise DataError(f"{name!r} has no sheet {sheet!r}; it has {book.sheet_names}")
            frame = pd.read_excel(book, 0 if sheet is None else sheet, na_values=_MISSING, keep_default_na=False)
            frame.attrs["sheets"] = book.sheet_names
    except DataError:
        raise
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{name!r} cannot be read as an Excel file: {_first_line(error)}") from None
    for start in range(0, max(len(frame), 1), min(rows, max(len(frame), 1))):
        yield frame.iloc[start : start + rows]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _with_checked_names(frame: "pd.DataFrame", name: str) -> "pd.DataFrame":
    names = [str(column).strip() for column in frame.columns]
    _refuse_doubled(names, name)
    frame = frame.copy(deep=False)
    frame.columns = names
    return frame


def _refuse_doubled(names: list[str], name: str) -> None:
    doubled = sorted({one for one in names if one and names.count(one) > 1})
    if doubled:
        raise DataError(f"{_shown(name)} has more than one column named {doubled}; give each a name of its own")
