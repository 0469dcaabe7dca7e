"""A fit by a loop method: its programs, its starts, and their rounds."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posterion._typing import Array, PyTree
from posterion.compilation import cache
from posterion.engine.controls import Controls
from posterion.engine.fitted import Fitted
from posterion.engine.task import Task
from posterion.methods.base import AbstractLoopMethod
from posterion.methods.starts import curvatures, pays, well_scaled, whiten
from posterion.optim.convergence import QUICK_DRAWS, Comparer, run_fixed, run_rounds
from posterion.optim.loop import Loop, advance, key_data_of
from posterion.optim.progress import ProgressReporter

_STARTING_SCALE = float(np.exp(-2))


class LoopFit:
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

    def run(self, controls: Controls, show: ProgressReporter) -> Fitted:
        """Start, then ``n`` steps or rounds until the rule says stop."""
        task, n, rule = self._task, controls.n, controls.rule
        loop = Loop(self._algorithm, self._advance, task.stream, show, controls.callbacks)
        size = task.num_draws(rule.num_draws)
        compare = Comparer(self._algorithm, lambda *what: self._values(*what)[0], task.compare_seed, size)
        initial = task.initial_point()
        self._compile(loop, initial, size)
        starts = self._starts(initial, controls.restarts, always_whiten=n is None)
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
            caveats=self._method.caveats,
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

    def _starts(self, initial: np.ndarray, restarts: int, *, always_whiten: bool) -> list[PyTree]:
        """Random starts near the model's initial point, then the whitened one (always, or where scales call for it)."""
        task, dim = self._task, self._layout.size
        zero, one = np.zeros(dim), np.ones(dim)
        seeds = np.random.SeedSequence(task.start_seed).generate_state(restarts + 1, np.uint32)
        locations = [task.finite_start(initial, int(seed)) for seed in seeds[:restarts]]
        starts = [self._state(int(seed), at, zero, one) for seed, at in zip(seeds, locations, strict=False)]
        if not (pays(dim) and task.num_rows * dim <= 1e8):
            return starts
        if always_whiten or not well_scaled(curvatures(task.derivatives, locations[0], task.everything)):
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
