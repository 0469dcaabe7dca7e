"""Batches whose rows come from windows: nothing but the steps at hand is on the device.

`StreamedRows.window` gives the rows themselves where `RandomRows.window` gives their numbers. While the device works,
a thread lays out the steps that come next: twice as many as were taken last, since how many will be taken depends on
the clock. Those that are not taken are laid out again.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from posterion._typing import Batch, Data, PyTree
from posterion.data.batches import AbstractBatches
from posterion.data.windows import AbstractWindows, Rows

_STEPS_BYTES = 16 * 2**20
"""Of the rows that are handed to the device at once."""
_MOST_STEPS = 4096


class StreamedRows(AbstractBatches):
    """Every step sees ``batch_size`` rows, without replacement within an epoch; the last batch is padded.

    Parameters
    ----------
    windows
        Where rows come from.
    batch_size
        B, from 1 to N.
    whole
        Slots without rows, on the device.
    place
        ``rows of a batch by slot -> slots``, inside the compiled program: moves axes and packs.
    """

    def __init__(self, windows: AbstractWindows, batch_size: int, whole: Data, place: Callable[[Data], Data]) -> None:
        self.data = whole
        self._windows, self.batch_size = windows, batch_size
        self.num_rows = windows.num_rows
        self.steps_per_epoch = -(-self.num_rows // batch_size)
        self.select = partial(_placed, batch_size, place)
        self._alive: dict[tuple[int, int], Rows] = {(0, 0): windows.read(0, 0)}
        self._like = {name: (a.shape[1:], a.dtype) for name, a in self._alive[0, 0].items()}
        bytes_per_row = sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for shape, dtype in self._like.values())
        self.max_steps = int(np.clip(_STEPS_BYTES // max(1, bytes_per_row * batch_size), 1, _MOST_STEPS))
        self._pool = ThreadPoolExecutor(1, "posterion-rows")
        self._ahead: tuple[int, int, int, Future] | None = None

    def window(self, first_step: int, num_steps: int, capacity: int) -> PyTree:
        """Rows of ``num_steps`` steps from ``first_step`` on, (capacity, B, ...) by slot, and how many are real."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (first_step, capacity) and ahead[2] >= num_steps:
            found = ahead[3].result()
        else:
            if ahead is not None:
                ahead[3].exception()  # two threads must not read at the same time
            found = self._lay_out(first_step, num_steps, capacity)
        following, count = first_step + num_steps, min(capacity, 2 * num_steps)
        self._ahead = (following, capacity, count, self._pool.submit(self._lay_out, following, count, capacity))
        return found

    def close(self) -> None:
        """Stop reading ahead, and let go of the rows."""
        self._pool.shutdown(cancel_futures=True)
        self._windows.close()
        self._alive.clear()
        self._ahead = None

    def _lay_out(self, first_step: int, num_steps: int, capacity: int) -> tuple[Rows, np.ndarray]:
        size = self.batch_size
        out = {name: np.zeros((capacity * size, *shape), dtype) for name, (shape, dtype) in self._like.items()}
        counts = np.full(capacity, size, np.int32)
        step, filled = first_step, 0
        needed: set[tuple[int, int]] = set()
        while filled < num_steps:
            epoch, position = divmod(step, self.steps_per_epoch)
            count = min(num_steps - filled, self.steps_per_epoch - position)
            start, stop = position * size, min((position + count) * size, self.num_rows)
            at = filled * size
            for part in self._parts(epoch, start, stop, needed):
                length = len(next(iter(part.values())))
                for name, array in part.items():
                    out[name][at : at + length] = array
                at += length
            filled, step = filled + count, step + count
            if at < filled * size:  # padding repeats a row: real numbers, so that nothing non-finite can come of it
                counts[filled - 1] = size - (filled * size - at)
                for array in out.values():
                    array[at : filled * size] = array[at - 1]
        # The next call starts at or behind these steps, or somewhere else altogether.
        self._alive = {key: rows for key, rows in self._alive.items() if key in needed}
        return {name: array.reshape(capacity, size, *array.shape[1:]) for name, array in out.items()}, counts

    def _parts(self, epoch: int, start: int, stop: int, needed: set[tuple[int, int]]) -> Iterator[Rows]:
        """Rows ``start`` to ``stop`` of the epoch's order; the windows they lie in are added to ``needed``."""
        edges = np.concatenate([[0], np.cumsum(self._windows.sizes(epoch))])
        for k in range(int(np.searchsorted(edges, start, "right")) - 1, int(np.searchsorted(edges, stop, "left"))):
            if (epoch, k) not in self._alive:
                self._alive[epoch, k] = self._windows.read(epoch, k)
            needed.add((epoch, k))
            rows = slice(max(start - int(edges[k]), 0), stop - int(edges[k]))
            yield {name: array[rows] for name, array in self._alive[epoch, k].items()}


def _placed(batch_size: int, place: Callable[[Data], Data], data: Data, index: Any) -> Batch:
    rows, count = index
    return Batch({**data, **place(rows)}, jnp.arange(batch_size) < count)
