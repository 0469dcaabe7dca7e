"""Runs a method of either kind."""

from posterion.engine.by_steps import LoopFit
from posterion.engine.controls import Controls
from posterion.engine.direct import run_direct
from posterion.engine.fitted import Fitted
from posterion.engine.task import Task
from posterion.methods.base import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod
from posterion.optim.progress import ProgressReporter


def run(method: AbstractMethod, task: Task, controls: Controls, show: ProgressReporter) -> Fitted:
    """Fit by whichever kind of method it is."""
    if isinstance(method, AbstractDirectMethod):
        return run_direct(method, task, controls.restarts, show)
    assert isinstance(method, AbstractLoopMethod)  # there are two kinds  # noqa: S101
    return LoopFit(method, task, controls.optimiser).run(controls, show)
