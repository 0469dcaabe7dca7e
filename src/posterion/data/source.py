"""A source: rows that need not fit into memory, in chunks that do.

A chunk is what is read at once, a few thousand rows that lie side by side: a row group of a Parquet file, a slice of
a memory map. Nothing reads single rows, because a disk does not (measured: 370 times slower). A source knows how many
rows each chunk has without reading it, reads any of them in any order and from any thread, and gives NumPy arrays by
the name of the model's input, rows first.
"""

import abc
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from posterion.errors import DataError

MEMORY_LIMIT = 256 * 2**20
"""Bytes up to which the rows of a file are read once and kept: no disk is faster than memory."""


class AbstractSource(abc.ABC):
    """Rows for a fit or a prediction, wherever they are; made by the functions of `posterion.data`."""

    memory_limit: int = MEMORY_LIMIT
    """Bytes up to which a fit reads the rows once and keeps them in memory."""

    @property
    @abc.abstractmethod
    def num_rows(self) -> int:
        """All rows there are: N."""

    @property
    @abc.abstractmethod
    def example(self) -> dict[str, np.ndarray]:
        """The first rows by input, which show shapes and types."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs that the source gives."""
        return tuple(self.example)

    @property
    def columns(self) -> dict[str, Any] | None:
        """Which columns make which input, and the labels behind codes, in plain values; None if there are none."""
        return None

    @property
    def identity(self) -> list[Any]:
        """Plain values that change when the rows may have changed: names, sizes and times of files."""
        return []

    @property
    def bytes_per_row(self) -> float:
        """Of the arrays that are read."""
        example = self.example
        return sum(a.nbytes for a in example.values()) / max(1, len(next(iter(example.values()))))

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {('rows', *a.shape[1:])}".replace("'", "") for name, a in self.example.items())
        megabytes = self.num_rows * self.bytes_per_row / 1e6
        return f"{type(self).__name__} of {self.num_rows:,} rows, {megabytes:,.0f} MB as arrays: {shapes}"


class AbstractChunkSource(AbstractSource):
    """A source whose chunks can be read in any order."""

    @property
    @abc.abstractmethod
    def chunk_rows(self) -> Int[np.ndarray, " chunks"]:
        """Number of rows of every chunk."""

    @abc.abstractmethod
    def read(self, chunk: int) -> dict[str, np.ndarray]:
        """The arrays of one chunk, by input; safe to call from several threads."""

    @abc.abstractmethod
    def place(self, chunk: int) -> str:
        """Where a chunk lies, for messages: "clicks.parquet, row group 3"."""

    @property
    def how_to_shuffle(self) -> str:
        """What to do where the rows are sorted."""
        return "Shuffle the rows once before they are written."

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return len(self.chunk_rows)

    @cached_property
    def _num_rows(self) -> int:
        return int(np.sum(self.chunk_rows))

    @property
    def num_rows(self) -> int:
        return self._num_rows

    @cached_property
    def _example(self) -> dict[str, np.ndarray]:
        return self.read(0)

    @property
    def example(self) -> dict[str, np.ndarray]:
        return self._example

    def read_checked(self, chunk: int) -> dict[str, np.ndarray]:
        """`read`, after a look at whether inputs, shapes and row counts are what the source said."""
        arrays = self.read(chunk)
        rows = int(self.chunk_rows[chunk])
        for name, like in self.example.items():
            if len(arrays[name]) != rows or arrays[name].shape[1:] != like.shape[1:]:
                raise DataError(
                    f"{self.place(chunk)}: {name!r} has shape {arrays[name].shape}, and ({rows}, "
                    f"{', '.join(map(str, like.shape[1:]))}) was announced: the files changed, or are not alike."
                )
        return arrays


def concatenate(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of several chunks, one after the other."""
    return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def same_length(lengths: Mapping[str, int]) -> int:
    """The number of rows that all inputs have.

    Raises
    ------
    DataError
        If there are no inputs or no rows, or two inputs differ in their number of rows.
    """
    if not lengths:
        raise DataError("a source needs at least one input: pass a dict of arrays by the names of the model's inputs")
    first, rows = next(iter(lengths.items()))
    for name, other in lengths.items():
        if other != rows:
            raise DataError(
                f"{first!r} has {rows} rows and {name!r} has {other}: row i of one must belong to row i of the other"
            )
    if rows == 0:
        raise DataError(f"{first!r} has no rows")
    return rows
