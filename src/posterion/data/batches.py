"""Batches of rows: which rows step ``t`` sees, as a pure function of the seed and ``t``.

An epoch visits every row once in a fresh random order; its last batch is padded where the batch size does not divide
the number of rows, and the padding weighs nothing. Because the rows of a step depend on nothing but the seed and its
number, a fit that is interrupted and continued sees the same rows as one that was not.
"""

import abc
from collections.abc import Callable, Mapping
from functools import cached_property, partial

import jax.numpy as jnp
import numpy as np

from posterion._typing import Batch, Data, PyTree, SelectRows

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


class RandomRows(AbstractBatches):
    """Every step sees ``batch_size`` rows, without replacement within an epoch.

    Parameters
    ----------
    data
        Slot name to array, all rows, on the device.
    axes
        Slot name to the axis its rows lie on; slots not named are passed whole.
    num_rows
        N.
    batch_size
        B, from 1 to N.
    seed
        Of the permutations.
    take
        ``(array, indices, axis) -> array``, the rows of an array in whatever form the data are kept.
    """

    def __init__(
        self,
        data: Data,
        axes: Mapping[str, int],
        num_rows: int,
        batch_size: int,
        seed: int,
        take: Callable,
    ) -> None:
        self.data = data
        self._num_rows, self._batch_size, self._seed = num_rows, batch_size, seed
        self.select = partial(_some_rows, dict(axes), batch_size, take)
        self.max_steps = max(100, min(4096, (1 << 22) // batch_size))
        self._cached: tuple[int, np.ndarray] = (-1, np.empty((0, num_rows), np.int32))

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches that one pass over the rows takes, the last one padded if need be."""
        return -(-self._num_rows // self._batch_size)

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
        return self._permutations(group)[member][position * self._batch_size : (position + 1) * self._batch_size]

    def window(self, first_step: int, num_steps: int, capacity: int) -> PyTree:
        indices = np.zeros((capacity, self._batch_size), np.int32)
        counts = np.full(capacity, self._batch_size, np.int32)
        padded = self.steps_per_epoch * self._batch_size
        step, filled = first_step, 0
        while filled < num_steps:
            epoch, position = divmod(step, self.steps_per_epoch)
            group, member = divmod(epoch, self._epochs_per_group)
            permutations = self._permutations(group)[member:]
            epochs = min(len(permutations), -(-(position + num_steps - filled) // self.steps_per_epoch))
            rows = np.zeros((epochs, padded), np.int32)
            rows[:, : self._num_rows] = permutations[:epochs]
            # Padding repeats a row of the batch: real numbers, so that nothing non-finite can come of it.
            rows[:, self._num_rows :] = rows[:, [self._num_rows - 1]]
            steps = rows.reshape(-1, self._batch_size)[position:]
            real = np.full((epochs, self.steps_per_epoch), self._batch_size, np.int32)
            real[:, -1] = self._num_rows - (self.steps_per_epoch - 1) * self._batch_size
            count = min(len(steps), num_steps - filled)
            indices[filled : filled + count] = steps[:count]
            counts[filled : filled + count] = real.reshape(-1)[position:][:count]
            filled, step = filled + count, step + count
        return indices, counts


def _all_rows(data: Data, index: PyTree) -> Batch:
    return Batch(data)


def _some_rows(axes: Mapping[str, int], batch_size: int, take: Callable, data: Data, index: PyTree) -> Batch:
    rows, count = index
    cut = {name: take(value, rows, axes[name]) if name in axes else value for name, value in data.items()}
    return Batch(cut, jnp.arange(batch_size) < count)
