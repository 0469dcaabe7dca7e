"""Rows in tables: Parquet and Arrow files, and data frames of any make by Arrow's interchange protocol."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from posterion._optional import import_optional
from posterion.data.arrays import file_identity
from posterion.data.columns import Columns, ColumnsOf, Label, columns_of, refuse_missing
from posterion.data.files import Paths, find_files, partition_keys
from posterion.data.source import MEMORY_LIMIT, AbstractChunkSource
from posterion.errors import DataError

_FRAME_ROWS = 1 << 16


@dataclass(frozen=True)
class Piece:
    """One chunk of a table: how many rows, where, and how to read some columns of it."""

    rows: int
    place: str
    read: Callable[[list[str]], Any]


class TableSource(AbstractChunkSource):
    """Chunks of a table, of whatever format.

    Parameters
    ----------
    pieces
        The chunks in order.
    columns
        Which columns make which input.
    where
        The path or what else was given, for messages.
    files
        What the chunks lie in.
    memory_limit
        See `AbstractSource.memory_limit`.
    """

    def __init__(
        self, pieces: Sequence[Piece], columns: Columns, where: str, files: Sequence[Path], memory_limit: int
    ) -> None:
        self._pieces = [piece for piece in pieces if piece.rows]
        if not self._pieces:
            raise DataError(f"{where} has no rows")
        self._columns, self._where, self._files, self.memory_limit = columns, where, list(files), memory_limit
        self._rows = np.array([piece.rows for piece in self._pieces], np.int64)

    @property
    def chunk_rows(self) -> Int[np.ndarray, " chunks"]:
        return self._rows

    @property
    def columns(self) -> dict[str, Any]:
        return self._columns.to_plain()

    def read(self, chunk: int) -> dict[str, np.ndarray]:
        piece = self._pieces[chunk]
        return self._columns.arrays(piece.read(self._columns.names), piece.place)

    def place(self, chunk: int) -> str:
        return self._pieces[chunk].place

    @property
    def how_to_shuffle(self) -> str:
        return (
            "Write them in random order once, which DuckDB does in bounded memory: "
            f"COPY (SELECT * FROM '{self._where}' ORDER BY random()) TO 'shuffled.parquet' "
            "(FORMAT parquet, ROW_GROUP_SIZE 65536)"
        )

    @property
    def identity(self) -> list[Any]:
        return [file_identity(path) for path in self._files]


def parquet(
    path: Paths,
    columns: ColumnsOf | None = None,
    *,
    categories: Mapping[str, Sequence[Label]] | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> TableSource:
    """Rows in Parquet files, read row group by row group.

    Parameters
    ----------
    path
        A file, a list of files, a pattern such as ``"clicks/*.parquet"``, or a folder, whose subfolders named
        ``key=value`` become columns.
    columns
        Columns by the names of the model's inputs: a list makes an input with one column per entry, a name an input
        with one axis. None takes every column for the input of its name.
    categories
        Labels in the order of their codes 0, 1, ... by column. Without it the labels of text columns are looked up
        in all files and sorted.
    memory_limit
        Rows of more bytes than this are streamed; fewer are read into memory by `posterion.fit`.

    Raises
    ------
    DataError
        If there is no such file or column, the files differ, values are missing, or a column holds no numbers.
    MissingExtraError
        If PyArrow is not installed.
    """
    pyarrow = import_optional("pyarrow", "stream", "Parquet files")
    package = import_optional("pyarrow.parquet", "stream", "Parquet files")

    def look(file: Path, chosen: set[str] | None) -> _Contents:
        try:
            metadata = package.read_metadata(file)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise DataError(f"{file} cannot be read as a Parquet file ({error})") from error
        keys = partition_keys(file, path)
        schema = metadata.schema.to_arrow_schema().remove_metadata()
        for name in (name for name in keys if name not in schema.names):
            schema = schema.append(
                pyarrow.field(name, pyarrow.int64() if isinstance(keys[name], int) else pyarrow.string())
            )
        pieces, missing = [], Counter[str]()
        for group in range(metadata.num_row_groups):
            facts = metadata.row_group(group)
            missing.update(_gaps(facts, chosen))
            read = _group_reader(package, pyarrow, file, metadata, group, keys)
            pieces.append(Piece(facts.num_rows, f"{file}, row group {group}", read))
        return _Contents(schema, pieces, missing)

    return _of_files(path, ".parquet", look, columns, categories, memory_limit)


@dataclass(frozen=True)
class _Contents:
    """Of one file: its columns, its chunks, and how many values are missing as far as it says so itself."""

    schema: Any
    pieces: list[Piece]
    missing: Counter[str]


def _of_files(
    path: Paths,
    ending: str,
    look: Callable[[Path, set[str] | None], _Contents],
    columns: ColumnsOf | None,
    categories: Mapping[str, Sequence[Label]] | None,
    memory_limit: int,
) -> TableSource:
    """One table of files of any format: ``look(file, wanted columns)`` says what one of them holds."""
    files, where = find_files(path, ending)
    chosen = None if columns is None else {c for v in columns.values() for c in ([v] if isinstance(v, str) else v)}
    pieces: list[Piece] = []
    schema, missing = None, Counter[str]()
    for file in files:
        found = look(file, chosen)
        schema = found.schema if schema is None else schema
        _same_schema(schema, found.schema, files[0], file, chosen)
        pieces += found.pieces
        missing.update(found.missing)
    refuse_missing(missing, where)

    def distinct(column: str) -> Iterable[Any]:
        return set().union(*(piece.read([column]).column(0).unique().to_pylist() for piece in pieces if piece.rows))

    mapping = columns_of(columns, schema, where, categories, distinct)
    return TableSource(pieces, mapping, where, files, memory_limit)


def _group_reader(package: Any, arrow: Any, file: Path, metadata: Any, group: int, keys: dict) -> Callable:
    def read(names: list[str]) -> Any:
        stored = [name for name in names if name not in keys]
        # Opened anew, with the footer already parsed: no handles shared by threads, none left open.
        with package.ParquetFile(file, metadata=metadata, pre_buffer=False) as opened:
            table = opened.read_row_group(group, columns=stored, use_threads=False)
        for name in (name for name in names if name in keys):
            table = table.append_column(name, arrow.array([keys[name]] * metadata.row_group(group).num_rows))
        return table

    return read


def _gaps(facts: Any, chosen: set[str] | None) -> dict[str, int]:
    """Missing values by column, as far as the file's statistics tell."""
    gaps = {}
    for k in range(facts.num_columns):
        column = facts.column(k)
        if chosen is not None and column.path_in_schema not in chosen:
            continue
        if column.statistics is not None and column.statistics.has_null_count and column.statistics.null_count:
            gaps[column.path_in_schema] = column.statistics.null_count
    return gaps


def _same_schema(schema: Any, own: Any, first: Path, file: Path, chosen: set[str] | None) -> None:
    for name in schema.names if chosen is None else chosen:
        if name not in schema.names:
            continue  # said elsewhere, with the columns there are
        if name not in own.names:
            raise DataError(f"{first} has a column {name!r} and {file} has not; its columns are {own.names}")
        if own.field(name).type != schema.field(name).type:
            raise DataError(
                f"column {name!r} is {schema.field(name).type} in {first} and {own.field(name).type} in {file}: "
                "write them with one type"
            )


def arrow(
    path: Paths,
    columns: ColumnsOf | None = None,
    *,
    categories: Mapping[str, Sequence[Label]] | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> TableSource:
    """Rows in Arrow IPC files (Feather, version 2), memory-mapped and read record batch by record batch.

    Parameters
    ----------
    path
        A file, a list of files, a pattern, or a folder of ``.arrow`` files.
    columns, categories, memory_limit
        As for `parquet`.

    Raises
    ------
    DataError
        As `parquet` does.
    MissingExtraError
        If PyArrow is not installed.
    """
    pyarrow = import_optional("pyarrow", "stream", "Arrow files")
    ipc = import_optional("pyarrow.ipc", "stream", "Arrow files")

    def look(file: Path, chosen: set[str] | None) -> _Contents:
        try:
            reader = ipc.open_file(pyarrow.memory_map(str(file)))
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise DataError(f"{file} cannot be read as an Arrow IPC file ({error})") from error
        pieces = [
            # Of a memory map: the batch's header is read, not its rows.
            Piece(
                reader.get_batch(k).num_rows,
                f"{file}, record batch {k}",
                lambda names, k=k: reader.get_batch(k).select(names),
            )
            for k in range(reader.num_record_batches)
        ]
        return _Contents(reader.schema, pieces, Counter())

    return _of_files(path, ".arrow", look, columns, categories, memory_limit)


def frame(
    table: Any,
    columns: ColumnsOf | None = None,
    *,
    categories: Mapping[str, Sequence[Label]] | None = None,
) -> TableSource:
    """Rows of a table in memory: pandas, Polars, PyArrow, a DuckDB relation, anything that speaks Arrow.

    Parameters
    ----------
    table
        The table. A pandas index is not part of it.
    columns, categories
        As for `parquet`.

    Raises
    ------
    DataError
        If it is no table, or as `parquet` does.
    MissingExtraError
        If PyArrow is not installed.
    """
    package = import_optional("pyarrow", "stream", "Tables")
    if hasattr(table, "iloc"):
        whole = package.Table.from_pandas(table, preserve_index=False)
    elif isinstance(table, package.Table):
        whole = table
    elif hasattr(table, "__arrow_c_stream__"):
        whole = package.table(table)
    else:
        raise DataError(
            f"{type(table).__name__} is no table that speaks Arrow: pass a pandas, Polars or PyArrow table, a DuckDB "
            "relation, or a dict of arrays to posterion.data.arrays"
        )

    def piece(start: int) -> Piece:
        stop = min(start + _FRAME_ROWS, whole.num_rows)
        part = lambda names: whole.select(names).slice(start, stop - start)
        return Piece(stop - start, f"the table, rows {start} to {stop}", part)

    pieces = [piece(start) for start in range(0, whole.num_rows, _FRAME_ROWS)]
    distinct = lambda column: whole.column(column).unique().to_pylist()
    mapping = columns_of(columns, whole.schema, "the table", categories, distinct)
    return TableSource(pieces, mapping, "the table", [], MEMORY_LIMIT)
