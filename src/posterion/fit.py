"""`fit`: the one place where front end, data, method and loop meet."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posterion._typing import Batch
from posterion.compilation import cache
from posterion.compilation.minor_axis import pack, take_rows, unpack
from posterion.compilation.precision import choose, is_network
from posterion.data.batches import AbstractBatches, AllRows, RandomRows
from posterion.errors import NonFiniteError, OptionError, UnsupportedModelError
from posterion.frontends import target_of
from posterion.methods import ADVI
from posterion.methods.advi import ADVIState
from posterion.methods.starts import derivatives, pays, whiten
from posterion.objectives.bounds import log_joint
from posterion.optim.algorithm import Algorithm
from posterion.optim.convergence import Comparer, Outcome, Rounds, run_fixed, run_rounds
from posterion.optim.loop import Callback, Loop, advance
from posterion.optim.optimisers import resolve
from posterion.optim.progress import reporter
from posterion.posterior.posterior import Posterior
from posterion.posterior.record import Comparison, FitRecord
from posterion.target import AbstractRowTarget, AbstractTarget, RowPlan
from posterion.target.checks import check_data

_METHODS: dict[str, Callable[[], ADVI]] = {"advi": ADVI}
_STARTING_SCALE = float(np.exp(-2))
_FINAL_DRAWS = 4096
_EVALUATION_ROWS = 1 << 22
"""Rows times draws that one evaluation of the ELBO may touch, above the least number of draws."""


def fit(
    model: Any = None,
    method: str | ADVI = "advi",
    *,
    n: int | None = None,
    data: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    batch_over: str | None = None,
    restarts: int = 1,
    stop: Rounds | None = None,
    callbacks: Sequence[Callback] = (),
    obj_optimizer: optax.GradientTransformation | str | None = None,
    progress: bool = True,
    random_seed: int | None = None,
    precision: str | None = None,
) -> Posterior:
    """Approximate the posterior of a model.

    Parameters
    ----------
    model
        A PyMC model, or a target of Posterion's own. None means the PyMC model whose ``with`` block we are in.
    method
        "advi", or a method's description such as ``ADVI(num_draws=4)``.
    n
        Number of steps. None, the default, stops by itself; a number takes exactly so many steps along one cosine of
        step sizes, which is about three times as efficient if you know the number.
    data
        Other data than the model came with, by the names of its inputs.
    batch_size
        Rows per step. None means all of them, or what the model says (``pm.Minibatch``).
    batch_over
        The dim, or the observed variable, whose rows are batched; needed only if there is a choice.
    restarts
        Random starting points; each runs the first round and the best goes on.
    stop
        The stop rule, ``Rounds(tolerance=0.1)`` by default. Not together with ``n``.
    callbacks
        Called about ten times a second with a `Progress`; raise StopIteration to stop and keep what exists.
    obj_optimizer
        An optax optimiser or the name of one. None means Adam under a schedule that needs no tuning.
    progress
        Whether to show a bar where somebody can see it.
    random_seed
        A whole number. The same seed gives the same bits on the same machine and versions. None draws one and
        records it in ``Posterior.random_seed``.
    precision
        "float32", "float64", or None: single precision for networks, double for all else.

    Returns
    -------
    Posterior
        Whatever was reached, also after Ctrl-C; ``print`` it to see why it stopped and how far it can be trusted.

    Raises
    ------
    UnsupportedModelError
        If the model has something that cannot be fitted rightly; the message names it.
    DataError
        For data that do not fit the model, or values that are missing or infinite.
    OptionError
        For an argument outside what it can mean.
    NonFiniteError
        If the log density is not finite anywhere near the starting point; the message names the variable.
    """
    chosen = _method(method)
    optimiser = resolve(obj_optimizer)
    _check_options(n, batch_size, restarts, stop)
    target = target_of(model)
    values = {**target.data, **_known(target, data)}
    check_data(target.slots, values)
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if random_seed is None else _seed(random_seed)
    plan, rows_per_step = _plan(target, values, batch_size, batch_over)
    began = time.perf_counter()
    with cache.stopwatch() as compiling:
        x64 = _precision(target, values, precision)
        with jax.enable_x64(x64):
            task = _Task(target, chosen, optimiser, plan, rows_per_step, values, seed)
            show = reporter(progress=progress)
            try:
                outcome, loop = task.run(n, restarts, stop or Rounds(), callbacks, show)
                params = jax.device_get(task.engine.algorithm.params(outcome.state))
                log_weights = task.final_log_weights(outcome)
            finally:
                show.close()
    record = FitRecord(
        method=repr(chosen),
        random_seed=seed,
        x64=x64,
        status=str(outcome.status),
        sentence=outcome.sentence,
        losses=outcome.losses,
        comparisons=tuple(Comparison(c.step, c.elbo, c.gain, c.standard_error) for c in outcome.comparisons),
        steps=loop.steps,
        skipped_steps=loop.skipped,
        seconds_compiling=compiling.seconds,
        seconds_running=time.perf_counter() - began - compiling.seconds,
        rows_per_step=rows_per_step,
        num_rows=plan.num_rows if plan else None,
        is_network=task.is_network,
        notes=target.notes,
    )
    return Posterior(target, chosen.family, params, record, log_weights, data=values)


@dataclass(frozen=True)
class _Engine:
    """Compiled programs of one target and method, kept for the next fit."""

    algorithm: Algorithm
    advance: cache.Program
    evaluate: cache.Program
    derivatives: cache.Program
    optimiser: optax.GradientTransformation | None  # kept alive: its identity is the key


class _Task:
    """One fit: the arrays on the device, the programs, and the order of events."""

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
        self.target, self.method, self.optimiser, self.plan = target, method, optimiser, plan
        self.layout = target.layout
        self.is_network = target.compiled["is_network"]
        keys = jax.random.split(jax.random.key(seed), 6)
        self._start_key, self._jitter_key, self._init_key, self._run_key, self._final_key, compare_key = keys
        self._compare_seed = int(jax.random.bits(compare_key, dtype=jnp.uint32))
        self.data = pack(target.as_arrays(values))
        if plan is None or rows_per_step is None:
            self.stream: AbstractBatches = AllRows(self.data)
        else:
            self.stream = RandomRows(self.data, dict(plan.axes), plan.num_rows, rows_per_step, seed, take_rows)
        self.rows_per_step = rows_per_step
        self.everything = Batch(self.data)
        self.engine = self._engine()

    def _engine(self) -> _Engine:
        followers = self.plan.observed if self.plan and self.rows_per_step else ()
        key = (
            "engine",
            self.method,
            id(self.optimiser),
            followers,
            self.rows_per_step,
            bool(jax.config.jax_enable_x64),
        )
        kept = self.target.compiled
        if key not in kept:
            joint = log_joint(self.target, followers)
            algorithm = self.method.algorithm(joint, self.layout, self.optimiser)
            kept[key] = _Engine(
                algorithm,
                cache.Program(advance(algorithm, self.stream)),
                cache.Program(algorithm.evaluate),
                cache.Program(derivatives(joint)),
                self.optimiser,
            )
        return kept[key]

    # ---- the order of events
    def run(
        self, n: int | None, restarts: int, rule: Rounds, callbacks: Sequence[Callback], show: Any
    ) -> tuple[Outcome, Loop]:
        algorithm = self.engine.algorithm
        loop = Loop(algorithm, self.engine.advance, self.stream, show, callbacks)
        compare = Comparer(algorithm, self._evaluate, self._compare_seed, self._num_draws(rule.num_draws))
        initial = np.asarray(self.target.initial_point(self._start_key), np.float64)
        self._compile(loop, initial)
        starts = self._starts(initial, restarts)
        if n is None:
            return run_rounds(loop, starts, compare, self._run_key, rule, self._peak()), loop
        start = starts[compare.best(starts)] if len(starts) > 1 else starts[0]
        return run_fixed(loop, start, compare, self._run_key, n, self._peak()), loop

    def final_log_weights(self, outcome: Outcome) -> np.ndarray:
        """Values of log p - log q at fresh independent draws: the reported ELBO and the Pareto k-hat."""
        algorithm = self.engine.algorithm
        draws = self._num_draws(_FINAL_DRAWS)
        noise = algorithm.noise(self._final_key, draws)
        first = jax.tree.map(lambda x: x[:, 0], noise)  # the first of each step's draws
        try:
            return np.asarray(self._evaluate(outcome.state, first), np.float64)
        except KeyboardInterrupt:
            return np.full(2, np.nan)

    # ---- pieces
    def _evaluate(self, state: ADVIState, noise: Any) -> np.ndarray:
        return np.asarray(self.engine.evaluate(state, noise, self.everything))

    def _num_draws(self, wanted: int) -> int:
        rows = self.plan.num_rows if self.plan else 1
        return int(max(64, min(wanted, 2 ** int(np.log2(max(64, _EVALUATION_ROWS / rows))))))

    def _peak(self) -> float:
        """Peak step size: 0.1 up to a thousand parameters, 0.01 from ten thousand on, whitened units."""
        return float(np.clip(0.1 * 1000 / max(self.layout.size, 1000), 0.01, 0.1))

    def _whitens(self) -> bool:
        rows = self.plan.num_rows if self.plan else 1
        return pays(self.layout.size) and rows * self.layout.size <= 1e8

    def _state(self, key: Any, location: np.ndarray, scale: float, shift: np.ndarray, whitening: np.ndarray) -> Any:
        as_float = lambda x: jnp.asarray(x, jnp.result_type(float))
        return self.method.start(
            self.layout, key, as_float(location), scale, as_float(shift), as_float(whitening), self.optimiser
        )

    def _compile(self, loop: Loop, initial: np.ndarray) -> None:
        dim = self.layout.size
        state = self._state(self._init_key, initial, _STARTING_SCALE, np.zeros(dim), np.ones(dim))
        zero = jnp.zeros(dim, jnp.result_type(float))
        noise = self.engine.algorithm.evaluation_noise(0, self._num_draws(1024))
        cache.prepare(
            [
                (self.engine.advance, loop.first_arguments(state, self._run_key)),
                (self.engine.evaluate, (state, noise, self.everything)),
                (self.engine.derivatives, (zero, zero, self.everything)),
            ]
        )

    def _starts(self, initial: np.ndarray, restarts: int) -> list[ADVIState]:
        """Random starts near the model's initial point, then the whitened one."""
        dim = self.layout.size
        starts = []
        first = None
        for k in range(restarts):
            location = self._finite_start(initial, jax.random.fold_in(self._jitter_key, k))
            first = location if first is None else first
            key = jax.random.fold_in(self._init_key, k)
            starts.append(self._state(key, location, _STARTING_SCALE, np.zeros(dim), np.ones(dim)))
        if self._whitens() and first is not None:
            whitening = whiten(self.engine.derivatives, first, self.everything)
            if whitening is not None:
                key = jax.random.fold_in(self._init_key, restarts)
                starts.append(self._state(key, np.zeros(dim), _STARTING_SCALE, whitening.shift, whitening.scale))
        return starts

    def _finite_start(self, initial: np.ndarray, key: Any) -> np.ndarray:
        zero = jnp.zeros(initial.shape, jnp.result_type(float))
        for attempt in range(20):
            spread = self._jitter(initial)
            noise = np.asarray(jax.random.normal(jax.random.fold_in(key, attempt), initial.shape))
            z = initial + spread * noise / (1 + attempt // 4)
            value, gradient, _ = self.engine.derivatives(jnp.asarray(z, zero.dtype), zero, self.everything)
            if np.isfinite(value) and np.all(np.isfinite(gradient)):
                return z
        raise NonFiniteError(self._explain_non_finite(initial))

    def _jitter(self, initial: np.ndarray) -> np.ndarray:
        """Where a variable starts as a constant array its entries must part (hidden units would stay equal)."""
        spread = np.empty_like(initial)
        for at in self.layout.slices.values():
            values = initial[at]
            spread[at] = 0.5 if values.size == 0 or np.ptp(values) == 0 else 0.1
        return spread

    def _explain_non_finite(self, initial: np.ndarray) -> str:
        z = jnp.asarray(initial, jnp.result_type(float))
        terms = self.target.named_terms(z, self.target.as_arrays(dict(self._plain_data())))
        bad = [f"{name} ({float(value)})" for name, value in terms.items() if not np.isfinite(value)]
        which = ", ".join(bad) if bad else "its gradient, though every term is finite"
        return (
            "the log density is not finite at the model's initial point nor at 20 points around it. "
            f"Not finite there: {which}. Look for observations outside the support of their distribution, a scale of "
            "zero, or give the variable another initval."
        )

    def _plain_data(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in unpack(self.data).items()}


# ---- checks of arguments, before any work
def _method(method: str | ADVI) -> ADVI:
    if isinstance(method, ADVI):
        return method
    if isinstance(method, type) and issubclass(method, ADVI):
        return method()
    if isinstance(method, str) and method.lower() in _METHODS:
        return _METHODS[method.lower()]()
    raise OptionError(f"method={method!r} is not known; there are: {', '.join(map(repr, _METHODS))}, or ADVI(...)")


def _check_options(n: int | None, batch_size: int | None, restarts: int, stop: Rounds | None) -> None:
    whole = (("n", n), ("batch_size", batch_size), ("restarts", restarts))
    for name, value in whole:
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise OptionError(f"{name} must be a whole number from 1 on, not {value!r}")
    if n is not None and stop is not None:
        raise OptionError("n fixes the number of steps and stop decides it: give one of them")
    if stop is not None and not isinstance(stop, Rounds):
        raise OptionError(f"stop must be a stop rule such as Rounds(tolerance=0.1), not {stop!r}")


def _seed(random_seed: int) -> int:
    if isinstance(random_seed, bool) or not isinstance(random_seed, int | np.integer) or random_seed < 0:
        raise OptionError(f"random_seed must be a whole number from 0 on, not {random_seed!r}")
    return int(random_seed) % 2**63


def _known(target: AbstractTarget, data: Mapping[str, Any] | None) -> dict[str, Any]:
    if not data:
        return {}
    unknown = sorted(set(data) - set(target.slots))
    if unknown:
        raise OptionError(f"the model has no input {unknown}; its inputs are {sorted(target.slots)}")
    return {name: np.asarray(value) for name, value in data.items()}


def _plan(
    target: AbstractTarget, values: Mapping[str, np.ndarray], batch_size: int | None, over: str | None
) -> tuple[RowPlan | None, int | None]:
    wanted = batch_size
    if wanted is None and isinstance(target, AbstractRowTarget):
        wanted = target.batch_size
    if wanted is None:
        return None, None
    if not isinstance(target, AbstractRowTarget):
        raise UnsupportedModelError(
            "batch_size needs a likelihood that factorises over rows, and this target only has a density"
        )
    plan = target.row_plan(over)
    slot, axis = plan.axes[0]
    rows = values[slot].shape[axis]
    plan = RowPlan(rows, plan.axes, plan.observed)
    if wanted > rows:
        raise OptionError(f"batch_size={wanted} is larger than the {rows} rows of the data; leave it out to use all")
    return plan, int(wanted)


def _precision(target: AbstractTarget, values: Mapping[str, np.ndarray], requested: str | None) -> bool:
    if "is_network" not in target.compiled:
        with jax.enable_x64(True):
            z = jax.ShapeDtypeStruct((target.layout.size,), jnp.float64)
            arrays = {
                name: jax.ShapeDtypeStruct(np.shape(values[name]), jax.dtypes.canonicalize_dtype(slot.dtype))
                for name, slot in target.slots.items()
            }
            target.compiled["is_network"] = is_network(target.log_density, z, arrays)
    return choose(requested, network=target.compiled["is_network"])
