"""A fit by a direct method, which has an end of its own."""

from collections.abc import Callable

import jax
import numpy as np

from posterion._typing import PyTree
from posterion.engine.fitted import Fitted
from posterion.engine.task import Task
from posterion.families import AbstractEmpirical
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.starts import one_blas_thread
from posterion.objectives.gradients import log_weight, values_at_draws
from posterion.optim.convergence import Status
from posterion.optim.progress import ProgressReporter

_COMPARISON_DRAWS = 1024


def run_direct(method: AbstractDirectMethod, task: Task, restarts: int, show: ProgressReporter) -> Fitted:
    """Solve once, from ``restarts`` starting points, and measure what came of it."""
    initial = task.initial_point()
    seeds = np.random.SeedSequence(task.start_seed).generate_state(restarts, np.uint32)
    problem = Problem(
        log_joint=task.log_joint,
        batch=task.rows.everything,
        layout=task.layout,
        starts=np.stack([task.finite_start(initial, int(seed)) for seed in seeds]),
        seed=task.run_seed,
        program=lambda name, function: task.program(("direct", name), lambda: function),
        derivatives=task.derivatives,
        report=show.update,
        is_network=task.is_network,
        target=task.target,
        kl_weight=task.kl_weight,
    )
    with one_blas_thread():
        found = method.solve(problem)
    approximated = task if found.target is None else task.of(found.target)
    params = jax.device_get(found.params)

    def make() -> Callable:
        integrand = log_weight(approximated.log_joint, found.family, approximated.layout)
        return lambda params, noise, batch, count: values_at_draws(
            lambda one: integrand(params, one, batch), noise, count
        )

    def evaluate(noise: PyTree, count: int, seed: int) -> np.ndarray:
        program = approximated.program((found.family, "evaluate"), make)
        return np.asarray(program(params, noise, task.rows.everything, np.int32(count)))

    def log_weights() -> np.ndarray:
        if found.log_weights is not None:
            return found.log_weights
        if isinstance(found.family, AbstractEmpirical):
            return np.empty(0)  # no density, no ratios
        return approximated.log_weights(evaluate, found.family, task.num_draws(_COMPARISON_DRAWS))

    return Fitted(
        family=found.family,
        params=params,
        status=_status(found),
        sentence=found.sentence,
        steps=found.evaluations,
        skipped=0,
        losses=found.losses,
        log_weights=log_weights,
        notes=found.notes,
        caveats=(*method.caveats, *found.caveats),
        extras=found.extras,
        target=found.target,
    )


def _status(found: Solution) -> Status:
    if found.interrupted:
        return Status.INTERRUPTED
    return Status.CONVERGED if found.converged else Status.MAX_STEPS
