"""Runs a method of either kind."""

from posterion.checkpoints import Logbook
from posterion.engine.by_steps import LoopFit
from posterion.engine.controls import Controls
from posterion.engine.direct import run_direct
from posterion.engine.fitted import Fitted
from posterion.engine.identity import identity, tolerance
from posterion.engine.task import Task
from posterion.errors import OptionError
from posterion.methods.base import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod
from posterion.optim.convergence import Averaging
from posterion.optim.journey import Journey
from posterion.optim.progress import ProgressReporter


def run(
    method: AbstractMethod,
    task: Task,
    controls: Controls,
    show: ProgressReporter,
    *,
    book: Logbook | None = None,
    journey: Journey | None = None,
) -> Fitted:
    """Fit by whichever kind of method it is.

    Parameters
    ----------
    method, task, controls, show
        By what, to what, how far, and who is told.
    book
        Where checkpoints go, and where an earlier fit's may be.
    journey
        Of a fit to go on with, by ``controls``.

    Raises
    ------
    OptionError
        If a direct method is to write checkpoints or to go on.
    CheckpointError
        If the book is that of another fit.
    """
    if isinstance(method, AbstractDirectMethod):
        if book is not None or journey is not None:
            raise OptionError(no_steps(method))
        return run_direct(method, task, controls.restarts, show)
    assert isinstance(method, AbstractLoopMethod)  # there are two kinds  # noqa: S101
    if book is not None:
        book.claim(identity(method, task, controls), tolerance())
    averages = isinstance(controls.rule, Averaging)
    return LoopFit(method, task, controls.optimiser, averages=averages).run(controls, show, book, journey)


def no_steps(method: AbstractMethod) -> str:
    """Why a direct method neither keeps checkpoints nor goes on."""
    return (
        f"{method!r} solves its problem in one go: there are no steps to keep or to go on from. Fit again, or use a "
        "method that takes steps, such as ADVI()"
    )
