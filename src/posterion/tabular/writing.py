"""Predictions to a file or to standard output, a part at a time; a file appears whole or not at all."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posterion._optional import import_optional
from posterion.errors import OptionError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def writer(path: str | os.PathLike | None, *, index: bool = False) -> Iterator[Callable[["pd.DataFrame"], Any]]:
    """A function that writes one part of a table after the other.

    Parameters
    ----------
    path
        A ``.csv``, ``.tsv``, ``.parquet`` or ``.feather`` file; None for CSV on standard output.
    index
        Whether to write the index as the first column.

    Raises
    ------
    OptionError
        For a file of another kind, before anything is written.
    """
    if path is None:
        yield _text_parts(sys.stdout, ",", index)
        return
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".csv", ".tsv", ".parquet", ".feather"):
        raise OptionError(f"predictions are written to .csv, .tsv, .parquet or .feather files, not to {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        if ending in (".csv", ".tsv"):
            with open(name, "w", encoding="utf-8", newline="") as stream:
                yield _text_parts(stream, "\t" if ending == ".tsv" else ",", index)
        else:
            with _arrow_parts(name, ending, index) as write:
                yield write
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _text_parts(stream: Any, separator: str, index: bool) -> Callable[["pd.DataFrame"], Any]:  # noqa: FBT001
    first = True

    def write(part: "pd.DataFrame") -> None:
        nonlocal first
        part.to_csv(stream, sep=separator, index=index, header=first)
        first = False

    return write


@contextmanager
def _arrow_parts(name: str, ending: str, index: bool) -> Iterator[Callable[["pd.DataFrame"], Any]]:  # noqa: FBT001
    import_optional("pyarrow", "stream", "Writing Parquet and Feather files")
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    opened: list[Any] = []

    def write(part: "pd.DataFrame") -> None:
        table = pyarrow.Table.from_pandas(part.reset_index() if index else part, preserve_index=False)
        if not opened:
            make = pyarrow.parquet.ParquetWriter if ending == ".parquet" else pyarrow.ipc.new_file
            opened.append(make(name, table.schema))
        opened[0].write_table(table.cast(opened[0].schema) if ending == ".parquet" else table)

    try:
        yield write
    finally:
        for one in opened:
            one.close()
