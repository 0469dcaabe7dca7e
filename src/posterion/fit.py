"""`fit`: the one place where front end, data, method and loop meet."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posterion import engine
from posterion._typing import PyTree
from posterion.checkpoints import Checkpoints, Logbook, logbook
from posterion.compilation import cache
from posterion.compilation.garbage import uncollected
from posterion.compilation.precision import choose, is_network
from posterion.data.source import AbstractSource
from posterion.diagnostics.verdict import null_elbo
from posterion.distributed import Team
from posterion.distributed import team as team_of
from posterion.errors import OptionError, UnsupportedModelError
from posterion.families import AbstractFamily
from posterion.frontends import target_of
from posterion.methods import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod, Auto
from posterion.methods.names import method_of
from posterion.optim.convergence import Averaging, StopRule
from posterion.optim.journey import Journey
from posterion.optim.loop import Callback
from posterion.optim.progress import reporter
from posterion.options import (
    check_noise,
    check_start,
    controls_of,
    positive_number,
    seed_of,
    what_asks_for_steps,
    whole_number,
)
from posterion.posterior.posterior import Posterior
from posterion.posterior.record import Comparison, FitRecord
from posterion.target import AbstractRowTarget, AbstractTarget


def fit(
    model: Any = None,
    method: str | AbstractMethod = "advi",
    *,
    n: int | None = None,
    data: Mapping[str, Any] | AbstractSource | None = None,
    batch_size: int | None = None,
    batch_over: str | None = None,
    restarts: int = 1,
    kl_weight: float = 1.0,
    stop: StopRule | None = None,
    max_seconds: float | None = None,
    start: Posterior | None = None,
    callbacks: Sequence[Callback] = (),
    obj_optimizer: optax.GradientTransformation | str | None = None,
    checkpoint: str | PathLike | Checkpoints | None = None,
    distribute: str = "auto",
    progress: bool = True,
    random_seed: int | None = None,
    precision: str | None = None,
    model_args: Sequence[Any] = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> Posterior:
    """Approximate the posterior of a model.

    Parameters
    ----------
    model
        A PyMC model, a NumPyro model function, or a target such as `log_density` makes. None means the PyMC model whose
        ``with`` block we are in.
    method
        A name such as "advi", "gaussian", "laplace" or "auto" (an unknown name lists them all), or a method's
        description such as ``ADVI(num_draws=4)``.
    n
        Number of steps. None, the default, stops by itself; a number takes exactly so many steps along one cosine of
        step sizes, which is about three times as efficient if you know the number.
    data
        A source of rows from `posterion.data`, in files or in memory: its rows, however many, take the place of those
        the model was built on, and are streamed if they do not fit into memory. Or a dict of other values by the names
        of the model's inputs, with as many rows as the model was built on.
    batch_size
        Rows per step. None means all of them, or what the model says (``pm.Minibatch``).
    batch_over
        The dim, or the observed variable, whose rows are batched; needed only if there is a choice.
    restarts
        Random starting points, by successive halving: all run the first round, the better half one twice as long, and
        so on to the best. A `Mixture` keeps the best as its components.
    kl_weight
        Weight of the Kullback-Leibler term. Other than 1 it *tempers*: the result approximates prior times likelihood
        to the power ``1 / kl_weight``, and says so in print, verdict and record. Its ELBO is the tempered posterior's.
        Below 1 wide networks learn that would otherwise stay at their prior.
    stop
        The stop rule: ``Rounds(tolerance=0.1)`` by default, or `Averaging`. Not together with ``n``.
    max_seconds
        Wall time after which the fit ends and keeps the best it has, compiling included. What it then has depends on
        the machine's speed, so this gives up the same bits for the same seed.
    start
        A posterior of the same variables to begin from, of the same family or another.
    callbacks
        Called about ten times a second with a `Progress`; raise StopIteration to stop and keep what exists. Ready-made
        ones are in `posterion.callbacks`.
    obj_optimizer
        The name of an optimiser, whose steps follow the schedule that needs no tuning ("adam", the default; "rmsprop",
        "adabelief", ...); or an optax optimiser with a rate or schedule of its own, which starts anew in every round:
        give ``n`` with it, for one round.
    checkpoint
        A folder of its own for this fit, or `Checkpoints`. Where the fit has got to is written there every minute, and
        the same call goes on from it after a crash, to the same bits; a fit that is finished there returns at once.
    distribute
        "auto" shares the work between all devices of all processes (`posterion.distributed.initialize`); "none" uses
        the first device of this process alone.
    progress
        Whether to show a bar where somebody can see it.
    random_seed
        A whole number. The same seed gives the same bits on the same machine and versions. None draws one and
        records it in ``Posterior.random_seed``.
    precision
        "float32", "float64", or None: single precision for networks, double for all else.
    model_args, model_kwargs
        What a NumPyro model function is called with, outcomes included. Arrays are its data.

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
    CheckpointError
        If the folder of checkpoints holds another fit (the message says what differs), is in use, or cannot be used.
    """
    chosen, why = method_of(method), ()
    controls = controls_of(
        chosen,
        n=n,
        restarts=restarts,
        stop=stop,
        callbacks=callbacks,
        obj_optimizer=obj_optimizer,
        max_seconds=max_seconds,
        start=start,
        checkpoint=checkpoint,
        batch_size=batch_size,
    )
    batch_size = whole_number("batch_size", batch_size)
    kl_weight = positive_number("kl_weight", kl_weight)
    with uncollected():
        target = target_of(model, model_args, model_kwargs)
    if isinstance(target, AbstractRowTarget) and target.block_sizes is not None:
        raise UnsupportedModelError("a loaded posterior cannot be fitted again; fit the model itself")
    check_start(controls.start, target.layout)
    check_noise(chosen, target)
    team = team_of(distribute)
    with logbook(checkpoint, team) as book:
        known = None if book is None or random_seed is not None else book.identity.get("random_seed")
        seed = int(team.agree(np.uint64(seed_of(random_seed) if known is None else known)))
        if isinstance(chosen, Auto):
            network = _is_network(target, target.data)
            by_steps = what_asks_for_steps(
                target,
                n=n,
                stop=stop,
                callbacks=tuple(callbacks),
                obj_optimizer=obj_optimizer,
                batch_size=batch_size,
                checkpoint=checkpoint,
                max_seconds=max_seconds,
                start=start,
            )
            chosen, reason = engine.choose_method(
                chosen,
                target,
                data,
                by_steps=by_steps,
                is_network=network,
                seed=seed,
                x64=choose(precision, network=network),
                team=team,
            )
            why = (reason,)
        given = engine.prepare_data(
            target,
            data,
            batch_size=_batch_size(chosen, target, batch_size),
            over=batch_over,
            steps=not isinstance(chosen, AbstractDirectMethod),
            seed=seed,
        )
        if given.warning:
            warnings.warn(given.warning, UserWarning, stacklevel=2)
        work = _Work(given, chosen, controls, seed, precision, team, why, kl_weight)
        return work.run(progress=progress, book=book)


@dataclass(frozen=True)
class _Work:
    """All that a fit is made of, checked; can be done, and gone on with."""

    given: engine.Given
    method: AbstractMethod
    controls: engine.Controls
    seed: int
    precision: str | None
    team: Team
    why: tuple[str, ...] = ()
    kl_weight: float = 1.0

    def run(
        self,
        *,
        progress: bool,
        book: Logbook | None = None,
        journey: Journey | None = None,
        before: FitRecord | None = None,
    ) -> Posterior:
        """Fit, or go on with ``journey``, whose record so far is ``before``."""
        given, target, began = self.given, self.given.target, time.perf_counter()
        with cache.stopwatch() as compiling:
            x64 = choose(self.precision, network=_is_network(target, given.values))
            with jax.enable_x64(x64):
                show = reporter(progress=progress and self.team.leads)
                task = engine.Task(given, self.seed, self.team, self.kl_weight)
                try:
                    controls = replace(self.controls, publish=lambda *found: self._as_it_is(x64, *found))
                    fitted = engine.run(self.method, task, controls, show, book=book, journey=journey)
                finally:
                    task.rows.rest()
                    show.close()
        seconds = time.perf_counter() - began - compiling.seconds
        record = FitRecord(
            method=repr(self.method),
            random_seed=self.seed,
            x64=x64,
            status=str(fitted.status),
            sentence=fitted.sentence,
            losses=fitted.losses,
            comparisons=tuple(Comparison(c.step, c.elbo, c.gain, c.standard_error) for c in fitted.comparisons),
            steps=fitted.steps,
            counted="evaluations" if isinstance(self.method, AbstractDirectMethod) else "steps",
            skipped_steps=fitted.skipped,
            seconds_compiling=compiling.seconds + (before.seconds_compiling if before else 0.0),
            seconds_running=seconds + (before.seconds_running if before else 0.0),
            rows_per_step=given.rows_per_step,
            num_rows=given.plan.num_rows if given.plan else None,
            is_network=target.compiled["is_network"],
            null_elbo=_null_elbo(target, given.values) if self.kl_weight == 1.0 else None,
            kl_weight=self.kl_weight,
            notes=(*target.notes, *given.notes, *self.why, *fitted.notes),
            columns=given.columns,
            weights_by_batches=given.source is not None,
            caveats=(*_tempered(self.kl_weight), *fitted.caveats),
            extras=dict(fitted.extras),
        )

        def log_weights() -> np.ndarray:
            with jax.enable_x64(x64):
                return fitted.log_weights()

        # Together or never: one process alone would wait for the others.
        weights = log_weights if self.team.num_processes == 1 else log_weights()

        def more(n: int | None, stop: StopRule | None, callbacks: Sequence[Callback], progress: bool) -> Posterior:  # noqa: FBT001
            if fitted.journey is None:
                raise OptionError(engine.no_steps(self.method))
            controls = controls_of(self.method, n=n, stop=stop, callbacks=callbacks)
            rule = stop or self.controls.rule
            if isinstance(rule, Averaging) != isinstance(self.controls.rule, Averaging):
                raise OptionError(
                    "averages and rounds keep different things: refine by the kind of rule it was fitted by"
                )
            controls = replace(controls, rule=rule, restarts=1, optimiser=self.controls.optimiser)
            work = replace(self, controls=controls)
            return work.run(progress=progress, journey=fitted.journey, before=record)

        found = fitted.target or target
        kept = given.values if given.source is None else None
        return Posterior(found, fitted.family, fitted.params, record, weights, data=kept, more=more)

    def _as_it_is(self, x64: bool, family: AbstractFamily, params: PyTree) -> Posterior:  # noqa: FBT001
        """The posterior in the middle of the fit, for callbacks: draws and predictions, no ELBO yet."""
        if self.team.num_processes > 1:
            raise OptionError("progress.posterior() needs a fit of one process: the others do not call callbacks")
        record = FitRecord(
            method=repr(self.method),
            random_seed=self.seed,
            x64=x64,
            status="running",
            sentence="still running",
            steps=0,
            skipped_steps=0,
            seconds_compiling=0.0,
            seconds_running=0.0,
        )
        kept = self.given.values if self.given.source is None else None
        return Posterior(self.given.target, family, params, record, np.empty(0), data=kept)


def _tempered(kl_weight: float) -> tuple[str, ...]:
    if kl_weight == 1.0:
        return ()
    power = f"likelihoods count {1 / kl_weight:.3g} times"
    return (f"tempered: with kl_weight={kl_weight:g} {power}, so this approximates another distribution",)


def _null_elbo(target: AbstractTarget, values: Mapping[str, np.ndarray]) -> float | None:
    """Evidence of the best prediction that ignores all inputs, or None where outcomes are not known by slot."""
    if not isinstance(target, AbstractRowTarget) or not target.observed:
        return None
    total = 0.0
    for name, observed in target.observed.items():
        if observed.slot is None or observed.slot not in values or name not in target.num_rows:
            return None  # an outcome without rows (a Gaussian process) has no such baseline
        total += null_elbo(values[observed.slot], observed.kind, target.num_rows[name])
    return total


def _batch_size(method: AbstractMethod, target: AbstractTarget, batch_size: int | None) -> int | None:
    """Rows per step: what was asked for, or what the model itself asks for."""
    if isinstance(method, AbstractDirectMethod):  # whatever mini-batches the model itself asks for
        return None
    if batch_size is None and isinstance(target, AbstractRowTarget):
        batch_size = target.batch_size
    if batch_size is None and isinstance(method, AbstractLoopMethod) and method.needs_batches:
        raise OptionError(f"{method.needs_batches}: give batch_size, e.g. batch_size=128")
    return batch_size


def _is_network(target: AbstractTarget, values: Mapping[str, np.ndarray]) -> bool:
    if "is_network" not in target.compiled:
        with jax.enable_x64(True):
            z = jax.ShapeDtypeStruct((target.layout.size,), jnp.float64)
            arrays = {
                name: jax.ShapeDtypeStruct(np.shape(values[name]), jax.dtypes.canonicalize_dtype(slot.dtype))
                for name, slot in target.slots.items()
            }
            target.compiled["is_network"] = is_network(target.log_density, z, arrays)
    return bool(target.compiled["is_network"])
