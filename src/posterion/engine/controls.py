"""How a fit is to go: what users said beside model, data and method, checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from posterion._typing import PyTree
from posterion.families import AbstractFamily
from posterion.optim.convergence import Rounds, StopRule
from posterion.optim.loop import Callback
from posterion.target import Layout


@dataclass(frozen=True, eq=False)
class Known:
    """An approximation that is there already: a family and its parameters, over the variables of ``layout``."""

    family: AbstractFamily
    params: PyTree
    layout: Layout


@dataclass(frozen=True)
class Controls:
    """How a fit is to go; made by `posterion.options.controls_of`, which checks it.

    Parameters
    ----------
    n
        Exact number of steps; None lets ``rule`` stop the fit.
    restarts
        Random starting points.
    rule
        When to stop.
    callbacks
        Called between chunks of steps.
    max_seconds
        Wall time after which the fit ends, compiling included; None for no limit.
    publish
        Makes of a family and its parameters what callbacks get as ``progress.posterior()``.
    start
        An approximation of the same variables to begin from.
    optimiser
        An optax optimiser, or None for Adam under the loop's schedule of rates.
    """

    n: int | None = None
    restarts: int = 1
    rule: StopRule = field(default_factory=Rounds)
    callbacks: Sequence[Callback] = ()
    max_seconds: float | None = None
    publish: Callable[[AbstractFamily, PyTree], Any] | None = None
    start: "Known | None" = None
    optimiser: Any = None
