"""Inputs of one model from several sources: the same rows in the same order, or an error."""

from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from posterion.data.source import AbstractChunkSource, AbstractSource, concatenate, same_length
from posterion.errors import DataError, OptionError


class JoinedSource(AbstractChunkSource):
    """Rows whose inputs lie in several sources; chunks are those of the first.

    Parameters
    ----------
    sources
        Of equal length, with different inputs but for the key.
    key
        The input that every source has and that names a row.
    """

    def __init__(self, sources: tuple[AbstractChunkSource, ...], key: str) -> None:
        self._sources, self._key = sources, key
        self.memory_limit = min(source.memory_limit for source in sources)
        self._edges = [np.concatenate([[0], np.cumsum(source.chunk_rows)]) for source in sources]

    @property
    def chunk_rows(self) -> Int[np.ndarray, " chunks"]:
        return self._sources[0].chunk_rows

    def place(self, chunk: int) -> str:
        return self._sources[0].place(chunk)

    @cached_property
    def _columns(self) -> dict[str, Any] | None:
        plain = [source.columns for source in self._sources]
        if any(one is None for one in plain):
            return None
        merged = {
            part: {k: v for one in plain if one for k, v in one[part].items()} for part in ("columns", "categories")
        }
        merged["columns"].pop(self._key, None)
        return merged

    @property
    def columns(self) -> dict[str, Any] | None:
        return self._columns

    @property
    def identity(self) -> list[Any]:
        return [source.identity for source in self._sources]

    def read(self, chunk: int) -> dict[str, np.ndarray]:
        start, stop = (int(edge) for edge in self._edges[0][chunk : chunk + 2])
        parts = [self._rows(k, start, stop) for k in range(len(self._sources))]
        keys = [part.pop(self._key) for part in parts]
        for other in keys[1:]:
            if not np.array_equal(keys[0], other):
                row = int(np.argmax(np.any(np.reshape(keys[0] != other, (len(other), -1)), axis=1)))
                raise DataError(
                    f"{self.place(chunk)}: row {start + row} has the {self._key!r} {keys[0][row]!r} in one source and "
                    f"{other[row]!r} in another: the rows are not in the same order. Sort both by {self._key!r}"
                )
        return {name: array for part in parts for name, array in part.items()}

    def _rows(self, k: int, start: int, stop: int) -> dict[str, np.ndarray]:
        source, edges = self._sources[k], self._edges[k]
        first, last = np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, stop, "left")
        whole = concatenate([source.read(chunk) for chunk in range(int(first), int(last))])
        return {name: array[start - edges[first] : stop - edges[first]] for name, array in whole.items()}


def together(*sources: AbstractSource, key: str) -> JoinedSource:
    """Sources of some inputs each as one source of all, checked row by row.

    Parameters
    ----------
    sources
        With the same rows in the same order, such as a file of inputs and a file of outcomes.
    key
        An input of every source that names the row: an identifier, a time. It is compared as the rows are read, and
        not handed to the model. Two arrays of numbers do not show whether they are in the same order.

    Raises
    ------
    DataError
        For unequal numbers of rows, a source without the key, or an input that two sources have; while rows are read,
        for keys that differ.
    OptionError
        If there are fewer than two sources, or one cannot be read chunk by chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from posterion.data import arrays, together
    >>> x = arrays({"x": np.zeros((100, 2)), "id": np.arange(100)})
    >>> y = arrays({"y": np.zeros(100), "id": np.arange(100)})
    >>> together(x, y, key="id").inputs
    ('x', 'y')
    """
    chunked = tuple(source for source in sources if isinstance(source, AbstractChunkSource))
    if len(sources) < 2 or len(chunked) < len(sources):
        raise OptionError("together() takes two or more sources that are read in chunks, which an iterator is not")
    same_length({f"source {number}": source.num_rows for number, source in enumerate(sources, 1)})
    seen: dict[str, int] = {}
    for number, source in enumerate(sources, 1):
        if key not in source.inputs:
            raise DataError(f"source {number} has no input {key!r}; it has {list(source.inputs)}")
        for name in source.inputs:
            if name != key and seen.setdefault(name, number) != number:
                raise DataError(f"source {seen[name]} and source {number} both have the input {name!r}")
    return JoinedSource(chunked, key)
