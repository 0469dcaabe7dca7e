"""One fit from inside: the arrays on the device, the compiled programs, and the order of events.

A first fit in a process is made of compiling, so everything here that is not one of a few programs runs in NumPy: an
operation of JAX outside a compiled program costs 20 to 50 milliseconds the first time. The programs are compiled at the
same time and kept with the target for its next fit.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

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
from posterion.families import AbstractFamily
from posterion.families.host_noise import host_noise
from posterion.methods.base import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod, Problem
from posterion.methods.starts import derivatives, pays, whiten
from posterion.objectives.bounds import LogJoint, log_joint
from posterion.objectives.gradients import sticking_the_landing, values_at_draws
from posterion.optim.convergence import QUICK_DRAWS, Comparer, Comparison, Rounds, Status, run_fixed, run_rounds
from posterion.optim.loop import Callback, Loop, advance, key_data_of
from posterion.optim.progress import ProgressReporter
from posterion.target import AbstractTarget, Layout, RowPlan

_STARTING_SCALE = float(np.exp(-2))
_COMPARISON_DRAWS = 1024
_FINAL_DRAWS = 4096
_EVALUATION_ROWS = 1 << 22
"""Rows times draws that one evaluation of the ELBO may touch, above the least number of draws."""
_TRIES = 20


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Parameters
    ----------
    family, params
        The approximation, in the units of ``z``, on the host.
    status, sentence
        How it ended.
    steps, skipped
        Steps (or evaluations, for a direct method) in all, and those that changed nothing for a non-finite value.
    losses
        Negative ELBO estimates along the path that was kept.
    log_weights
        Computes log p - log q at fresh independent draws, which selected nothing.
    comparisons
        One per round.
    """

    family: AbstractFamily
    params: PyTree
    status: Status
    sentence: str
    steps: int
    skipped: int
    losses: Float[np.ndarray, " steps"]
    log_weights: Callable[[], Float[np.ndarray, " draws"]]
    comparisons: list[Comparison] = field(default_factory=list)


class Task:
    """The target on the device, starting points, and programs that are kept with the target.

    Parameters
    ----------
    target
        What is approximated.
    values
        Data by slot, checked.
    seed
        The fit's seed; every purpose draws its own from it.
    plan
        How to cut batches of rows; None for all rows at once.
    rows_per_step
        Batch size, None with ``plan`` None.
    """

    def __init__(
        self,
        target: AbstractTarget,
        values: Mapping[str, np.ndarray],
        seed: int,
        plan: RowPlan | None = None,
        rows_per_step: int | None = None,
    ) -> None:
        self._target, self._plan, self._rows_per_step = target, plan, rows_per_step
        purposes = (int(s) for s in np.random.SeedSequence(seed).generate_state(6, np.uint32))
        self._initial_seed, self.start_seed, self.run_seed, self.compare_seed, self.final_seed, rows_seed = purposes
        data = pack(target.as_arrays(values))
        self.everything = Batch(data)
        self.stream: AbstractBatches = AllRows(data)
        if plan is not None and rows_per_step is not None:
            self.stream = RandomRows(data, dict(plan.axes), plan.num_rows, rows_per_step, rows_seed, take_rows)
        self.followers = plan.observed if plan else ()
        self.log_joint: LogJoint = log_joint(target, self.followers)
        self.derivatives = self.program(("derivatives",), lambda: derivatives(self.log_joint))

    @property
    def layout(self) -> Layout:
        """Names and shapes of the variables."""
        return self._target.layout

    @property
    def num_rows(self) -> int:
        """Rows that are cut into batches; one if none are."""
        return self._plan.num_rows if self._plan else 1

    def program(self, name: tuple[Hashable, ...], make: Callable[[], Callable]) -> cache.Program:
        """The program of this name for these rows and this precision; made once and kept with the target."""
        key = ("engine", self.followers, self._rows_per_step, bool(jax.config.jax_enable_x64), *name)
        kept = self._target.compiled
        if key not in kept:
            kept[key] = cache.Program(make())
        return kept[key]

    def num_draws(self, wanted: int) -> int:
        """As many draws as wanted, or fewer (a power of two) where rows are many."""
        return int(max(64, min(wanted, 2 ** int(np.log2(max(64, _EVALUATION_ROWS / self.num_rows))))))

    def initial_point(self) -> Float[np.ndarray, " dim"]:
        """The model's own."""
        return np.asarray(self._target.initial_point(self._initial_seed), np.float64)

    def finite_start(self, initial: Float[np.ndarray, " dim"], seed: int) -> Float[np.ndarray, " dim"]:
        """A random point near ``initial`` where the log joint and its gradient are finite.

        Raises
        ------
        NonFiniteError
            If there is none within 20 tries; the message names the variable.
        """
        random, zero = np.random.default_rng(seed), np.zeros(initial.shape, jnp.result_type(float))
        spread = self._jitter(initial)
        for attempt in range(_TRIES):
            z = initial + spread * random.standard_normal(initial.shape) / (1 + attempt // 4)
            value, gradient, _ = self.derivatives(z.astype(zero.dtype), zero, self.everything)
            if np.isfinite(value) and np.all(np.isfinite(gradient)):
                return z
        raise NonFiniteError(self._explain_non_finite(initial))

    def _jitter(self, initial: np.ndarray) -> np.ndarray:
        """Where a variable starts as a constant its entries must part, or hidden units would stay equal for ever."""
        spread = np.full_like(initial, 0.1)
        for at in self.layout.slices.values():
            if initial[at].size and np.ptp(initial[at]) == 0:
                spread[at] = 0.5
        return spread

    def _explain_non_finite(self, initial: np.ndarray) -> str:
        terms = self._target.named_terms(jnp.asarray(initial, jnp.result_type(float)), unpack(self.everything.data))
        bad = [f"{name} ({float(value)})" for name, value in terms.items() if not np.isfinite(value)]
        which = ", ".join(bad) if bad else "its gradient, though every term is finite"
        return (
            f"the log density is not finite at the model's initial point nor at {_TRIES} points around it. "
            f"Not finite there: {which}. Look for observations outside the support of their distribution, a scale of "
            "zero, or give the variable another initval."
        )

    def log_weights(
        self, evaluate: Callable[[PyTree, int], np.ndarray], family: AbstractFamily, size: int
    ) -> Float[np.ndarray, " draws"]:
        """``evaluate`` at several fresh sets of ``size`` draws: the same program again, not one for more draws."""
        count = max(1, self.num_draws(_FINAL_DRAWS) // size)
        seeds = np.random.SeedSequence(self.final_seed).generate_state(count, np.uint32)
        noise = (host_noise(family, self.layout, int(seed), size, quasi=False) for seed in seeds)
        return np.concatenate([np.asarray(evaluate(one, size), np.float64) for one in noise])


def run(
    method: AbstractMethod,
    task: Task,
    *,
    n: int | None,
    restarts: int,
    rule: Rounds,
    callbacks: Sequence[Callback],
    optimiser: optax.GradientTransformation | None,
    show: ProgressReporter,
) -> Fitted:
    """Fit by whichever kind of method it is."""
    if isinstance(method, AbstractDirectMethod):
        return _run_direct(method, task, restarts, show)
    assert isinstance(method, AbstractLoopMethod)  # there are two kinds  # noqa: S101
    return _LoopFit(method, task, optimiser).run(n, restarts, rule, callbacks, show)


def _run_direct(method: AbstractDirectMethod, task: Task, restarts: int, show: ProgressReporter) -> Fitted:
    initial = task.initial_point()
    seeds = np.random.SeedSequence(task.start_seed).generate_state(restarts, np.uint32)
    problem = Problem(
        log_joint=task.log_joint,
        batch=task.everything,
        layout=task.layout,
        starts=np.stack([task.finite_start(initial, int(seed)) for seed in seeds]),
        seed=task.run_seed,
        program=lambda name, function: task.program((method, name), lambda: function),
        report=show.update,
    )
    found = method.solve(problem)
    params = jax.device_get(found.params)

    def make() -> Callable:
        integrand = sticking_the_landing(task.log_joint, found.family, task.layout)
        return lambda params, noise, batch, count: values_at_draws(
            lambda one: integrand(params, one, batch), noise, count
        )

    def evaluate(noise: PyTree, count: int) -> np.ndarray:
        return np.asarray(
            task.program((found.family, "evaluate"), make)(params, noise, task.everything, np.int32(count))
        )

    return Fitted(
        family=found.family,
        params=params,
        status=Status.CONVERGED if found.converged else Status.MAX_STEPS,
        sentence=found.sentence,
        steps=found.evaluations,
        skipped=0,
        losses=found.losses,
        log_weights=lambda: task.log_weights(evaluate, found.family, task.num_draws(_COMPARISON_DRAWS)),
    )


class _LoopFit:
    """A fit by a loop method: its programs, its starts, and their rounds."""

    def __init__(self, method: AbstractLoopMethod, task: Task, optimiser: optax.GradientTransformation | None) -> None:
        self._method, self._task, self._layout = method, task, task.layout
        self._algorithm = method.algorithm(task.log_joint, task.layout, optimiser)

        def start(key_data: Array, location: Array, shift: Array, scale: Array) -> PyTree:
            key = jax.random.wrap_key_data(key_data)
            return method.start(task.layout, key, location, _STARTING_SCALE, shift, scale, optimiser)

        # The optimiser is part of the name: that keeps it alive, so that its identity cannot be taken by another.
        name = (method, _ByIdentity(optimiser))
        self._start = task.program((*name, "start"), lambda: start)
        self._advance = task.program((*name, "advance"), lambda: advance(self._algorithm, task.stream))
        self._evaluate = task.program((*name, "evaluate"), lambda: self._algorithm.evaluate)

    def run(
        self,
        n: int | None,
        restarts: int,
        rule: Rounds,
        callbacks: Sequence[Callback],
        show: ProgressReporter,
    ) -> Fitted:
        """Start, then ``n`` steps or rounds until the rule says stop."""
        task = self._task
        loop = Loop(self._algorithm, self._advance, task.stream, show, callbacks)
        size = task.num_draws(rule.num_draws)
        compare = Comparer(self._algorithm, lambda *what: self._values(*what)[0], task.compare_seed, size)
        initial = task.initial_point()
        self._compile(loop, initial, size)
        starts = self._starts(initial, restarts)
        if n is None:
            outcome = run_rounds(loop, starts, compare, task.run_seed, rule, self._peak())
        else:
            start = starts[compare.best(starts, QUICK_DRAWS)] if len(starts) > 1 else starts[0]
            outcome = run_fixed(loop, start, compare, task.run_seed, n, self._peak())
        family, state = self._method.approximation, outcome.state
        return Fitted(
            family=family,
            params=self._values(state, self._algorithm.host_noise(0, size, False), 0)[1],
            status=outcome.status,
            sentence=outcome.sentence,
            steps=loop.steps,
            skipped=loop.skipped,
            losses=outcome.losses,
            log_weights=lambda: task.log_weights(lambda *what: self._values(state, *what)[0], family, size),
            comparisons=outcome.comparisons,
        )

    def _values(self, state: PyTree, noise: PyTree, count: int) -> tuple[np.ndarray, PyTree]:
        return jax.device_get(self._evaluate(state, noise, self._task.everything, np.int32(count)))

    def _compile(self, loop: Loop, initial: np.ndarray, num_draws: int) -> None:
        task, zero = self._task, np.zeros(self._layout.size, jnp.result_type(float))
        state = self._state(0, initial, zero, zero + 1)
        noise = self._algorithm.host_noise(0, num_draws, False)
        cache.prepare(
            [
                (self._advance, loop.first_arguments(state)),
                (task.derivatives, (zero, zero, task.everything)),
                (self._evaluate, (state, noise, task.everything, np.int32(0))),
            ]
        )

    def _peak(self) -> float:
        """Largest step size: 0.1 up to a thousand parameters, falling to 0.01 at ten thousand, in whitened units."""
        return float(np.clip(0.1 * 1000 / max(self._layout.size, 1000), 0.01, 0.1))

    def _state(self, seed: int, location: np.ndarray, shift: np.ndarray, scale: np.ndarray) -> PyTree:
        dtype = jnp.result_type(float)
        return self._start(key_data_of(seed), location.astype(dtype), shift.astype(dtype), scale.astype(dtype))

    def _starts(self, initial: np.ndarray, restarts: int) -> list[PyTree]:
        """Random starts near the model's initial point, then the whitened one."""
        task, dim = self._task, self._layout.size
        zero, one = np.zeros(dim), np.ones(dim)
        seeds = np.random.SeedSequence(task.start_seed).generate_state(restarts + 1, np.uint32)
        locations = [task.finite_start(initial, int(seed)) for seed in seeds[:restarts]]
        starts = [self._state(int(seed), at, zero, one) for seed, at in zip(seeds, locations, strict=False)]
        if pays(dim) and task.num_rows * dim <= 1e8:
            whitening = whiten(task.derivatives, locations[0], task.everything)
            if whitening is not None:
                starts.append(self._state(int(seeds[-1]), zero, whitening.shift, whitening.scale))
        return starts


@dataclass(frozen=True, eq=False)
class _ByIdentity:
    """Something compared by identity, and kept alive as long as it is compared."""

    held: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)
