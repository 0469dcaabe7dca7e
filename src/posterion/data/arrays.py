"""Rows in arrays: in memory, in NumPy's files by memory map, in Zarr's stores."""

import os
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from posterion._optional import import_optional
from posterion.data.source import MEMORY_LIMIT, AbstractChunkSource, same_length
from posterion.errors import DataError

_CHUNK_BYTES = 1 << 19
_FEWEST_ROWS, _MOST_ROWS = 64, 1 << 16


class ArraySource(AbstractChunkSource):
    """Anything that can be sliced, with a shape and a dtype.

    Parameters
    ----------
    arrays
        By input, rows first.
    files
        Where they lie, by input; empty for arrays in memory.
    rows_per_chunk
        None for about half a megabyte.
    memory_limit
        See `AbstractSource.memory_limit`.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        files: Mapping[str, Path] | None = None,
        rows_per_chunk: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        for name, array in arrays.items():
            if not np.ndim(array):
                raise DataError(f"{name!r} is a single number, and rows are needed on its first axis")
            if np.dtype(array.dtype).kind not in "biuf":
                raise DataError(f"{name!r} holds {array.dtype}, and numbers are needed; encode labels as whole numbers")
        rows = same_length({name: array.shape[0] for name, array in arrays.items()})
        self._arrays, self._files, self.memory_limit = dict(arrays), dict(files or {}), memory_limit
        size = sum(np.dtype(a.dtype).itemsize * int(np.prod(a.shape[1:])) for a in arrays.values())
        wanted = rows_per_chunk or int(np.clip(_CHUNK_BYTES // max(size, 1), _FEWEST_ROWS, _MOST_ROWS))
        self._starts = np.arange(0, rows, wanted)
        self._stops = np.minimum(self._starts + wanted, rows)

    @property
    def in_memory(self) -> dict[str, np.ndarray] | None:
        """The arrays themselves where they are in memory already."""
        plain = all(isinstance(a, np.ndarray) and not _is_mapped(a) for a in self._arrays.values())
        return dict(self._arrays) if plain and not self._files else None

    @property
    def chunk_rows(self) -> Int[np.ndarray, " chunks"]:
        return self._stops - self._starts

    def read(self, chunk: int) -> dict[str, np.ndarray]:
        rows = slice(int(self._starts[chunk]), int(self._stops[chunk]))
        # Views where that can be: whoever shuffles the rows copies them anyway.
        return {name: np.asarray(array[rows]) for name, array in self._arrays.items()}

    def place(self, chunk: int) -> str:
        where = f"{', '.join(sorted({str(f) for f in self._files.values()}))}, " if self._files else ""
        return f"{where}rows {self._starts[chunk]} to {self._stops[chunk]}"

    @property
    def how_to_shuffle(self) -> str:
        return (
            "Write the rows in random order once: `order = numpy.random.default_rng(0).permutation(rows)`, the same "
            "for every input."
        )

    @cached_property
    def _identity(self) -> list[Any]:
        return [file_identity(path) for path in sorted(set(self._files.values()))]

    @property
    def identity(self) -> list[Any]:
        return self._identity


def _is_mapped(array: np.ndarray) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base  # a view of a memory map lies on the disk, too
    return isinstance(base, np.memmap)


def file_identity(path: Path) -> list[Any]:
    """Name, size and time of a file, or of a folder."""
    facts = os.stat(path)
    return [str(path), facts.st_size, facts.st_mtime_ns]


def arrays(inputs: Mapping[str, Any], *, memory_limit: int = MEMORY_LIMIT) -> ArraySource:
    """Rows in arrays; views of memory maps stay on the disk.

    Parameters
    ----------
    inputs
        Arrays by the names of the model's inputs, rows first, all of the same length.
    memory_limit
        Memory maps of more bytes than this are streamed. Arrays in memory stay where they are.

    Raises
    ------
    DataError
        For unequal numbers of rows, or arrays that do not hold numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from posterion.data import arrays
    >>> arrays({"x": np.zeros((1000, 3)), "y": np.zeros(1000)}).num_rows
    1000
    """
    sliceable = {
        name: value if hasattr(value, "dtype") and hasattr(value, "shape") else np.asarray(value)
        for name, value in inputs.items()
    }
    return ArraySource(sliceable, memory_limit=memory_limit)


def memory_map(inputs: Mapping[str, str | PathLike], *, memory_limit: int = MEMORY_LIMIT) -> ArraySource:
    """Rows in NumPy's ``.npy`` files, one per input, read where they are needed.

    Parameters
    ----------
    inputs
        Files by the names of the model's inputs; rows on the first axis, in the same order everywhere.
    memory_limit
        Files of more bytes than this together are streamed; smaller ones are read into memory by `posterion.fit`.

    Raises
    ------
    DataError
        If a file is missing or is no array of numbers, or for unequal numbers of rows. Whether the *order* is the
        same is not to be seen from numbers: see `together`.
    """
    found: dict[str, Any] = {}
    for name, path in inputs.items():
        try:
            found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{name!r}: {path} cannot be read as a .npy file ({error})") from error
    return ArraySource(found, {name: Path(path) for name, path in inputs.items()}, memory_limit=memory_limit)


def zarr(inputs: Mapping[str, Any], *, memory_limit: int = MEMORY_LIMIT) -> ArraySource:
    """Rows in Zarr arrays, read chunk by chunk as they are stored.

    Parameters
    ----------
    inputs
        Zarr arrays, or paths of them (``"store.zarr/x"``), by the names of the model's inputs.
    memory_limit
        Stores of more bytes than this are streamed.

    Raises
    ------
    DataError
        If there is no array at a path, or for unequal numbers of rows.
    MissingExtraError
        If Zarr is not installed.
    """
    package = import_optional("zarr", "stream", "Zarr stores")
    found: dict[str, Any] = {}
    files: dict[str, Path] = {}
    for name, value in inputs.items():
        if isinstance(value, str | PathLike):
            try:
                value = package.open_array(store=os.fspath(value), mode="r")
            except Exception as error:
                raise DataError(f"{name!r}: there is no Zarr array at {inputs[name]} ({error})") from error
            files[name] = Path(inputs[name])
        found[name] = value
    stored = [int(getattr(a, "shards", None) and a.shards[0] or a.chunks[0]) for a in found.values()]
    return ArraySource(found, files, max(stored, default=None), memory_limit)
