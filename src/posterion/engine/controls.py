"""How a fit is to go: what users said beside model, data and method, checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import optax

from posterion.optim.convergence import Rounds
from posterion.optim.loop import Callback


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
    optimiser
        An optax optimiser, or None for Adam under the loop's schedule of rates.
    """

    n: int | None = None
    restarts: int = 1
    rule: Rounds = field(default_factory=Rounds)
    callbacks: Sequence[Callback] = ()
    optimiser: optax.GradientTransformation | None = None
