"""The loop: runs an algorithm in compiled chunks and looks up between them.

A chunk is one call of a compiled program that takes any number of steps up to a limit; how many is timed, so that the
host looks up about ten times a second whatever a step costs. Between chunks the loop reports progress, calls
callbacks, counts steps that were skipped for non-finite values, and notices Ctrl-C. Nothing waits inside a chunk.

Noise is drawn in blocks of a fixed length numbered from the start of the round, so a fit's numbers do not depend on
where chunks were cut, that is, not on the clock.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Data, PyTree, SelectRows
from posterion.distributed import SOLO, Team, interruptions
from posterion.optim.algorithm import Algorithm
from posterion.optim.progress import ProgressReporter

_SECONDS_PER_CHUNK = 0.1
_NOISE_VALUES_PER_BLOCK = 1 << 18
_CONSTANT = 1 << 30
"""Length of a cosine that does not fall within a round."""
_LONGEST_BLOCK = 100  # measured: 8.8 us a step at 100, 9.9 at 500 (the block leaves the fast cache)


@runtime_checkable
class BatchStream(Protocol):
    """The part of `posterion.data.batches.AbstractBatches` the loop uses."""

    data: Data
    max_steps: int
    select: SelectRows

    def window(self, first_step: int, num_steps: int, capacity: int) -> PyTree:
        """Indices for a window of steps."""
        ...

    def template(self, capacity: int) -> PyTree:
        """Something of the shapes and types of `window`."""
        ...


@runtime_checkable
class Callback(Protocol):
    """Called between chunks; raise StopIteration to end the fit and keep what exists.

    One with an attribute ``every`` is called after every so many steps of a round (whole blocks of a hundred), whatever
    the clock says: what it decides is then the same each time the fit is repeated.
    """

    def __call__(self, progress: "Progress") -> None:
        """Look at ``progress``."""


@dataclass(frozen=True)
class Progress:
    """What a callback sees.

    Parameters
    ----------
    step
        Steps done in the whole fit.
    losses
        Their negative ELBO estimates, in nats.
    state
        The algorithm's state now, on the device.
    posterior
        Makes the posterior as it is now, with all a posterior can do: predictions, draws, its ELBO.
    """

    step: int
    losses: np.ndarray
    state: PyTree
    posterior: Callable[[], Any]


class Chunk(NamedTuple):
    """Arguments of the compiled program that say which steps to take; NumPy, so that calling it computes nothing else.

    Parameters
    ----------
    key_data
        Raw key of the round's noise.
    first, count, length
        The chunk takes ``count`` of the round's ``length`` steps from ``first`` on (a multiple of the block length).
    peak
        Largest step size of the round.
    """

    key_data: np.ndarray | Array
    first: np.ndarray | Array
    count: np.ndarray | Array
    length: np.ndarray | Array
    peak: np.ndarray | Array


def key_data_of(seed: int) -> np.ndarray:
    """Raw key from a seed, made on the host: two 32-bit words of a seed sequence."""
    return np.random.SeedSequence(seed).generate_state(2, np.uint32)


def block_length(algorithm: Algorithm, stream: BatchStream) -> int:
    """Steps whose noise is drawn at once; no more than the rows of which are handed over at once."""
    longest = min(_LONGEST_BLOCK, stream.max_steps)
    return max(1, min(longest, _NOISE_VALUES_PER_BLOCK // max(1, algorithm.noise_values_per_step)))


def chunk_capacity(algorithm: Algorithm, stream: BatchStream) -> int:
    """The most steps one chunk can take: whole blocks."""
    block = block_length(algorithm, stream)
    return max(1, stream.max_steps // block) * block


def advance(algorithm: Algorithm, stream: BatchStream) -> Callable:
    """The function to compile: ``(state, chunk, data, indices) -> (state, losses, skipped)``.

    Rates follow one cosine from ``chunk.peak`` to zero over the round. A round's first chunk clears the optimiser's
    memory.
    """
    block, capacity, select = block_length(algorithm, stream), chunk_capacity(algorithm, stream), stream.select

    def run(state: PyTree, chunk: Chunk, data: Data, indices: PyTree) -> tuple[PyTree, jax.Array, jax.Array]:
        float_type = jnp.result_type(float)
        key = jax.random.wrap_key_data(jnp.asarray(chunk.key_data))
        fresh = algorithm.restart(state)
        state = jax.tree.map(lambda new, old: jnp.where(chunk.first == 0, new, old), fresh, state)

        def one_block(b: jax.Array, carry: tuple) -> tuple:
            noise = algorithm.noise(jax.random.fold_in(key, chunk.first // block + b), block)

            def one_step(i: jax.Array, carry: tuple) -> tuple:
                state, losses, skipped = carry
                t = b * block + i
                angle = jnp.pi * (chunk.first + t).astype(float_type) / chunk.length.astype(float_type)
                rate = jnp.asarray(chunk.peak) * 0.5 * (1 + jnp.cos(angle))
                at = lambda tree, k: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), tree)
                state, info = algorithm.step(at(noise, i), state, select(data, at(indices, t)), rate)
                losses = jax.lax.dynamic_update_index_in_dim(losses, info.loss.astype(float_type), t, 0)
                return state, losses, skipped + jnp.where(info.finite, 0, 1)

            return jax.lax.fori_loop(0, jnp.minimum(block, chunk.count - b * block), one_step, carry)

        blocks = (chunk.count + block - 1) // block
        start = (state, jnp.zeros(capacity, float_type), jnp.zeros((), jnp.int32))
        return jax.lax.fori_loop(0, blocks, one_block, start)

    return run


class Loop:
    """Runs rounds of steps and keeps their history.

    Parameters
    ----------
    algorithm
        The pure functions.
    program
        `advance` of the same algorithm and stream, compiled.
    stream
        Where batches come from.
    reporter
        Told of progress between chunks.
    callbacks
        Called between chunks, in the process that leads.
    team
        The processes that take these steps together.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        program: Callable,
        stream: BatchStream,
        reporter: ProgressReporter,
        callbacks: Sequence[Callback] = (),
        team: Team = SOLO,
    ) -> None:
        self._team = team
        self.algorithm, self._program, self._stream = algorithm, program, stream
        self._reporter, self._callbacks = reporter, tuple(callbacks)
        self._block, self._capacity = block_length(algorithm, stream), chunk_capacity(algorithm, stream)
        self._seconds_per_step: float | None = None
        self._losses: list[np.ndarray] = []
        self.steps = 0
        self.skipped = 0
        self.seconds = 0.0
        self.said = ""
        self.deadline: float | None = None
        self.publish: Callable[[PyTree], Any] = lambda state: state
        self._every = [self._whole_blocks(getattr(callback, "every", 0)) for callback in self._callbacks]

    def _whole_blocks(self, steps: int) -> int:
        return -(-steps // self._block) * self._block

    @property
    def losses(self) -> np.ndarray:
        """Negative ELBO estimates of all steps so far, in nats."""
        return np.concatenate(self._losses) if self._losses else np.empty(0)

    def go_on_from(self, losses: np.ndarray, skipped: int) -> None:
        """Take the steps that another loop has taken as one's own."""
        self._losses, self.steps, self.skipped = [np.asarray(losses)], len(losses), skipped

    def first_arguments(self, state: PyTree) -> tuple:
        """Arguments of the shapes the program is called with, to compile for."""
        return state, self._chunk(0, 0, 1, 1, 0.0), self._stream.data, self._stream.template(self._capacity)

    def _chunk(self, seed: int, first: int, count: int, length: int, peak: float) -> Chunk:
        whole = lambda x: np.asarray(x, np.int32)
        return Chunk(
            key_data_of(seed), whole(first), whole(count), whole(length), np.asarray(peak, jnp.result_type(float))
        )

    def run(
        self,
        state: PyTree,
        seed: int,
        num_steps: int,
        peak: float,
        *,
        first: int = 0,
        total: int | None = None,
        note: str = "",
        constant: bool = False,
        look: Callable[[PyTree, int], None] | None = None,
    ) -> "Round":
        """Take ``num_steps`` steps with rates falling from ``peak`` to zero along one cosine.

        Parameters
        ----------
        state
            To begin with.
        seed
            Of the round's noise.
        num_steps, peak
            Length of the round and its largest step size.
        first
            Steps of this round that ``state`` has behind it: a multiple of the block length, or all.
        total, note
            For the progress report.
        constant
            Whether all steps are of the size ``peak``.
        look
            Told the state and the steps done of this round between chunks.

        Returns
        -------
        Round
            The state after the last step taken. A KeyboardInterrupt ends the round and is reported in it; so do a
            callback's StopIteration, the deadline, and a whole chunk of non-finite steps.
        """
        done, losses_from, skipped, ended, team = first, len(self._losses), 0, "", self._team
        try:
            with interruptions(team) as interrupted:
                while done < num_steps and not ended:
                    count = int(team.agree(np.int64(self._next_count(num_steps - done, done))))
                    indices = self._stream.window(self.steps, count, self._capacity)
                    begin = time.perf_counter()
                    new_state, losses, new_skipped = self._program(
                        state,
                        self._chunk(seed, done, count, _CONSTANT if constant else num_steps, peak),
                        self._stream.data,
                        indices,
                    )
                    losses, new_skipped = np.asarray(losses)[:count].copy(), int(new_skipped)
                    seconds = time.perf_counter() - begin
                    state = new_state
                    self.seconds += seconds
                    self._seconds_per_step = seconds / count
                    self._losses.append(losses)
                    done, self.steps = done + count, self.steps + count
                    skipped, self.skipped = skipped + new_skipped, self.skipped + new_skipped
                    self._reporter.update(self.steps, total, float(np.mean(losses[-1000:])), note)
                    if new_skipped == count and count >= min(self._block, num_steps):
                        ended = "non_finite"
                    elif self._callbacks and team.anyone(team.leads and self._wants_to_stop(state, done)):
                        ended = "callback"
                    if not ended and self.deadline is not None and team.anyone(time.perf_counter() > self.deadline):
                        ended = "time"
                    if not ended and interrupted():
                        ended = "interrupted"
                    if look is not None and not ended:
                        look(state, done)
        except KeyboardInterrupt:
            ended = "interrupted"
        losses = np.concatenate(self._losses[losses_from:]) if len(self._losses) > losses_from else np.empty(0)
        return Round(state, done - first, losses, skipped, ended)

    def _next_count(self, remaining: int, done: int) -> int:
        if self._seconds_per_step is None:
            wanted = self._block
        else:
            wanted = int(_SECONDS_PER_CHUNK / max(self._seconds_per_step, 1e-9))
        blocks = max(1, min(wanted, self._capacity) // self._block)
        return min(blocks * self._block, remaining, *(every - done % every for every in self._every if every))

    def _wants_to_stop(self, state: PyTree, done: int) -> bool:
        view = Progress(self.steps, self.losses, state, lambda: self.publish(state))
        try:
            for callback, every in zip(self._callbacks, self._every, strict=True):
                if not every or done % every == 0:
                    callback(view)
        except StopIteration as stop:
            self.said = str(stop)
            return True
        return False


@dataclass(frozen=True)
class Round:
    """What one round of steps left behind.

    Parameters
    ----------
    state
        After the last step taken.
    steps
        Steps taken.
    losses
        One per step.
    skipped
        Steps that were skipped for non-finite values.
    ended
        Empty if the round is complete, else "interrupted", "callback", "time" or "non_finite".
    """

    state: PyTree
    steps: int
    losses: np.ndarray
    skipped: int
    ended: str = ""
