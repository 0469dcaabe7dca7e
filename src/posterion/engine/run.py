"""Runs a method of either kind."""

from collections.abc import Sequence

import optax

from posterion.engine.by_steps import LoopFit
from posterion.engine.direct import run_direct
from posterion.engine.fitted import Fitted
from posterion.engine.task import Task
from posterion.methods.base import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod
from posterion.optim.convergence import Rounds
from posterion.optim.loop import Callback
from posterion.optim.progress import ProgressReporter


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
        return run_direct(method, task, restarts, show)
    assert isinstance(method, AbstractLoopMethod)  # there are two kinds  # noqa: S101
    return LoopFit(method, task, optimiser).run(n, restarts, rule, callbacks, show)
