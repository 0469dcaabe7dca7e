"""Batches whose rows come from windows: nothing but the steps at hand is on the device.

`StreamedRows.window` gives the rows themselves where `RandomRows.window` gives their numbers. While the device works,
a thread lays out the steps that come next: twice as many as were taken last, since how many will be taken depends on
the clock. Those that are not taken are laid out again.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from threading import Event

import numpy as np

from posterion._typing import Data, PyTree
from posterion.data.batches import MOST_STEPS, STEPS_BYTES, AbstractBatches, Evenly, placed
from posterion.data.windows import AbstractWindows, Rows, Window, gather


class StreamedRows(AbstractBatches):
    """Every step sees at most ``batch_size`` rows, without replacement within an epoch; shorter batches are padded.

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
        self._windows, self.num_rows = windows, windows.num_rows
        self._evenly = Evenly(self.num_rows, batch_size)
        self.batch_size, self.steps_per_epoch = self._evenly.size, self._evenly.steps
        self.select = partial(placed, self.batch_size, place)
        self._alive: dict[tuple[int, int], Window] = {}
        if (like := windows.in_memory) is None:
            self._alive[0, 0] = windows.read(0, 0)
            like = self._alive[0, 0].rows
        self._like = {name: (a.shape[1:], a.dtype) for name, a in like.items()}
        bytes_per_row = sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for shape, dtype in self._like.values())
        self.max_steps = int(np.clip(STEPS_BYTES // max(1, bytes_per_row * batch_size), 1, MOST_STEPS))
        self._pool, self._closing = ThreadPoolExecutor(1, "posterion-rows"), Event()
        self._ahead: tuple[int, int, int, Future] | None = None

    def window(self, first_step: int, num_steps: int, capacity: int, *, last: bool = False) -> PyTree:
        """Rows of ``num_steps`` steps from ``first_step`` on, (capacity, B, ...) by slot, and how many are real.

        Nothing is read ahead after the ``last``.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (first_step, capacity) and ahead[2] >= num_steps:
            found = ahead[3].result()
        else:
            if ahead is not None:
                ahead[3].exception()  # two threads must not read at the same time
            found = self._lay_out(first_step, num_steps, capacity)
        if last:
            return found
        following, count = first_step + num_steps, min(capacity, 2 * num_steps)
        self._ahead = (following, capacity, count, self._pool.submit(self._lay_out, following, count, capacity))
        return found

    def template(self, capacity: int) -> tuple[Rows, np.ndarray]:
        size = self._evenly.size
        rows = {name: np.zeros((capacity, size, *shape), dtype) for name, (shape, dtype) in self._like.items()}
        return rows, np.full(capacity, size, np.int32)

    def close(self) -> None:
        """Stop reading ahead, and let go of the rows."""
        self._closing.set()  # what is being laid out ahead will not be wanted
        self._pool.shutdown(cancel_futures=True)
        self._windows.close()
        self._alive.clear()
        self._ahead = None

    def _lay_out(self, first_step: int, num_steps: int, capacity: int) -> tuple[Rows, np.ndarray]:
        evenly, (out, counts) = self._evenly, self.template(capacity)
        step, filled = first_step, 0
        needed: set[tuple[int, int]] = set()
        while filled < num_steps:
            epoch, position = divmod(step, evenly.steps)
            longer = position < evenly.longer
            ends = evenly.longer if longer else evenly.steps
            count, size = min(num_steps - filled, ends - position), evenly.size if longer else evenly.size - 1
            batches = {name: array[filled : filled + count] for name, array in out.items()}
            self._fill(
                batches, size, self._parts(epoch, evenly.start(position), evenly.start(position + count), needed)
            )
            counts[filled : filled + count] = size
            filled, step = filled + count, step + count
        # The next call starts at or behind these steps, or somewhere else altogether.
        self._alive = {key: rows for key, rows in self._alive.items() if key in needed}
        return out, counts

    def _fill(self, batches: Rows, size: int, parts: Iterator[Window]) -> None:
        """Lay rows, one after the other, into batches of ``size`` real rows each."""
        padding = self._evenly.size - size
        at = 0
        for rows, order in parts:
            length, taken = len(order), 0
            while taken < length:
                if self._closing.is_set():
                    raise CancelledError
                step, row = divmod(at, size)
                # Whole batches at once where a part begins with one, else to the end of the batch it begins in.
                whole = (length - taken) // size if row == 0 else 0
                count = whole * size if whole else min(size - row, length - taken)
                chosen = order[taken : taken + count]
                place: tuple = (step, slice(row, row + count))
                if whole:
                    chosen = chosen.reshape(whole, size)
                    chosen = np.concatenate([chosen, *[chosen[:, -1:]] * padding], axis=1)
                    place = (slice(step, step + whole),)
                for name, array in rows.items():
                    gather(array, chosen, batches[name][place])
                at, taken = at + count, taken + count
        for array in batches.values():
            # Padding repeats a row of its batch: real numbers, so that nothing non-finite can come of it.
            array[:, size:] = array[:, size - 1 : size]

    def _parts(self, epoch: int, start: int, stop: int, needed: set[tuple[int, int]]) -> Iterator[Window]:
        """Rows ``start`` to ``stop`` of the epoch's order; the windows they lie in are added to ``needed``."""
        edges = np.concatenate([[0], np.cumsum(self._windows.sizes(epoch))])
        for k in range(int(np.searchsorted(edges, start, "right")) - 1, int(np.searchsorted(edges, stop, "left"))):
            if (epoch, k) not in self._alive:
                self._alive[epoch, k] = self._windows.read(epoch, k)
            needed.add((epoch, k))
            rows, order = self._alive[epoch, k]
            yield Window(rows, order[max(start - int(edges[k]), 0) : stop - int(edges[k])])
