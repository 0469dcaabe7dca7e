"""Windows: the rows of an epoch in random order, in pieces that fit into memory.

A window is a handful of chunks drawn at random, with their rows shuffled together. Which rows window k of epoch e
holds is a function of the seed, e and k alone, so that a fit goes on anywhere without a state of its own. Chunks are
read ahead by Grain; arrays in memory, which need neither, stay as they are, and only the numbers of their rows are
shuffled. A window says in which order its rows come and does not move them: `gather` copies each row once, to where
the device reads it.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from posterion._optional import import_optional
from posterion.data.iterators import IteratorSource
from posterion.data.source import AbstractChunkSource, AbstractSource, concatenate
from posterion.errors import DataError

WINDOW_BYTES = 8 * 2**20
"""Of one window: several are alive at a time. Larger ones leave the processor's cache (measured: 14 against 2 million
rows a second)."""
_LARGEST_WINDOW = 64 * 2**20
_FEWEST_CHUNKS = 4
"""In a window, unless they are very large: rows of one chunk alone may be alike."""
_PIECES = 16
"""Of rows in memory, in a window."""
_THREADS, _READ_AHEAD = 1, 1
_MOST_WINDOWS = 1 << 62
"""Of all epochs together. Their order is drawn here, since Grain's own shuffle takes 0.3 ms for each chunk."""

Rows = dict[str, np.ndarray]
Prepare = Callable[[Rows, str], Rows]
"""``(arrays of one chunk, where it lies) -> arrays`` checked and of the model's types."""


class Window(NamedTuple):
    """Rows, and which of them in which order make the window."""

    rows: Rows
    order: Int[np.ndarray, " window"]


class AbstractWindows(abc.ABC):
    """All rows of a source, a random permutation of them every epoch."""

    num_rows: int
    in_memory: Rows | None = None
    """All rows, if nothing has to be read to see them."""

    @abc.abstractmethod
    def sizes(self, epoch: int) -> Int[np.ndarray, " windows"]:
        """Rows of each window of an epoch."""

    @abc.abstractmethod
    def read(self, epoch: int, window: int) -> Window:
        """One window; cheap if windows are read one after the other."""

    def close(self) -> None:  # noqa: B027
        """Stop reading ahead."""


class _Order:
    """Which pieces of the rows make up each window of an epoch: a handful of them, drawn at random.

    Parameters
    ----------
    lengths
        Rows of each piece.
    per_window
        Pieces in a window; fewer in the last.
    seed
        Of all permutations.
    """

    def __init__(self, lengths: Int[np.ndarray, " pieces"], per_window: int, seed: int) -> None:
        self._lengths, self._per_window, self._seed = lengths, per_window, seed
        self.num_windows = -(-len(lengths) // per_window)
        self._kept: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def _of(self, epoch: int) -> Int[np.ndarray, " pieces"]:
        kept = self._kept  # steps, evaluations and what reads ahead ask from different threads
        if kept[0] != epoch:
            random = np.random.default_rng([self._seed, 1, epoch])
            kept = self._kept = (epoch, random.permutation(len(self._lengths)))
        return kept[1]

    def sizes(self, epoch: int) -> Int[np.ndarray, " windows"]:
        """Rows of each window."""
        lengths = self._lengths[self._of(epoch)]
        return np.add.reduceat(lengths, np.arange(0, len(lengths), self._per_window))

    def chosen(self, epoch: int, window: int) -> Int[np.ndarray, " chosen"]:
        """The pieces of a window."""
        return self._of(epoch)[window * self._per_window : (window + 1) * self._per_window]

    def shuffled(self, rows: int | Int[np.ndarray, " window"], epoch: int, window: int) -> Int[np.ndarray, " window"]:
        """So many numbers, or these, in the window's own random order."""
        return np.random.default_rng([self._seed, 2, epoch, window]).permutation(rows)


class ArrayWindows(AbstractWindows):
    """Rows in memory, whose numbers are shuffled once.

    Parameters
    ----------
    rows
        By input, rows first, in the model's types.
    seed
        Of all permutations.
    """

    def __init__(self, rows: Rows, seed: int) -> None:
        self.num_rows = _length(rows)
        self._numbers = np.random.default_rng([seed, 0]).permutation(self.num_rows)
        self.in_memory = self._rows = {name: np.ascontiguousarray(array) for name, array in rows.items()}
        size = sum(array.nbytes for array in rows.values()) / self.num_rows
        # Sixteen pieces to a window, so that an epoch mixes what an earlier one had in different windows.
        piece = int(np.clip(WINDOW_BYTES / _PIECES / max(size, 1), 64, 1 << 16))
        self._edges = np.append(np.arange(0, self.num_rows, piece), self.num_rows)
        self._order = _Order(np.diff(self._edges), _PIECES, seed)

    def sizes(self, epoch: int) -> Int[np.ndarray, " windows"]:
        return self._order.sizes(epoch)

    def read(self, epoch: int, window: int) -> Window:
        spans = [self._numbers[self._edges[k] : self._edges[k + 1]] for k in self._order.chosen(epoch, window)]
        return Window(self._rows, self._order.shuffled(np.concatenate(spans), epoch, window))


class ChunkWindows(AbstractWindows):
    """Chunks of a source in random order, read ahead by Grain.

    Parameters
    ----------
    source
        Where the rows are.
    seed
        Of all permutations.
    prepare
        Checks each chunk and converts it.
    """

    def __init__(self, source: AbstractChunkSource, seed: int, prepare: Prepare) -> None:
        grain = import_optional("grain", "stream", "Data streamed from files")
        self.num_rows, self._source, self._prepare, self._grain = source.num_rows, source, prepare, grain
        self._order = _Order(source.chunk_rows, chunks_per_window(source), seed)
        self._pipeline = grain.MapDataset.range(_MOST_WINDOWS).map(self._read_window)
        self._iterator: Any = None
        self._next = -1

    def _read_window(self, number: int) -> Window:
        epoch, window = divmod(int(number), self._order.num_windows)
        chosen = map(int, self._order.chosen(epoch, window))
        parts = [self._prepare(self._source.read_checked(k), self._source.place(k)) for k in chosen]
        rows = concatenate(parts)
        return Window(rows, self._order.shuffled(_length(rows), epoch, window))

    def sizes(self, epoch: int) -> Int[np.ndarray, " windows"]:
        return self._order.sizes(epoch)

    def read(self, epoch: int, window: int) -> Window:
        wanted = epoch * self._order.num_windows + window
        if self._iterator is None:
            options = self._grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_READ_AHEAD)
            self._iterator = iter(self._pipeline.to_iter_dataset(options))
            self._next = 0
        if wanted != self._next:
            self._iterator.set_state({"next_index": wanted})
        found = next(self._iterator)
        self._next = wanted + 1
        return found

    def close(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = None


class IteratorWindows(AbstractWindows):
    """Neighbouring rows of an iterator, shuffled among themselves; going back reads from the start.

    Parameters
    ----------
    source
        Where the rows come from.
    seed
        Of the permutations.
    prepare
        Checks each chunk and converts it.
    """

    def __init__(self, source: IteratorSource, seed: int, prepare: Prepare) -> None:
        self.num_rows, self._source, self._seed, self._prepare = source.num_rows, source, seed, prepare
        self._size = int(np.clip(WINDOW_BYTES / max(source.bytes_per_row, 1), 256, 1 << 20))
        self._at = (-1, 0)
        self._chunks: Any = iter(())
        self._kept: list[Rows] = []

    def sizes(self, epoch: int) -> Int[np.ndarray, " windows"]:
        edges = np.append(np.arange(0, self.num_rows, self._size), self.num_rows)
        return np.diff(edges)

    def read(self, epoch: int, window: int) -> Window:
        if self._at[0] != epoch or self._at[1] > window:
            self._at, self._chunks, self._kept = (epoch, 0), self._source.epoch(), []
        while True:
            rows = self._take(int(self.sizes(epoch)[self._at[1]]))
            number, self._at = self._at[1], (epoch, self._at[1] + 1)
            if number == window:
                if self._at[1] == len(self.sizes(epoch)):
                    next(self._chunks, None)  # an iterator with more rows than it said says so here
                random = np.random.default_rng([self._seed, epoch, window])
                return Window(rows, random.permutation(_length(rows)))

    def _take(self, count: int) -> Rows:
        have = sum(map(_length, self._kept))
        while have < count:
            try:
                part = next(self._chunks)
            except StopIteration:  # `IteratorSource.epoch` has raised if rows were missing
                raise DataError("the iterator ended early") from None
            part = self._prepare(part, "the iterator")
            self._kept.append(part)
            have += _length(part)
        whole = concatenate(self._kept)
        self._kept = [{name: array[count:] for name, array in whole.items()}] if have > count else []
        return {name: array[:count] for name, array in whole.items()}


def windows_of(source: AbstractSource, seed: int, prepare: Prepare) -> AbstractWindows:
    """The windows of a source that is not in memory."""
    if isinstance(source, AbstractChunkSource):
        return ChunkWindows(source, seed, prepare)
    assert isinstance(source, IteratorSource)  # there are two kinds  # noqa: S101
    return IteratorWindows(source, seed, prepare)


def chunks_per_window(source: AbstractChunkSource) -> int:
    """How many chunks are shuffled together."""
    size = max(1.0, source.num_rows / source.num_chunks * source.bytes_per_row)
    most = max(1, int(_LARGEST_WINDOW / size))
    return int(np.clip(WINDOW_BYTES / size, min(_FEWEST_CHUNKS, most), source.num_chunks))


def gather(array: np.ndarray, order: Int[np.ndarray, "*shape"], out: np.ndarray) -> None:
    """``out[...] = array[order]``, where ``out`` is contiguous.

    A row is copied as one item: NumPy's own way with rows of numbers takes twice as long.
    """
    if array.ndim > 1 and array.size and array.flags.c_contiguous:
        item = np.dtype((np.void, array[0].nbytes))
        array, out = (x.reshape(-1, array[0].size).view(item)[:, 0] for x in (array, out))
        order = order.reshape(-1)
    # Every number is one of a row; where NumPy has to make sure of that, it copies twice.
    np.take(array, order, axis=0, out=out, mode="clip")


def _length(rows: Rows) -> int:
    return len(next(iter(rows.values())))
