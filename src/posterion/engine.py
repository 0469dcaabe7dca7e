"""One fit from inside: the arrays on the device, the compiled programs, and the order of events.

A first fit in a process is made of compiling, so everything here that is not one of four programs runs in NumPy: an
operation of JAX outside a compiled program costs 20 to 50 milliseconds the first time. The programs are compiled at the
same time and kept with the target for its next fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from posterion._typing import Array, Batch, PyTree
from posterion.compilation import cache
from posterion.compilation.minor_axis import pack, take_rows, unpack
from posterion.data.batches import AbstractBatches, AllRows, RandomRows
from posterion.errors import NonFiniteError
from posterion.methods import ADVI
from posterion.methods.starts import derivatives, pays, whiten
from posterion.objectives.bounds import log_joint
from posterion.optim.algorithm import Algorithm
from posterion.optim.convergence import QUICK_DRAWS, Comparer, Outcome, Rounds, run_fixed, run_rounds
from posterion.optim.loop import Callback, Loop, advance, key_data_of
from posterion.optim.progress import ProgressReporter
from posterion.target import AbstractTarget, RowPlan

_STARTING_SCALE = float(np.exp(-2))
_COMPARISON_DRAWS = 1024
_FINAL_DRAWS = 4096
_EVALUATION_ROWS = 1 << 22
"""Rows times draws that one evaluation of the ELBO may touch, above the least number of draws."""
_TRIES = 20


@dataclass(frozen=True)
class Engine:
    """The four compiled programs of one target and method."""

    algorithm: Algorithm
    start: cache.Program
    advance: cache.Program
    evaluate: cache.Program
    derivatives: cache.Program
    optimiser: optax.GradientTransformation | None  # kept alive: its identity is part of the key it is kept under


class Task:
    """One fit.

    Parameters
    ----------
    target
        What is approximated.
    method
        How.
    optimiser
        The caller's, or None for Adam under the loop's schedule.
    plan
        How to cut batches of rows; None for all rows at once.
    rows_per_step
        Batch size, None with ``plan`` None.
    values
        Data by slot, checked.
    seed
        The fit's seed; every purpose draws its own from it.
    """

    def __init__(
        self,
        target: AbstractTarget,
        method: ADVI,
        optimiser: optax.GradientTransformation | None,
        plan: RowPlan | None,
        rows_per_step: int | None,
        values: Mapping[str, np.ndarray],
        seed: int,
    ) -> None:
        self._target, self._method, self._optimiser, self._plan = target, method, optimiser, plan
        self._layout, self._rows_per_step = target.layout, rows_per_step
        purposes = (int(s) for s in np.random.SeedSequence(seed).generate_state(6, np.uint32))
        self._initial_seed, self._start_seed, self._run_seed, self._compare_seed, self._final_seed, rows_seed = purposes
        data = pack(target.as_arrays(values))
        self._everything = Batch(data)
        if plan is None or rows_per_step is None:
            self._stream: AbstractBatches = AllRows(data)
        else:
            self._stream = RandomRows(data, dict(plan.axes), plan.num_rows, rows_per_step, rows_seed, take_rows)
        self._evaluation_size = self._num_draws(_COMPARISON_DRAWS)
        self._engine = self._compiled_engine()

    def _compiled_engine(self) -> Engine:
        followers = self._plan.observed if self._plan else ()
        x64 = bool(jax.config.jax_enable_x64)
        key = ("engine", self._method, id(self._optimiser), followers, self._rows_per_step, x64)
        kept = self._target.compiled
        if key not in kept:
            joint = log_joint(self._target, followers)
            algorithm = self._method.algorithm(joint, self._layout, self._optimiser)

            def start(key_data: Array, location: Array, shift: Array, scale: Array) -> PyTree:
                key = jax.random.wrap_key_data(key_data)
                return self._method.start(self._layout, key, location, _STARTING_SCALE, shift, scale, self._optimiser)

            kept[key] = Engine(
                algorithm,
                cache.Program(start),
                cache.Program(advance(algorithm, self._stream)),
                cache.Program(algorithm.evaluate),
                cache.Program(derivatives(joint)),
                self._optimiser,
            )
        return kept[key]

    # ---- the order of events
    def run(
        self,
        n: int | None,
        restarts: int,
        rule: Rounds,
        callbacks: Sequence[Callback],
        show: ProgressReporter,
    ) -> tuple[Outcome, Loop]:
        """Start, then ``n`` steps or rounds until the rule says stop."""
        algorithm = self._engine.algorithm
        loop = Loop(algorithm, self._engine.advance, self._stream, show, callbacks)
        evaluate = lambda state, noise, count: self._evaluate(state, noise, count)[0]
        self._evaluation_size = self._num_draws(rule.num_draws)
        compare = Comparer(algorithm, evaluate, self._compare_seed, self._evaluation_size)
        initial = np.asarray(self._target.initial_point(self._initial_seed), np.float64)
        self._compile(loop, initial, compare.num_draws)
        starts = self._starts(initial, restarts)
        if n is None:
            return run_rounds(loop, starts, compare, self._run_seed, rule, self._peak()), loop
        start = starts[compare.best(starts, QUICK_DRAWS)] if len(starts) > 1 else starts[0]
        return run_fixed(loop, start, compare, self._run_seed, n, self._peak()), loop

    def params(self, outcome: Outcome) -> PyTree:
        """The fitted parameters of the family, on the host."""
        noise = self._engine.algorithm.host_noise(0, self._evaluation_size, False)
        return self._evaluate(outcome.state, noise, 0)[1]

    def log_weights(self, outcome: Outcome) -> Float[np.ndarray, " draws"]:
        """Values of log p - log q at fresh independent draws, which selected nothing."""
        size = self._evaluation_size
        count = max(1, self._num_draws(_FINAL_DRAWS) // size)  # the same program again, not one for more draws
        weights = []
        for seed in np.random.SeedSequence(self._final_seed).generate_state(count, np.uint32):
            noise = self._engine.algorithm.host_noise(int(seed), size, False)
            weights.append(self._evaluate(outcome.state, noise, size)[0].astype(np.float64))
        return np.concatenate(weights)

    def _evaluate(self, state: PyTree, noise: PyTree, count: int) -> tuple[np.ndarray, PyTree]:
        return jax.device_get(self._engine.evaluate(state, noise, self._everything, np.int32(count)))

    # ---- pieces
    def _compile(self, loop: Loop, initial: np.ndarray, num_draws: int) -> None:
        engine = self._engine
        zero = np.zeros(self._layout.size, jnp.result_type(float))
        state = self._state(0, initial, zero, zero + 1)
        noise = engine.algorithm.host_noise(0, num_draws, False)
        cache.prepare(
            [
                (engine.advance, loop.first_arguments(state)),
                (engine.derivatives, (zero, zero, self._everything)),
                (engine.evaluate, (state, noise, self._everything, np.int32(0))),
            ]
        )

    def _num_draws(self, wanted: int) -> int:
        rows = self._plan.num_rows if self._plan else 1
        return int(max(64, min(wanted, 2 ** int(np.log2(max(64, _EVALUATION_ROWS / rows))))))

    def _peak(self) -> float:
        """Largest step size: 0.1 up to a thousand parameters, falling to 0.01 at ten thousand, in whitened units."""
        return float(np.clip(0.1 * 1000 / max(self._layout.size, 1000), 0.01, 0.1))

    def _state(self, seed: int, location: np.ndarray, shift: np.ndarray, scale: np.ndarray) -> PyTree:
        dtype = jnp.result_type(float)
        return self._engine.start(key_data_of(seed), location.astype(dtype), shift.astype(dtype), scale.astype(dtype))

    def _starts(self, initial: np.ndarray, restarts: int) -> list[PyTree]:
        """Random starts near the model's initial point, then the whitened one."""
        zero, one = np.zeros(self._layout.size), np.ones(self._layout.size)
        seeds = np.random.SeedSequence(self._start_seed).generate_state(restarts + 1, np.uint32)
        locations = [self._finite_start(initial, int(seed)) for seed in seeds[:restarts]]
        starts = [self._state(int(seed), at, zero, one) for seed, at in zip(seeds, locations, strict=False)]
        rows = self._plan.num_rows if self._plan else 1
        if pays(self._layout.size) and rows * self._layout.size <= 1e8:
            whitening = whiten(self._engine.derivatives, locations[0], self._everything)
            if whitening is not None:
                starts.append(self._state(int(seeds[-1]), zero, whitening.shift, whitening.scale))
        return starts

    def _finite_start(self, initial: np.ndarray, seed: int) -> np.ndarray:
        random, zero = np.random.default_rng(seed), np.zeros(initial.shape, jnp.result_type(float))
        spread = self._jitter(initial)
        for attempt in range(_TRIES):
            z = initial + spread * random.standard_normal(initial.shape) / (1 + attempt // 4)
            value, gradient, _ = self._engine.derivatives(z.astype(zero.dtype), zero, self._everything)
            if np.isfinite(value) and np.all(np.isfinite(gradient)):
                return z
        raise NonFiniteError(self._explain_non_finite(initial))

    def _jitter(self, initial: np.ndarray) -> np.ndarray:
        """Where a variable starts as a constant its entries must part, or hidden units would stay equal for ever."""
        spread = np.full_like(initial, 0.1)
        for at in self._layout.slices.values():
            if initial[at].size and np.ptp(initial[at]) == 0:
                spread[at] = 0.5
        return spread

    def _explain_non_finite(self, initial: np.ndarray) -> str:
        terms = self._target.named_terms(jnp.asarray(initial, jnp.result_type(float)), unpack(self._everything.data))
        bad = [f"{name} ({float(value)})" for name, value in terms.items() if not np.isfinite(value)]
        which = ", ".join(bad) if bad else "its gradient, though every term is finite"
        return (
            f"the log density is not finite at the model's initial point nor at {_TRIES} points around it. "
            f"Not finite there: {which}. Look for observations outside the support of their distribution, a scale of "
            "zero, or give the variable another initval."
        )
