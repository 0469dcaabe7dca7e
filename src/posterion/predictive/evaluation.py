"""Evaluating per-draw functions of a target over blocks of rows and chunks of draws, in bounded memory.

Draws are taken one at a time inside a compiled loop: with the rows on the last axis one draw of a small network fills
the processor's vector units, and evaluating many draws at once only costs memory (measured: 0.16 s one by one against
0.18 s ten by ten, for 2,500 draws of 10,000 rows). Chunks of draws keep the interpreter in charge between two calls,
so that Ctrl-C and progress work, and make one program serve any number of draws: the last chunk is only looped over
as far as it goes.
"""

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, Key
from posterion.compilation.cache import Program
from posterion.compilation.minor_axis import batch_minor as default_batch_minor
from posterion.compilation.minor_axis import pack
from posterion.errors import UnsupportedModelError
from posterion.predictive import statistics, structure
from posterion.predictive.blocks import BLOCK_SIZES, MEMORY_BUDGET, SMALL_BLOCK, Block, plan_blocks, take_block
from posterion.predictive.draws import Means
from posterion.target import AbstractRowTarget

DRAWS_PER_CHUNK = 256
DRAWS_KEPT_AT_ONCE = 1024
KEPT_BYTES = 4 * 2**20
"""What every draw says of a few rows may take: then it is kept, and intervals and draws come from the same pass."""
SECONDS_PER_CALL = 0.25
"""Wall time that one call of a compiled program aims at; nothing can interrupt it."""

Progress = Callable[[int, int], None]
"""Called with (done, all) after every piece of work."""


class Evaluation:
    """A target, draws and completed data, ready to be evaluated block by block.

    Parameters
    ----------
    target
        Its functions are compiled once per block size and kept as long as the target lives.
    draws
        Posterior draws in unconstrained space.
    data
        Every slot, as `AbstractRowTarget.new_rows` returns them.
    key
        Decides all simulated values; the same key gives the same bits, whatever was evaluated before.
    x64
        Whether to compute in double precision.
    batch_minor
        The pass that holds long axes last; None for `compilation.minor_axis.batch_minor`.
    """

    def __init__(
        self,
        target: AbstractRowTarget,
        draws: Float[np.ndarray, "draws dim"],
        data: Mapping[str, np.ndarray],
        *,
        key: Key | np.ndarray,
        x64: bool,
        batch_minor: Callable | None = None,
    ) -> None:
        self.target = target
        self.draws = draws
        self.data = data
        self.key = key
        self._key_words = _words(key)
        self.x64 = x64
        self.batch_minor = default_batch_minor if batch_minor is None else batch_minor
        self.axes = self._remember("axes", lambda: structure.row_axes(target))
        self.num_rows = structure.num_rows(data, self.axes) if self.axes else None
        """Rows passed, or None if they cannot be told from the data because the rows depend on each other."""
        with self._precision():
            self.sizes = self._block_sizes()
        self._kept: dict[str, np.ndarray] | None = None
        """Draws of the conditional means, (draws, ..., rows), by observed variable."""

    def _precision(self) -> Any:
        return jax.enable_x64(self.x64)

    def with_draws(self, number: int) -> "Evaluation":
        """The same with the first ``number`` draws only."""
        if number == len(self.draws):
            return self
        fewer = Evaluation(
            self.target, self.draws[:number], self.data, key=self.key, x64=self.x64, batch_minor=self.batch_minor
        )
        if self._kept is not None:
            fewer._kept = {name: values[:number] for name, values in self._kept.items()}
        return fewer

    def with_data(self, changed: Mapping[str, np.ndarray]) -> "Evaluation":
        """The same with some slots' data replaced."""
        data = {**self.data, **changed}
        return Evaluation(self.target, self.draws, data, key=self.key, x64=self.x64, batch_minor=self.batch_minor)

    def _remember(self, what: Hashable, make: Callable[[], Any]) -> Any:
        """``make()``, kept for as long as the target lives."""
        kept = self.target.compiled
        if what not in kept:
            kept[what] = make()
        return kept[what]

    def blocks(self, sizes: tuple[int, ...] | None = None) -> list[Block] | list[None]:
        """The blocks of a pass over all rows; [None] stands for all rows at once."""
        return [None] if self.num_rows is None else plan_blocks(self.num_rows, sizes or self.sizes)

    def _block_sizes(self) -> tuple[int, ...]:
        """The one size of this evaluation's blocks, or whatever sizes an exported target has."""
        if self.num_rows is None or self.target.block_sizes is not None:
            return self.target.block_sizes or ()
        size = plan_blocks(self.num_rows, BLOCK_SIZES)[0].size if self.num_rows else SMALL_BLOCK
        return (size if size == SMALL_BLOCK else self.largest_size(),)

    def largest_size(self) -> int:
        """The most rows of a block whose arrays stay within the memory budget."""
        size = BLOCK_SIZES[-1]
        with self._precision():
            while size > SMALL_BLOCK and self._bytes_per_block(size) > MEMORY_BUDGET:
                size //= 2
        return size

    def _bytes_per_block(self, size: int) -> int:
        """Bytes of the largest array that evaluating one draw of a block needs: the inputs or an intermediate one."""

        def measure() -> int:
            data = self._device_data(Block(0, min(size, self.num_rows or size), size), packed=False)
            z, key = jnp.asarray(self.draws[0], _float()), jax.random.key(0)
            closed = jax.make_jaxpr(lambda z, data, key: statistics.per_draw(self.target, z, data, key))(z, data, key)
            return structure.largest_array(closed.jaxpr)

        return self._remember(("bytes", size, self.x64), measure)

    def _device_data(self, block: Block | None, *, packed: bool = True) -> Any:
        data = self.data if block is None else take_block(self.data, self.axes, block)
        arrays = self.target.as_arrays(data)
        return pack(arrays, self.axes or None) if packed else arrays

    def _few_rows(self) -> Any:
        """The data of one small block, as far as possible on the host: a program takes so little along when called."""
        rows = self.num_rows or SMALL_BLOCK
        data = take_block(self.data, self.axes, Block(0, rows, SMALL_BLOCK))
        return pack(self.target.on_host(data), self.axes, on_host=True)

    def _chunks(self, *, paced: bool = False, most: int = DRAWS_PER_CHUNK) -> Iterator[tuple[int, int, np.ndarray]]:
        """(start, count, draws filled up to the chunk's fixed size).

        ``paced`` gives fewer draws at a time while what is done with them takes longer than a quarter of a second, for
        programs that only loop over ``count`` draws: Ctrl-C is seen between two of them.
        """
        num_draws, dim = self.draws.shape
        size = max(1, min(most, MEMORY_BUDGET // max(dim * _float().itemsize, 1)))
        start, pace = 0, size
        while start < num_draws:
            count = min(pace, num_draws - start)
            chunk = np.zeros((size, dim), _float())
            chunk[:count] = self.draws[start : start + count]
            began = time.perf_counter()
            yield start, count, chunk
            start += count
            if paced:
                seconds = max(time.perf_counter() - began, 1e-6)
                pace = int(np.clip(count * SECONDS_PER_CALL / seconds, 1, size))

    def _program(self, what: Hashable, make: Callable[[], Callable]) -> Program:
        """The compiled form of ``make()``."""
        return self._remember(("predictive", what, self.batch_minor), lambda: Program(make()))

    def summaries(self, progress: Progress | None = None) -> dict[str, statistics.Summary]:
        """Moments of every variable over all draws, for all rows."""
        if self._can_keep():
            return self._summaries_of_few(progress)
        blocks = self.blocks()
        finished: list[dict[str, statistics.Running]] = []
        done, work = 0, len(self.draws) * len(blocks)
        with self._precision():
            program = self._program("summaries", self._make_accumulate)
            for number, block in enumerate(blocks):
                data = self._device_data(block)
                key = _block_key(self._key_words, 0, number)
                state = statistics.start(self._statistics_shape(data))
                for start, count, chunk in self._chunks(paced=True):
                    state = jax.block_until_ready(program(state, chunk, np.int32(start), np.int32(count), key, data))
                    done += count
                    if progress is not None:
                        progress(done, work)
                kept = slice(None if block is None else block.num_rows)
                finished.append(jax.tree.map(lambda part, kept=kept: part[..., kept], jax.device_get(state)))
        whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *finished)
        chosen = statistics.rules(self.target)
        return {name: statistics.summarise(chosen[name], whole[name], len(self.draws)) for name in chosen}

    def _can_keep(self) -> bool:
        """Whether what every draw says of the rows is little, and needs no simulation."""
        if not self.axes or self.num_rows is None or self.num_rows > SMALL_BLOCK:
            return False
        if any(rule.startswith("simulated") for rule in statistics.rules(self.target).values()):
            return False

        def measure() -> int:
            like = self._statistics_shape(self._few_rows())
            return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))

        with self._precision():
            return self._remember(("kept bytes", self.x64), measure) * len(self.draws) <= KEPT_BYTES

    def _summaries_of_few(self, progress: Progress | None) -> dict[str, statistics.Summary]:
        """Summaries of a few rows from the moments of every draw, which are kept."""
        pieces, done = [], 0
        rows = 1 if self.num_rows == 1 else SMALL_BLOCK  # a row alone is what services are asked for
        # Few sizes of chunks, so that few programs are compiled, but none much larger than the draws.
        most = next(size for size in (256, 512, DRAWS_KEPT_AT_ONCE) if size >= min(len(self.draws), DRAWS_KEPT_AT_ONCE))
        with self._precision():
            program = self._program(("every draw", rows), lambda: self._make_keep(rows))
            data = self._few_rows()
            for _, count, chunk in self._chunks(paced=True, most=most):
                values = jax.device_get(program(chunk, np.int32(count), data))
                pieces.append(jax.tree.map(lambda part, count=count: part[:count, ..., : self.num_rows], values))
                done += count
                if progress is not None:
                    progress(done, len(self.draws))
        whole = pieces[0] if len(pieces) == 1 else jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)
        self._kept = {name: whole[name][0] for name in self.target.observed}
        chosen = statistics.rules(self.target)
        running = {name: statistics.of_all(*whole[name]) for name in chosen}
        return {name: statistics.summarise(chosen[name], running[name], len(self.draws)) for name in chosen}

    def _make_keep(self, rows: int) -> Callable:
        function = self._per_draw()

        def keep(chunk: Array, count: Array, data: Data) -> dict:
            def one(i: Array) -> dict:
                moments = function(chunk[i], data, jax.random.key(0))  # nothing is simulated
                return jax.tree.map(lambda leaf: leaf[..., :rows], moments)

            put = lambda i, kept: jax.tree.map(
                lambda rows, new: jax.lax.dynamic_update_index_in_dim(rows, new, i, 0), kept, one(i)
            )
            like = jax.eval_shape(one, 0)
            empty = jax.tree.map(lambda leaf: jnp.zeros((len(chunk), *leaf.shape), leaf.dtype), like)
            return jax.lax.fori_loop(0, count, put, empty)

        return keep

    def observed_slots(self) -> dict[str, str]:
        """By observed variable, the slot its values enter by; without those that have no slot of their own."""
        with self._precision():
            return self._remember("observed slots", lambda: structure.observed_slots(self.target, self.data))

    def _per_draw(self) -> Callable:
        target = self.target  # the closure lives on in `target.compiled`: it must not hold this evaluation's arrays
        return self.batch_minor(lambda z, data, key: statistics.per_draw(target, z, data, key))

    def _statistics_shape(self, data: Any) -> dict:
        shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), data)

        def trace() -> dict:
            return jax.eval_shape(self._per_draw(), jnp.asarray(self.draws[0], _float()), data, jax.random.key(0))

        return self._remember(("shape", repr(shapes), self.x64), trace)

    def _make_accumulate(self) -> Callable:
        function = self._per_draw()

        def accumulate(state: dict, chunk: Array, start: Array, count: Array, key: Array, data: Data) -> dict:
            block_key = jax.random.wrap_key_data(key)

            def one(i: Array, state: dict) -> dict:
                drawn = function(chunk[i], data, jax.random.fold_in(block_key, start + i))
                return statistics.update(state, start + i + 1, drawn)

            return jax.lax.fori_loop(0, count, one, state)

        return accumulate

    def log_mean_density(self, name: str, num_rows: int) -> Float[np.ndarray, " rows"]:
        """``log mean_z p(y | z, x)`` for the values of the observed variable ``name`` in the data, per row.

        Parameters
        ----------
        name
            The observed variable.
        num_rows
            Its rows; the data's own number of rows wherever that is known.
        """
        parts = []
        with self._precision():
            program = self._program(("log density", name), lambda: self._make_log_density(name))
            for block in self.blocks():
                data = self._device_data(block)
                state = np.full(num_rows if block is None else block.size, -np.inf, _float())
                for _, count, chunk in self._chunks(paced=True):
                    state = jax.block_until_ready(program(state, chunk, np.int32(count), data))
                parts.append(np.asarray(state, np.float64)[: None if block is None else block.num_rows])
        return np.concatenate(parts) - math.log(len(self.draws))

    def _make_log_density(self, name: str) -> Callable:
        target = self.target

        @self.batch_minor
        def per_row(z: Array, data: Data) -> Array | None:
            return target.joint_terms(z, data).log_likelihood.get(name)

        def accumulate(state: Array, chunk: Array, count: Array, data: Data) -> Array:
            def one(i: Array, state: Array) -> Array:
                density = per_row(chunk[i], data)
                if density is None or density.shape != state.shape:
                    raise UnsupportedModelError(
                        f"the density of {name!r} does not come apart into one factor per row, so rows have no score"
                    )
                return jnp.logaddexp(state, density)

            return jax.lax.fori_loop(0, count, one, state)

        return accumulate

    def collect(
        self, function: Callable, *, bytes_per_row: int, draws_last: bool = False, progress: Progress | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Values of ``function(target, z, data, key)`` for all draws, one block of rows after the other.

        Parameters
        ----------
        function
            Returns a dict of arrays, rows first. Its compiled form is kept, for functions equal to it.
        bytes_per_row
            Of one draw's output; decides how many rows are held at a time.
        draws_last
            Give (rows, ..., draws), contiguous, instead of (draws, rows, ...).
        progress
            Called with (done, all).
        """
        if self._kept is not None and isinstance(function, Means) and set(function.names) <= set(self._kept):
            rows_second = {name: np.moveaxis(self._kept[name], -1, 1) for name in function.names}
            yield {n: np.moveaxis(v, 0, -1) if draws_last else v for n, v in rows_second.items()}
            return
        blocks = self.blocks(self._affordable_sizes(bytes_per_row * len(self.draws)))
        done, work = 0, len(self.draws) * len(blocks)
        draw_axis, row_axis = (-1, 0) if draws_last else (0, 1)
        for number, block in enumerate(blocks):
            pieces: list[dict[str, np.ndarray]] = []
            with self._precision():
                program = self._program(
                    ("collect", function, draws_last), lambda: self._make_collect(function, draws_last=draws_last)
                )
                data = self._device_data(block)
                key = _block_key(self._key_words, 1, number)
                for start, count, chunk in self._chunks():
                    values = jax.device_get(program(chunk, np.int32(start), key, data))
                    pieces.append({name: _first(v, count, draw_axis) for name, v in values.items()})
                    done += count
                    if progress is not None:
                        progress(done, work)
            whole = {name: np.concatenate([piece[name] for piece in pieces], axis=draw_axis) for name in pieces[0]}
            yield {name: v if block is None else _first(v, block.num_rows, row_axis) for name, v in whole.items()}

    def _affordable_sizes(self, bytes_per_row: int) -> tuple[int, ...]:
        if self.num_rows is None:
            return ()
        if self.target.block_sizes is not None:
            return tuple(s for s in self.sizes if s * bytes_per_row <= MEMORY_BUDGET) or (min(self.sizes),)
        size = self.sizes[-1]
        while size > SMALL_BLOCK and size * bytes_per_row > MEMORY_BUDGET:
            size //= 2
        return (size,)

    def _make_collect(self, function: Callable, *, draws_last: bool) -> Callable:
        target = self.target
        minor = self.batch_minor(lambda z, data, key: function(target, z, data, key))

        def collect(chunk: Array, start: Array, key: Array, data: Data) -> dict[str, Array]:
            block_key = jax.random.wrap_key_data(key)
            keys = jax.vmap(lambda i: jax.random.fold_in(block_key, start + i))(jnp.arange(chunk.shape[0]))
            values = jax.lax.map(lambda pair: minor(pair[0], data, pair[1]), (chunk, keys))
            # Transposed here: XLA does it in tiles, NumPy jumps through memory and takes longer than the rest together.
            return {name: jnp.moveaxis(v, 0, -1) if draws_last else v for name, v in values.items()}

        return collect


def _words(key: Key | np.ndarray) -> list[int]:
    """A key as plain numbers: typed, or raw words as a host makes them."""
    raw = key if isinstance(key, np.ndarray) else np.asarray(jax.random.key_data(key))
    return [int(word) for word in raw.ravel()]


def _block_key(words: list[int], purpose: int, number: int) -> np.ndarray:
    """Raw key of one block, derived on the host: folding it in with JAX would compile a program of its own."""
    return np.random.SeedSequence([*words, purpose, number]).generate_state(2, np.uint32)


def _first(values: np.ndarray, count: int, axis: int) -> np.ndarray:
    index = [slice(None)] * values.ndim
    index[axis] = slice(count)
    return values[tuple(index)]


def _float() -> np.dtype:
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))
