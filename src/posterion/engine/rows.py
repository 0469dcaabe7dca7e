"""Where a fit's rows come from while it runs: the batches of its steps, and those its evaluations see.

The full-data ELBO of many rows is estimated as it is optimised: every draw meets a batch of its own. With D draws and
batches of N / D rows one pass over the data gives

    mean_k [ log p(z_k) + N / B sum_{i in batch k} log p(y_i | z_k) - log q(z_k) ],

unbiased for the ELBO of all rows. The standard error over the draws contains the error of drawing rows, and the
difference of two states on common draws and rows is as precise as if each had met all rows. The alternative, 64 draws
that meet all rows each, took 64 passes for every comparison.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Batch, Data, PyTree
from posterion.compilation.minor_axis import pack, stacked
from posterion.data.batches import AbstractBatches, AllRows, RandomRows
from posterion.data.streamed import StreamedRows
from posterion.data.windows import AbstractWindows, ArrayWindows, windows_of
from posterion.distributed import SOLO, Team
from posterion.engine.given import SAMPLE_ROWS, Given, prepare_rows
from posterion.engine.placement import place, spread_rows
from posterion.optim.algorithm import Algorithm
from posterion.target import AbstractRowTarget, copied_to_device

_EVALUATION_ROWS = 1 << 22
"""Rows times draws that one evaluation of the ELBO may touch, above the least number of draws."""
_LEAST_EVALUATION_ROWS = 1 << 20
"""And what it does touch at least, where every draw meets rows of its own: as many as the first round's steps see."""
_SAMPLE_NUMBERS = SAMPLE_ROWS << 6
"""Numbers in the rows that stand for all: 65,536 rows of up to 64 columns, 5,000 small images. Wide rows are the inputs
of large networks, whose activations for all rows at once would not fit into memory."""
_FEWEST_SAMPLED = 1024
_MOST_TIMES = 16
"""How often one row is looked at for that."""
_LEAST_DRAWS = 64
_RESIDENT_BYTES = 1 << 20
"""Of rows that fit into the processor's cache each step's are picked one by one, from a new permutation every epoch; of
more, that costs more than the step, and blocks of shuffled rows are handed over."""
_EVALUATIONS_FROM = 1 << 20
"""Number of the epoch from which evaluations draw, out of reach of the steps."""


class RowStreams:
    """The rows of one fit, for its steps and its evaluations.

    Parameters
    ----------
    given
        What is approximated, and its data.
    seed
        Of all permutations.
    team
        The devices that share the work.
    """

    def __init__(self, given: Given, seed: int, team: Team = SOLO) -> None:
        self._target, self._given, self._seed, self._team = given.target, given, seed, team
        self._axes = dict(given.plan.axes) if given.plan else {}
        self.num_rows = given.plan.num_rows if given.plan else 1
        self._sampled = self._rows_that_stand_for_all()
        self.by_batches = given.source is not None or self.num_rows > self._sampled
        """Whether every draw of a comparison meets a batch of its own."""
        # Known now: rows are converted in threads of their own, in which JAX's precision is another.
        types = {name: jax.dtypes.canonicalize_dtype(given.target.slots[name].dtype) for name in self._axes}
        self._types = {name: np.dtype(dtype) for name, dtype in types.items()}
        self._kept: AbstractWindows | None = None
        self._everything: Batch | None = None
        if not self.by_batches:
            self._everything = Batch(self._on_devices(self._on_host))
        self.sample = self._draw_sample() if self._everything is None else self._everything
        self.steps = self._steps()

    @property
    def num_sampled(self) -> int:
        """Rows in `sample`; one where rows are not told apart."""
        return self.num_rows if self.sample.real is None else len(self.sample.real)

    @property
    def everything(self) -> Batch:
        """All rows on the device; not for a streamed source."""
        assert self._given.source is None  # whoever asks has made sure  # noqa: S101
        if self._everything is None:
            self._everything = Batch(self._on_devices(self._on_host))
        return self._everything

    def _on_devices(self, arrays: Mapping[str, np.ndarray], *, spread: bool = True) -> Data:
        row_axes = {name: slot.row_axis for name, slot in self._target.slots.items()}
        return place(pack(copied_to_device(arrays)), row_axes if spread else {}, self._team, spread=spread)

    def _rows_that_stand_for_all(self) -> int:
        rows = {name: (self._given.values[name], axis) for name, axis in self._axes.items()}
        width = sum(array.size / max(1, array.shape[axis]) for array, axis in rows.values())
        return min(SAMPLE_ROWS, max(_FEWEST_SAMPLED, int(_SAMPLE_NUMBERS / max(1, width))))

    def _draw_sample(self) -> Batch:
        values = dict(self._on_host)
        first = next(iter(self._axes))
        count = values[first].shape[self._axes[first]]
        if count > self._sampled:
            chosen = np.sort(
                np.random.default_rng(self._seed).choice(count, self._sampled, replace=False, shuffle=False)
            )
            values |= {name: np.take(values[name], chosen, axis=axis) for name, axis in self._axes.items()}
            count = self._sampled
        real = place({"real": jax.device_put(np.ones(count, bool))}, {}, self._team, spread=False)["real"]
        return Batch(self._on_devices(values), real)

    def _steps(self) -> AbstractBatches:
        size = self._given.rows_per_step
        if size is None:
            return AllRows(self.sample.data)
        size_of_all = sum(self._given.values[name].nbytes for name in self._axes)
        if self._given.source is None and size_of_all <= _RESIDENT_BYTES and not self.by_batches:
            place = partial(_shared, self._team, tuple(self._axes.items()))
            rows = {name: self._on_host[name] for name in self._axes}
            return RandomRows(rows, self._axes, size, self._seed, self._whole, place, stacked)
        return StreamedRows(self._windows(), size, self._whole, self._place)

    @cached_property
    def _on_host(self) -> dict[str, np.ndarray]:
        """All inputs as the device is to have them; nothing is copied that has the right type.

        That need not be what the user gave: a Stan program's rows are numbers of rows.
        """
        return {name: np.asarray(array) for name, array in self._target.on_host(self._given.values).items()}

    def _windows(self) -> AbstractWindows:
        source, types = self._given.source, self._types
        if source is not None:
            assert isinstance(self._target, AbstractRowTarget)  # a source has rows  # noqa: S101
            prepare = partial(prepare_rows, self._target, self._axes)
            of_types = lambda rows: {name: np.asarray(rows[name], dtype) for name, dtype in types.items()}
            return windows_of(source, self._seed % 2**31, lambda rows, place: of_types(prepare(rows, place)))
        if self._kept is None:
            rows = {name: np.moveaxis(self._on_host[name], axis, 0) for name, axis in self._axes.items()}
            self._kept = ArrayWindows(rows, self._seed)
        return self._kept

    @property
    def _whole(self) -> Data:
        return self._on_devices({n: a for n, a in self._on_host.items() if n not in self._axes}, spread=False)

    @property
    def _place(self) -> Callable[[Data], Data]:
        return partial(_placed, self._team, tuple(self._axes.items()))

    # ---- evaluations
    def num_draws(self, wanted: int) -> int:
        """As many draws as wanted for all rows, or fewer (a power of two) where rows are many."""
        most = max(_LEAST_DRAWS, _EVALUATION_ROWS * self._sampled / SAMPLE_ROWS / self.num_rows)
        return int(max(_LEAST_DRAWS, min(wanted, 2 ** int(np.log2(most)))))

    def comparison_batches(self, num_draws: int) -> StreamedRows:
        """Batches for ``num_draws`` draws, together all rows or as many as an evaluation may touch."""
        least = min(_LEAST_EVALUATION_ROWS * self._sampled // SAMPLE_ROWS, _MOST_TIMES * self.num_rows)
        return self._batches(int(np.clip(self.num_rows, least, _EVALUATION_ROWS)) // num_draws)

    def final_batches(self, num_draws: int) -> StreamedRows:
        """The same, but no row twice."""
        return self._batches(min(self.num_rows, _EVALUATION_ROWS) // num_draws)

    def _batches(self, size: int) -> StreamedRows:
        size = max(1, min(size, self.num_rows))
        return StreamedRows(self._windows(), size, self._whole, self._place)

    def rest(self) -> None:
        """Let go of threads and files."""
        self.steps.close()


def batch_windows(stream: StreamedRows, count: int, seed: int) -> Iterator[tuple[int, int, PyTree]]:
    """``(first draw, how many, their batches)`` until ``count`` draws have a batch; other rows for every seed."""
    start = (_EVALUATIONS_FROM + seed % _EVALUATIONS_FROM) * stream.steps_per_epoch
    try:
        for first in range(0, count, stream.max_steps):
            length = min(stream.max_steps, count - first)
            last = first + length == count
            yield first, length, stream.window(start + first, length, stream.max_steps, last=last)
    finally:
        stream.close()


def _placed(team: Team, axes: tuple[tuple[str, int], ...], rows: Data) -> Data:
    moved = {name: jnp.moveaxis(rows[name], 0, axis) if axis else rows[name] for name, axis in axes}
    return _shared(team, axes, pack(moved, dict(axes)))


def _shared(team: Team, axes: tuple[tuple[str, int], ...], rows: Data) -> Data:
    return {name: spread_rows(rows[name], axis, team) for name, axis in axes}


def evaluate_batches(algorithm: Algorithm, stream: StreamedRows) -> Callable:
    """The function to compile: ``(state, noise, data, indices, first, count) -> values`` of draws ``first`` on."""
    capacity, select = stream.max_steps, stream.select

    def run(state: PyTree, noise: PyTree, data: Data, indices: PyTree, first: Array, count: Array) -> Array:
        def one(k: Array, values: Array) -> Array:
            at = lambda tree: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), tree)
            draw = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first + k, 1), noise)
            value, _ = algorithm.evaluate(state, draw, select(data, at(indices)), jnp.int32(1))
            return values.at[k].set(value[0].astype(values.dtype))

        return jax.lax.fori_loop(0, count, one, jnp.zeros(capacity, jnp.result_type(float)))

    return run
