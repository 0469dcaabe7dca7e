"""What a fit came to, before it becomes a posterior."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.families import AbstractFamily
from posterion.optim.convergence import Comparison, Status
from posterion.optim.journey import Journey
from posterion.target import AbstractTarget


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Parameters
    ----------
    family, params
        The approximation, in the units of ``z``, on the host.
    status, sentence
        How it ended.
    steps, skipped
        Steps (or evaluations, for a direct method) in all, and those that changed nothing for a non-finite value.
    losses
        Negative ELBO estimates along the path that was kept.
    log_weights
        Computes log p - log q at fresh independent draws, which selected nothing.
    comparisons
        One per round.
    notes, caveats
        Sentences: what the method did, and what speaks against trusting what it found.
    extras
        What else it found, by name.
    target
        What was approximated, if that is not what was given.
    journey
        Where it has got to, to go on from; None for a direct method.
    """

    family: AbstractFamily
    params: PyTree
    status: Status
    sentence: str
    steps: int
    skipped: int
    losses: Float[np.ndarray, " steps"]
    log_weights: Callable[[], Float[np.ndarray, " draws"]]
    comparisons: list[Comparison] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    target: AbstractTarget | None = None
    journey: Journey | None = None
