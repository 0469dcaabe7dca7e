"""Rows from an iterator of dicts: a generator, a database cursor, another library's loader."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from posterion.data.source import MEMORY_LIMIT, AbstractSource, same_length
from posterion.errors import DataError, OptionError


class IteratorSource(AbstractSource):
    """Chunks that come in an order of their own and can only be read from the start.

    Parameters
    ----------
    make_iterator
        Called at the start of every epoch.
    num_rows
        N.
    memory_limit
        See `AbstractSource.memory_limit`.
    """

    def __init__(self, make_iterator: Callable[[], Iterable[Mapping[str, Any]]], num_rows: int, memory_limit: int):
        self._make, self._num_rows, self.memory_limit = make_iterator, num_rows, memory_limit

    @property
    def num_rows(self) -> int:
        return self._num_rows

    @cached_property
    def _example(self) -> dict[str, np.ndarray]:
        return next(self.epoch())

    @property
    def example(self) -> dict[str, np.ndarray]:
        return self._example

    def epoch(self) -> Iterator[dict[str, np.ndarray]]:
        """All rows once, chunk by chunk.

        Raises
        ------
        DataError
            If there are not as many rows as was said, or inputs of a chunk differ in length.
        """
        rows = 0
        for number, chunk in enumerate(self._make()):
            if not isinstance(chunk, Mapping):
                raise DataError(f"the iterator gave {type(chunk).__name__}, and a dict of arrays by input is needed")
            arrays = {name: np.asarray(value) for name, value in chunk.items()}
            for name, array in arrays.items():
                if array.ndim == 0:
                    raise DataError(f"{name!r} in chunk {number} is a single number: give many rows at a time")
            rows += same_length({name: len(array) for name, array in arrays.items()})
            if rows > self._num_rows:
                raise DataError(f"the iterator gave {rows} rows or more, and num_rows={self._num_rows}")
            yield arrays
        if rows != self._num_rows:
            raise DataError(f"the iterator ended after {rows} rows, and num_rows={self._num_rows}")


def iterator(make_iterator: Any, *, num_rows: int, memory_limit: int = MEMORY_LIMIT) -> IteratorSource:
    """Rows from anything that can be iterated over.

    Parameters
    ----------
    make_iterator
        A function that returns a fresh iterator of dicts: by the names of the model's inputs, arrays of some thousand
        rows. Called once per epoch. It should give the rows in the same order every time, or a fit that is resumed
        sees other rows than one that was not interrupted.
    num_rows
        Rows of one epoch, N. Needed, because the weight of a batch depends on it; checked at the end of every epoch.
    memory_limit
        Rows of more bytes than this are streamed.

    Raises
    ------
    OptionError
        If ``make_iterator`` is an iterator, which could be read only once, or ``num_rows`` is no positive number.

    Notes
    -----
    Rows are shuffled within windows of some 100,000 neighbours, since nothing else can be reached.
    """
    make: Callable[[], Iterable[Mapping[str, Any]]] = make_iterator
    if not callable(make_iterator):
        raise OptionError(
            f"make_iterator must be a function that returns a fresh iterator for every epoch, not "
            f"{type(make_iterator).__name__}: pass `lambda: ...`"
        )
    if isinstance(num_rows, bool) or not isinstance(num_rows, int | np.integer) or num_rows < 1:
        raise OptionError(f"num_rows must be a whole number from 1 on, not {num_rows!r}")
    return IteratorSource(make, int(num_rows), memory_limit)
