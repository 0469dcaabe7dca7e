"""A fit by a loop method: its programs, its starts, and their rounds."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posterion._typing import Array, PyTree
from posterion.checkpoints import Logbook
from posterion.compilation import cache
from posterion.engine.controls import Controls
from posterion.engine.fitted import Fitted
from posterion.engine.starting import StartingPoint, in_own_coordinates, starting_points
from posterion.engine.task import Task
from posterion.errors import CheckpointError
from posterion.families.memory import check_memory
from posterion.methods.base import AbstractLoopMethod
from posterion.optim.convergence import QUICK_DRAWS, Comparer, extend, set_out, set_out_fixed, travel
from posterion.optim.journey import Journey, Stage, read_back, write_down
from posterion.optim.loop import Loop, advance, key_data_of
from posterion.optim.progress import ProgressReporter


class LoopFit:
    """A fit by a loop method: its programs, its starts, and their rounds."""

    def __init__(self, method: AbstractLoopMethod, task: Task, optimiser: optax.GradientTransformation | None) -> None:
        check_memory(method.approximation, task.layout)
        self._method, self._task, self._layout = method, task, task.layout
        self._peak = method.largest_step(task.layout)
        self._algorithm = method.algorithm(task.log_joint, task.layout, optimiser)

        def start(key_data: Array, location: Array, spread: Array, shift: Array, scale: Array) -> PyTree:
            key = jax.random.wrap_key_data(key_data)
            return method.start(task.layout, key, location, spread, shift, scale, optimiser)

        # The optimiser is part of the name: that keeps it alive, so that its identity cannot be taken by another.
        name = (method, _ByIdentity(optimiser))
        self._start_function = start
        self._start = task.program((*name, "start"), lambda: start)
        self._advance = task.program((*name, "advance"), lambda: advance(self._algorithm, task.stream))
        self._evaluate = task.program((*name, "evaluate"), lambda: self._algorithm.evaluate)

    def run(
        self,
        controls: Controls,
        show: ProgressReporter,
        book: Logbook | None = None,
        journey: Journey | None = None,
    ) -> Fitted:
        """Go on with ``journey``, or with the one in the book; else start. ``n`` steps, or until the rule says stop."""
        task, rule = self._task, controls.rule
        loop = Loop(self._algorithm, self._advance, task.stream, show, controls.callbacks, task.team)
        size = task.num_draws(rule.num_draws)
        compare = Comparer(self._algorithm, lambda *what: self._values(*what)[0], task.compare_seed, size)
        if journey is not None:
            journey = extend(journey, controls.n, rule, self._peak)
        elif book is not None and (written := book.read()) is not None:
            journey = self._read_back(*written)
        if journey is None:
            self._compile(loop, self._state(in_own_coordinates(self._method.approximation, self._layout.size)), size)
            journey = self._set_out(controls, compare)
        elif journey.stage is not Stage.DONE:
            self._compile(loop, journey.state, size)
        keep = None if book is None else lambda now: book.offer(lambda: write_down(now()))
        outcome = travel(loop, compare, task.run_seed, rule, journey, keep)
        if book is not None and outcome.journey is not journey:
            book.put(write_down(outcome.journey))
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
            caveats=self._method.caveats,
            journey=outcome.journey.on_host(),
        )

    def _set_out(self, controls: Controls, compare: Comparer) -> Journey:
        points = starting_points(
            self._task, self._method.approximation, controls.restarts, always_whiten=controls.n is None
        )
        starts = [self._state(point) for point in points]
        if controls.n is None:
            return set_out(starts, controls.rule, self._peak)
        start = starts[compare.best(starts, QUICK_DRAWS)] if len(starts) > 1 else starts[0]
        return set_out_fixed(start, controls.n, self._peak, compare.used)

    def _read_back(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> Journey:
        any_point = in_own_coordinates(self._method.approximation, self._layout.size)
        like = jax.eval_shape(self._start_function, key_data_of(0), *any_point.arrays())
        try:
            return read_back(arrays, values, like)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this version of the method ({error}); give another folder to start anew"
            ) from error

    def _values(self, state: PyTree, noise: PyTree, count: int) -> tuple[np.ndarray, PyTree]:
        return jax.device_get(self._evaluate(state, noise, self._task.everything, np.int32(count)))

    def _compile(self, loop: Loop, state: PyTree, num_draws: int) -> None:
        task, zero = self._task, np.zeros(self._layout.size, jnp.result_type(float))
        noise = self._algorithm.host_noise(0, num_draws, False)
        cache.prepare(
            [
                (self._advance, loop.first_arguments(state)),
                (task.derivatives, (zero, zero, task.everything)),
                (self._evaluate, (state, noise, task.everything, np.int32(0))),
            ],
            at_once=task.team.num_processes == 1,
        )

    def _state(self, point: StartingPoint) -> PyTree:
        return self._start(key_data_of(point.seed), *point.arrays())


@dataclass(frozen=True, eq=False)
class _ByIdentity:
    """Something compared by identity, and kept alive as long as it is compared."""

    held: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)
