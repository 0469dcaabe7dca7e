"""Batches of rows: which rows step ``t`` sees, as a pure function of the seed and ``t``.

An epoch visits every row once in a fresh random order, in batches of equal size but for one row: a last batch of a few
rows, each of which then stands for a share of all, would be a step of very noisy gradient every epoch. Shorter batches
are padded, and the padding weighs nothing. Because the rows of a step depend on nothing but the seed and its
number, a fit that is interrupted and continued sees the same rows as one that was not.
"""

import abc
from collections.abc import Callable, Mapping
from functools import cached_property, partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from posterion._typing import Batch, Data, PyTree, SelectRows

STEPS_BYTES = 16 * 2**20
"""Of the rows that are handed to the device at once."""
MOST_STEPS = 4096
_VALUES_PER_DRAW = 1 << 17


class AbstractBatches(abc.ABC):
    """What the loop asks for: the data on the device, and per step a small index that `select` turns into a batch."""

    data: Data
    max_steps: int
    """Longest window of steps worth preparing at once."""
    select: SelectRows

    @abc.abstractmethod
    def window(self, first_step: int, num_steps: int, capacity: int) -> PyTree:
        """Indices of ``num_steps`` steps from ``first_step`` on, padded to ``capacity`` along the first axis."""

    def template(self, capacity: int) -> PyTree:
        """Something of the shapes and types of `window`."""
        return self.window(0, 1, capacity)

    def close(self) -> None:  # noqa: B027
        """Let go of threads and files, if there are any."""


class AllRows(AbstractBatches):
    """Every step sees all rows."""

    max_steps = 1 << 14

    def __init__(self, data: Data) -> None:
        self.data = data
        self.select = _all_rows

    def window(self, first_step: int, num_steps: int, capacity: int) -> PyTree:
        return ()


class Evenly:
    """An epoch of ``num_rows`` rows cut into batches of at most ``batch_size`` rows, the first ones a row longer.

    Attributes
    ----------
    steps
        Batches of an epoch.
    size
        Rows of the longest.
    longer
        How many batches have ``size`` rows; the others have a row less, if there are others.
    """

    def __init__(self, num_rows: int, batch_size: int) -> None:
        self.steps = -(-num_rows // batch_size)
        self.size = -(-num_rows // self.steps)
        self.longer = self.steps - (self.steps * self.size - num_rows)

    def start(self, position: int) -> int:
        """The first row of batch ``position`` in the epoch's order; N for the number of batches."""
        return position * (self.size - 1) + min(position, self.longer)

    def counts(self, position: int, count: int) -> Int[np.ndarray, " count"]:
        """Rows of ``count`` batches from ``position`` on."""
        return np.where(np.arange(position, position + count) < self.longer, self.size, self.size - 1).astype(np.int32)


class RandomRows(AbstractBatches):
    """Every step sees at most ``batch_size`` rows, without replacement within an epoch.

    The rows are picked on the host, many steps at once, and laid out as the compiled step reads them.

    Parameters
    ----------
    rows
        Slot name to array, all rows, on the host.
    axes
        Slot name to the axis its rows lie on, for every one of ``rows``.
    batch_size
        B, from 1 to N.
    seed
        Of the permutations.
    whole
        Slots without rows, on the device.
    place
        ``rows of a batch by slot -> slots``, inside the compiled program.
    stack
        ``(batches, axis of their rows, length) -> batches`` as the device is to have them, padded to ``length``.
    """

    def __init__(
        self,
        rows: Mapping[str, np.ndarray],
        axes: Mapping[str, int],
        batch_size: int,
        seed: int,
        whole: Data,
        place: Callable[[Data], Data],
        stack: Callable[[np.ndarray, int, int], PyTree],
    ) -> None:
        self.data, self._stack, self._axes, self._seed = whole, stack, dict(axes), seed
        self._rows = {name: np.ascontiguousarray(np.moveaxis(rows[name], axis, 0)) for name, axis in axes.items()}
        self._num_rows = len(next(iter(self._rows.values())))
        self._evenly = evenly = Evenly(self._num_rows, batch_size)
        self.steps_per_epoch = evenly.steps
        self.select = partial(placed, evenly.size, place)
        batch_bytes = evenly.size * sum(array.nbytes for array in self._rows.values()) / self._num_rows
        self.max_steps = int(np.clip(STEPS_BYTES / batch_bytes, 100, MOST_STEPS))
        self._cached: tuple[int, np.ndarray] = (-1, np.empty((0, self._num_rows), np.int32))

    def _permutations(self, group: int) -> np.ndarray:
        """Several epochs' permutations at once: one generator for many small epochs."""
        if self._cached[0] != group:
            epochs = self._epochs_per_group
            random = np.random.default_rng([self._seed, group])
            rows = np.broadcast_to(np.arange(self._num_rows, dtype=np.int32), (epochs, self._num_rows))
            self._cached = (group, random.permuted(rows, axis=1))
        return self._cached[1]

    @cached_property
    def _epochs_per_group(self) -> int:
        return max(1, _VALUES_PER_DRAW // self._num_rows)

    def rows_of(self, step: int) -> np.ndarray:
        """The real rows of one step, for tests and for error messages."""
        epoch, position = divmod(step, self.steps_per_epoch)
        group, member = divmod(epoch, self._epochs_per_group)
        rows = slice(self._evenly.start(position), self._evenly.start(position + 1))
        return self._permutations(group)[member][rows]

    def window(self, first_step: int, num_steps: int, capacity: int) -> PyTree:
        """Rows of ``num_steps`` steps from ``first_step`` on, (capacity, B, ...) by slot, and how many are real."""
        indices, counts = self.indices(first_step, num_steps, capacity)
        indices, axes = indices[:num_steps], self._axes
        return {name: self._stack(rows[indices], axes[name], capacity) for name, rows in self._rows.items()}, counts

    def indices(
        self, first_step: int, num_steps: int, capacity: int
    ) -> tuple[Int[np.ndarray, "capacity size"], Int[np.ndarray, " capacity"]]:
        """Numbers of the rows of each step, and how many of them are real; for steps beyond ``num_steps``, row 0."""
        evenly = self._evenly
        indices = np.zeros((capacity, evenly.size), np.int32)
        counts = np.full(capacity, evenly.size, np.int32)
        step, filled = first_step, 0
        while filled < num_steps:
            epoch, position = divmod(step, evenly.steps)
            group, member = divmod(epoch, self._epochs_per_group)
            permutations = self._permutations(group)[member:]
            epochs = min(len(permutations), -(-(position + num_steps - filled) // evenly.steps))
            steps = self._padded(permutations[:epochs]).reshape(-1, evenly.size)[position:]
            count = min(len(steps), num_steps - filled)
            indices[filled : filled + count] = steps[:count]
            counts[filled : filled + count] = np.tile(evenly.counts(0, evenly.steps), epochs)[position:][:count]
            filled, step = filled + count, step + count
        return indices, counts

    def _padded(self, rows: Int[np.ndarray, "epochs n"]) -> Int[np.ndarray, "epochs steps size"]:
        """Epochs of rows by batch. Padding repeats a row of the batch: real numbers, so that no NaN can come of it."""
        evenly, epochs = self._evenly, len(rows)
        split = evenly.longer * evenly.size
        out = np.empty((epochs, evenly.steps, evenly.size), np.int32)
        out[:, : evenly.longer] = rows[:, :split].reshape(epochs, evenly.longer, evenly.size)
        if evenly.longer < evenly.steps:
            shorter = rows[:, split:].reshape(epochs, -1, evenly.size - 1)
            out[:, evenly.longer :, :-1] = shorter
            out[:, evenly.longer :, -1] = shorter[:, :, -1]
        return out


def _all_rows(data: Data, index: PyTree) -> Batch:
    return Batch(data)


def placed(batch_size: int, place: Callable[[Data], Data], data: Data, index: PyTree) -> Batch:
    """The batch of one step: its rows, the slots without rows, and which rows are real."""
    rows, count = index
    return Batch({**data, **place(rows)}, jnp.arange(batch_size) < count)
