"""Rows in tables: Parquet and Arrow files, and data frames of any make by Arrow's interchange protocol."""

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from posterion._optional import import_optional
from posterion.data.arrays import file_identity
from posterion.data.columns import Columns, ColumnsOf, Label, columns_of, refuse_missing
from posterion.data.source import MEMORY_LIMIT, AbstractChunkSource
from posterion.errors import DataError

Paths = str | PathLike | Sequence[str | PathLike]
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
    arrow = import_optional("pyarrow", "stream", "Parquet files")
    package = import_optional("pyarrow.parquet", "stream", "Parquet files")
    files, where = find_files(path, ".parquet")
    pieces: list[Piece] = []
    schema, first, missing = None, files[0], {}
    chosen = None if columns is None else {c for v in columns.values() for c in ([v] if isinstance(v, str) else v)}
    for file in files:
        try:
            metadata = package.read_metadata(file)
        except (OSError, arrow.ArrowInvalid) as error:
            raise DataError(f"{file} cannot be read as a Parquet file ({error})") from error
        keys = _partition_keys(file, path)
        own = metadata.schema.to_arrow_schema().remove_metadata()
        for name in (name for name in keys if name not in own.names):
            own = own.append(arrow.field(name, arrow.int64() if isinstance(keys[name], int) else arrow.string()))
        schema = own if schema is None else schema
        _same_schema(schema, own, first, file, chosen)
        for group in range(metadata.num_row_groups):
            facts = metadata.row_group(group)
            for name, count in _gaps(facts, chosen).items():
                missing[name] = missing.get(name, 0) + count
            place = f"{file}, row group {group}"
            pieces.append(Piece(facts.num_rows, place, _group_reader(package, arrow, file, metadata, group, keys)))
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
    package = import_optional("pyarrow", "stream", "Arrow files")
    ipc = import_optional("pyarrow.ipc", "stream", "Arrow files")
    files, where = find_files(path, ".arrow")
    pieces: list[Piece] = []
    schema, first = None, files[0]
    for file in files:
        try:
            reader = ipc.open_file(package.memory_map(str(file)))
        except (OSError, package.ArrowInvalid) as error:
            raise DataError(f"{file} cannot be read as an Arrow IPC file ({error})") from error
        schema = reader.schema if schema is None else schema
        _same_schema(schema, reader.schema, first, file, None)
        for k in range(reader.num_record_batches):
            rows = reader.get_batch(k).num_rows  # of a memory map: the batch's header is read, not its rows
            pieces.append(
                Piece(rows, f"{file}, record batch {k}", lambda names, r=reader, k=k: r.get_batch(k).select(names))
            )

    def distinct(column: str) -> Iterable[Any]:
        return set().union(*(piece.read([column]).column(0).unique().to_pylist() for piece in pieces))

    mapping = columns_of(columns, schema, where, categories, distinct)
    return TableSource(pieces, mapping, where, files, memory_limit)


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


def find_files(path: Paths, ending: str) -> tuple[list[Path], str]:
    """The files meant, sorted, and what DuckDB would call them."""
    if not isinstance(path, str | PathLike):
        listed = [find_files(one, ending)[0] for one in path]
        files = [file for part in listed for file in part]
        if not files:
            raise DataError("the list of files is empty")
        return files, fspath(files[0]) if len(files) == 1 else "', '".join(map(str, files[:3]))
    text = fspath(path)
    if Path(text).is_dir():
        files = sorted(file for file in Path(text).rglob(f"*{ending}") if not file.name.startswith((".", "_")))
        where = f"{text.rstrip('/')}/**/*{ending}"
    elif glob.has_magic(text) and not Path(text).exists():
        files, where = sorted(Path(file) for file in glob.glob(text, recursive=True)), text
    else:
        files, where = [Path(text)], text
        if not files[0].exists():
            raise DataError(f"there is no file or folder {text}")
    if not files:
        raise DataError(f"no file matches {where}")
    return files, where


def _partition_keys(file: Path, root: Paths) -> dict[str, str | int]:
    """Columns that stand in the names of folders, as in ``year=2024/part-0.parquet``; whole numbers as such."""
    if not isinstance(root, str | PathLike) or not Path(fspath(root)).is_dir():
        return {}
    named = (part.partition("=") for part in file.relative_to(fspath(root)).parts[:-1] if "=" in part)
    return {key: int(value) if value.lstrip("-").isdigit() else value for key, _, value in named}
