"""A fit by a loop method: its programs, its starts, and their rounds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posterion._typing import Array, Batch, PyTree
from posterion.checkpoints import Logbook
from posterion.compilation import cache
from posterion.data.streamed import StreamedRows
from posterion.engine.controls import Controls
from posterion.engine.fitted import Fitted
from posterion.engine.improper import refuse_improper
from posterion.engine.mixing import assemble, best_weights, most_worth_keeping
from posterion.engine.rows import batch_windows, evaluate_batches
from posterion.engine.starting import StartingPoint, from_known, in_own_coordinates, place_of, starting_points
from posterion.engine.task import Task
from posterion.errors import CheckpointError
from posterion.families import AbstractFamily, AbstractGaussian, FullRank, NormalizingFlow
from posterion.families.memory import check_memory
from posterion.families.mixture import Mixture
from posterion.methods.advi import ADVI
from posterion.methods.base import AbstractLoopMethod
from posterion.optim.averaging import averaged
from posterion.optim.convergence import (
    QUICK_DRAWS,
    Comparer,
    Outcome,
    extend,
    seed_of_round,
    set_out,
    set_out_fixed,
    travel,
)
from posterion.optim.journey import Journey, Stage, Status, read_back, write_down
from posterion.optim.loop import Loop, advance, key_data_of
from posterion.optim.polishing import LARGEST, polish
from posterion.optim.progress import ProgressReporter


class LoopFit:
    """A fit by a loop method: its programs, its starts, and their rounds."""

    def __init__(
        self,
        method: AbstractLoopMethod,
        task: Task,
        optimiser: optax.GradientTransformation | None,
        *,
        averages: bool = False,
    ) -> None:
        check_memory(method.approximation, task.layout)
        self._method, self._task, self._layout = method, task, task.layout
        self._optimiser = optimiser
        self._peak = method.largest_step(task.layout)
        rows = None
        if isinstance(method, ADVI) and method.noise == "local":
            rows = task.row_noise()
            self._algorithm = method.algorithm(task.log_joint, task.layout, optimiser, rows)
        else:
            self._algorithm = method.algorithm(task.log_joint, task.layout, optimiser)
        self._notes = (rows.note,) if rows is not None and rows.note else ()
        if averages:
            self._algorithm = averaged(self._algorithm)
        wrap = self._algorithm.wrap

        def start(key_data: Array, location: Array, spread: Array, shift: Array, scale: Array) -> PyTree:
            key = jax.random.wrap_key_data(key_data)
            return wrap(method.start(task.layout, key, location, spread, shift, scale, optimiser))

        # The optimiser is part of the name: that keeps it alive, so that its identity cannot be taken by another.
        name = self._name = (method, _ByIdentity(optimiser), averages)
        self._start_function = start
        # The digest of a log joint does not say how its rows are told apart.
        program = partial(task.program, made_of=(method, averages) if optimiser is None and rows is None else None)
        self._start = program((*name, "start"), lambda: start)
        self._advance = program((*name, "advance"), lambda: advance(self._algorithm, task.stream))
        self._evaluate = program((*name, "evaluate"), lambda: self._algorithm.evaluate)

    def run(
        self,
        controls: Controls,
        show: ProgressReporter,
        book: Logbook | None = None,
        journey: Journey | None = None,
    ) -> Fitted:
        """Go on with ``journey``, or with the one in the book; else start. ``n`` steps, or until the rule says stop."""
        task, rule, began = self._task, controls.rule, time.perf_counter()
        loop = Loop(self._algorithm, self._advance, task.stream, show, controls.callbacks, task.team)
        size = task.comparison_draws(rule.num_draws)
        compare = Comparer(self._algorithm, partial(self._compare, size), task.compare_seed, size)
        went_on = journey is not None
        if journey is not None:
            journey = extend(journey, controls.n, rule, self._peak)
        elif book is not None and (written := book.read()) is not None:
            journey = self._read_back(*written)
        if journey is None:
            self._compile(loop, self._state(in_own_coordinates(self._method.approximation, self._layout.size)), size)
            journey = self._set_out(controls, compare, show)
        elif journey.stage is not Stage.DONE:
            self._compile(loop, journey.state, size)
        if (publish := controls.publish) is not None:
            loop.publish = lambda state: publish(self._method.approximation, self._params(state, size))
        if controls.max_seconds is not None:
            loop.deadline = began + controls.max_seconds
        keep = None if book is None else lambda now: book.offer(lambda: write_down(now()))
        check = lambda state: self._refuse_improper(self._params(state, size))
        outcome = travel(loop, compare, task.run_seed, rule, journey, keep, check)
        if isinstance(self._method.approximation, Mixture) and outcome.journey is not journey:
            outcome = self._weighted(self._method.approximation, outcome, size)
        elif outcome.journey is not journey and self._polishes(outcome, controls, more=went_on):
            outcome = self._polished(outcome, compare, loop.deadline, show)
        if book is not None and outcome.journey is not journey:
            book.put(write_down(outcome.journey))
        family, state = self._method.approximation, outcome.state
        return Fitted(
            family=family,
            params=self._params(state, size),
            status=outcome.status,
            sentence=outcome.sentence,
            steps=loop.steps,
            skipped=loop.skipped,
            losses=outcome.losses,
            log_weights=lambda: self._log_weights(state, size),
            comparisons=outcome.comparisons,
            notes=self._notes,
            caveats=self._method.caveats,
            journey=outcome.journey.on_host(),
        )

    def _set_out(self, controls: Controls, compare: Comparer, show: ProgressReporter) -> Journey:
        starts = [self._state(point) for point in self._points(controls, show)]
        if controls.n is None:
            return set_out(starts, controls.rule, self._peak)
        start = starts[compare.best(starts, QUICK_DRAWS)] if len(starts) > 1 else starts[0]
        return set_out_fixed(start, controls.n, self._peak, compare.used)

    def _points(self, controls: Controls, show: ProgressReporter) -> list[StartingPoint]:
        family, known = self._method.approximation, controls.start
        if known is not None:
            return [from_known(family, known.family, known.params, self._layout)]
        if isinstance(family, Mixture):
            return [self._mixed(family, controls, show)]
        if isinstance(family, NormalizingFlow):
            return [self._from_gaussian(family, controls, show)]
        return starting_points(
            self._task, family, controls.restarts, always_whiten=controls.n is None or self._method.needs_whitening
        )

    def _from_gaussian(self, family: AbstractFamily, controls: Controls, show: ProgressReporter) -> StartingPoint:
        """Where the fit of the full-rank Gaussian leads in its first rounds: the rest is for what is not Gaussian."""
        gaussian = FullRank()
        assert isinstance(self._method, ADVI)  # the method with families of choice  # noqa: S101
        alone = LoopFit(replace(self._method, family=gaussian, num_draws=None), self._task, self._optimiser)
        steps = controls.rule.first if controls.n is None else min(controls.rule.first, controls.n)
        found = alone.first_rounds(controls, steps, 1, show)[0]
        return from_known(family, gaussian, found, self._layout)

    # ---- mixtures
    def _mixed(self, mixture: Mixture, controls: Controls, show: ProgressReporter) -> StartingPoint:
        """A mixture of the best of as many fits of its family, each from a starting point of its own."""
        assert isinstance(self._method, ADVI)  # the method with families of choice  # noqa: S101
        alone = LoopFit(replace(self._method, family=mixture.family), self._task, self._optimiser)
        steps = controls.rule.first if controls.n is None else min(controls.rule.first, controls.n)
        restarts = max(controls.restarts, mixture.components)
        found = alone.first_rounds(replace(controls, restarts=restarts), steps, mixture.components, show)
        layout = self._layout
        move = jax.jit(lambda params, shift: mixture.family.affine(layout, params, shift, jnp.ones(layout.size)))
        spreads = [place_of(mixture.family, params, layout)[1].astype(jnp.result_type(float)) for params in found]
        return from_known(mixture, mixture, assemble(found, spreads, self._task.start_seed, move), layout)

    def first_rounds(self, controls: Controls, steps: int, count: int, show: ProgressReporter) -> list[PyTree]:
        """Parameters of the best ``count`` of all starts after ``steps`` steps each, in the units of ``z``."""
        task = self._task
        loop = Loop(self._algorithm, self._advance, task.stream, show, (), task.team)
        size = task.comparison_draws(controls.rule.num_draws)
        compare = Comparer(self._algorithm, partial(self._compare, size), task.compare_seed, size)
        self._compile(loop, self._state(in_own_coordinates(self._method.approximation, self._layout.size)), size)
        states = []
        for k, point in enumerate(self._points(controls, show)):
            round_ = loop.run(
                self._state(point), seed_of_round(task.start_seed, k), steps, self._peak, note="Components"
            )
            states.append(round_.state)
            if round_.ended in ("interrupted", "callback"):
                break
            self._refuse_improper(self._params(round_.state, size))
        elbos = np.nan_to_num(compare(states).mean(axis=1), nan=-np.inf)
        found = [self._params(state, size) for state in states]
        places = [place_of(self._method.approximation, params, self._layout) for params in found]
        return [found[k] for k in most_worth_keeping(elbos, places, count)]

    def _refuse_improper(self, params: PyTree) -> None:
        family = self._method.approximation
        if isinstance(family, AbstractGaussian):  # whose moments are there without drawing
            refuse_improper(self._task, *place_of(family, params, self._layout))

    def _weighted(self, mixture: Mixture, outcome: Outcome, size: int) -> Outcome:
        """The outcome with the best weights, if they are better."""
        algorithm, state = self._algorithm, outcome.state
        iterate, with_iterate = self._iterates()
        seed = self._task.compare_seed  # of the rows, where there are too many for every draw to meet all
        values = lambda params, noise: self._compare(size, [with_iterate(state, params)], noise, size, seed)[0]
        noise = algorithm.host_noise(self._task.compare_seed, size, True)
        params = best_weights(mixture, jax.device_get(iterate(state)), values, noise)
        return self._at(outcome, with_iterate(state, params))

    def _polishes(self, outcome: Outcome, controls: Controls, *, more: bool) -> bool:
        """Whether natural-gradient steps follow: where they can be had, unless a number of steps was asked for."""
        if self._algorithm.slopes is None or self._task.rows.by_batches or not (controls.n is None or more):
            return False
        settled = outcome.status in (Status.CONVERGED, Status.MAX_STEPS, Status.FIXED_STEPS)
        iterate, _ = self._iterates()
        return settled and sum(leaf.size for leaf in jax.tree.leaves(iterate(outcome.state))) <= LARGEST

    def _polished(self, outcome: Outcome, compare: Comparer, deadline: float | None, show: ProgressReporter) -> Outcome:
        task, slopes = self._task, self._algorithm.slopes
        assert slopes is not None  # `_polishes` looked  # noqa: S101
        program = task.program((*self._name, "slopes"), lambda: slopes)
        found = polish(
            self._algorithm,
            outcome.state,
            lambda state, noise: program(state, noise, task.rows.everything),
            compare,
            task.run_seed,
            deadline=deadline,
            report=lambda steps, loss: show.update(steps, None, loss, "Polishing"),
        )
        if not found.steps:
            return outcome
        sentence = f"{outcome.sentence}; {found.steps} natural-gradient steps then gained {found.gain:.2g} nats"
        return replace(self._at(outcome, found.state), sentence=sentence)

    @staticmethod
    def _at(outcome: Outcome, state: PyTree) -> Outcome:
        """The outcome with another state, from which it also goes on."""
        journey = outcome.journey
        if journey.stage is Stage.DONE:
            journey = replace(journey, state=state, before=state)
        return replace(outcome, state=state, journey=journey)

    def _read_back(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> Journey:
        any_point = in_own_coordinates(self._method.approximation, self._layout.size)
        like = jax.eval_shape(self._start_function, key_data_of(0), *any_point.arrays())
        try:
            return read_back(arrays, values, like)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this version of the method ({error}); give another folder to start anew"
            ) from error

    def _values(self, state: PyTree, noise: PyTree, count: int, batch: Batch) -> tuple[np.ndarray, PyTree]:
        return jax.device_get(self._evaluate(state, noise, batch, np.int32(count)))

    def _compare(self, size: int, states: Sequence[PyTree], noise: PyTree, count: int, seed: int) -> np.ndarray:
        """Values of log p - log q for all rows, (states, draws)."""
        rows = self._task.rows
        if not rows.by_batches:
            return np.stack([self._values(state, noise, count, rows.everything)[0] for state in states])
        wanted = [(state, noise) for state in states]
        return self._by_batches(size, rows.comparison_batches(size), wanted, count, seed)

    def _by_batches(
        self, size: int, stream: StreamedRows, wanted: Sequence[tuple[PyTree, PyTree]], count: int, seed: int
    ) -> np.ndarray:
        """Values for pairs of a state and noise, (pairs, draws); draw k meets batch k in every pair."""
        values, program = np.zeros((len(wanted), size)), self._batches(stream)
        for first, length, batches in batch_windows(stream, count, seed):
            for k, (state, noise) in enumerate(wanted):
                found = program(state, noise, stream.data, batches, np.int32(first), np.int32(length))
                values[k, first : first + length] = np.asarray(found)[:length]
        return values

    def _batches(self, stream: StreamedRows) -> cache.Program:
        name = (*self._name, "batches", stream.batch_size, stream.max_steps)
        return self._task.program(name, lambda: evaluate_batches(self._algorithm, stream))

    def _log_weights(self, state: PyTree, size: int) -> np.ndarray:
        """At fresh draws; for all rows under every draw wherever they are in memory."""
        task, family = self._task, self._method.approximation
        if task.source is not None:
            return task.log_weights(partial(self._log_weights_by_batches, size, state), family, size)
        size = task.num_draws(size)
        values = lambda noise, count, seed: self._values(state, noise, count, task.rows.everything)[0]
        return task.log_weights(values, family, size)

    def _log_weights_by_batches(self, size: int, state: PyTree, noise: PyTree, count: int, seed: int) -> np.ndarray:
        """Values whose mean is the ELBO and whose scatter is that of draws.

        Most of the scatter of values by batches is that of their rows, and a pass over all rows takes it out of the
        mean. It is measured at one fixed point, noise zero, where nothing else varies, and taken out of the values as
        far as the pass covers the rows.
        """
        stream = self._task.rows.final_batches(size)
        middle = jax.tree.map(np.zeros_like, noise)
        values, fixed = self._by_batches(size, stream, [(state, noise), (state, middle)], count, seed)
        missed = max(0.0, 1 - stream.batch_size * count / stream.num_rows)
        scatter = fixed - np.mean(fixed)
        return values - scatter + np.sqrt(missed) * scatter

    def _params(self, state: PyTree, size: int) -> PyTree:
        """The family's parameters in the units of ``z``, on the host."""
        return self._values(state, self._algorithm.host_noise(None, size, False), 0, self._task.sample)[1]

    def _compile(self, loop: Loop, state: PyTree, num_draws: int) -> None:
        task, zero = self._task, np.zeros(self._layout.size, jnp.result_type(float))
        noise = self._algorithm.host_noise(None, num_draws, False)
        programs = [
            (self._advance, loop.first_arguments(state)),
            (task.derivatives, (zero, zero, task.sample)),
            (self._evaluate, (state, noise, task.sample, np.int32(0))),
        ]
        if task.rows.by_batches:
            stream = task.rows.comparison_batches(num_draws)
            arguments = (state, noise, stream.data, stream.template(stream.max_steps), np.int32(0), np.int32(0))
            programs.append((self._batches(stream), arguments))
            stream.close()
        cache.prepare(programs, at_once=task.team.num_processes == 1)

    def _state(self, point: StartingPoint) -> PyTree:
        state = self._start(key_data_of(point.seed), *point.arrays())
        if point.params is None:
            return state
        iterate, with_iterate = self._iterates()
        return with_iterate(
            state, jax.tree.map(lambda new, old: np.asarray(new, old.dtype), point.params, iterate(state))
        )

    def _iterates(self) -> tuple[Callable[[PyTree], PyTree], Callable[[PyTree, PyTree], PyTree]]:
        """How to read and replace the family's parameters in a state."""
        iterate, with_iterate = self._algorithm.iterate, self._algorithm.with_iterate
        assert iterate is not None and with_iterate is not None  # ADVI's families of choice  # noqa: S101, PT018
        return iterate, with_iterate


@dataclass(frozen=True, eq=False)
class _ByIdentity:
    """Something compared by identity, and kept alive as long as it is compared."""

    held: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)
