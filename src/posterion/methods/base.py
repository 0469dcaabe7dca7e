"""What a method is: a frozen description that becomes either an algorithm for the loop or a solver of its own.

Two kinds. A *loop method* takes many cheap steps; the loop runs it in compiled chunks, and stops it by rounds, by a
number of steps, or at Ctrl-C. A *direct method* (a mode and its curvature, an L-BFGS path, a deterministic
optimisation) has its own end and solves the problem in one go. What either may use is in its arguments; neither knows
of front ends, files or users.
"""

import abc
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optax
from jaxtyping import Float

from posterion._typing import Array, Batch, Key, PyTree
from posterion.compilation.cache import Program
from posterion.families import AbstractFamily
from posterion.objectives.bounds import LogJoint
from posterion.optim.algorithm import Algorithm
from posterion.target import AbstractTarget, Layout


@dataclass(frozen=True)
class AbstractMethod(abc.ABC):  # noqa: B024
    """How a member of a family is found. Frozen, hashable, without arrays."""

    @property
    def caveats(self) -> tuple[str, ...]:
        """Sentences about what its approximations must not be trusted for, whatever the model; the verdict says them.

        What only some solutions suffer from stands in `Solution.caveats`.
        """
        return ()


@dataclass(frozen=True)
class AbstractLoopMethod(AbstractMethod):
    """A method of many cheap steps, in whitened coordinates ``z = shift + scale * u``."""

    @property
    @abc.abstractmethod
    def approximation(self) -> AbstractFamily:
        """The family whose parameters the algorithm's ``evaluate`` hands out."""

    @property
    def needs_whitening(self) -> bool:
        """Whether its steps suit entries of unit scale only, so that a fixed number of them starts whitened as well."""
        return False

    @property
    def needs_batches(self) -> str:
        """Why it means nothing without mini-batches; empty if it does."""
        return ""

    def largest_step(self, layout: Layout) -> float:
        """The peak of the loop's schedule of step sizes, in whitened units."""
        return self.approximation.largest_step(layout)

    @abc.abstractmethod
    def start(
        self,
        layout: Layout,
        key: Key,
        location: Float[Array, " dim"],
        scale: float | Float[Array, " dim"],
        shift: Float[Array, " dim"],
        whitening: Float[Array, " dim"] | Float[Array, "dim dim"],
        optimiser: optax.GradientTransformation | None = None,
    ) -> PyTree:
        """The state before the first step; ``location`` and ``scale`` are in the units of ``u``.

        ``whitening`` is the coordinates' scale: positive numbers, or for a linear family a lower-triangular matrix.
        """

    @abc.abstractmethod
    def algorithm(
        self, log_joint: LogJoint, layout: Layout, optimiser: optax.GradientTransformation | None = None
    ) -> Algorithm:
        """The pure functions the loop runs. ``optimiser`` None means Adam under the loop's schedule of rates."""


@dataclass(frozen=True)
class Problem:
    """What a direct method is given.

    Parameters
    ----------
    log_joint
        Log of the unnormalised posterior as a function of ``z`` and a batch; traceable.
    batch
        All rows.
    layout
        Names and shapes.
    starts
        Points near the model's initial one at which the log joint and its gradient are finite, shape (starts, dim),
        float64.
    seed
        Of everything random.
    program
        ``(name, function) -> Program``, compiled once for this target and kept for its next fit. The name has to
        determine the function, given the target: all direct methods share the programs.
    derivatives
        `starts.derivatives` of the log joint, compiled.
    report
        ``(done, total or None, loss, note)``; tells the user how far it is.
    is_network
        Whether the model multiplies activations by weights.
    target
        What the log joint is of, for methods that need more of it.
    kl_weight
        1 unless the log joint is tempered.
    """

    log_joint: LogJoint
    batch: Batch
    layout: Layout
    starts: Float[np.ndarray, "starts dim"]
    seed: int
    program: Callable[[Hashable, Callable], Program]
    derivatives: Callable
    report: Callable[[int, int | None, float, str], Any]
    is_network: bool = False
    target: AbstractTarget | None = None
    kl_weight: float = 1.0


@dataclass(frozen=True)
class Solution:
    """What a direct method found.

    Parameters
    ----------
    family, params
        The approximation, in the units of ``z``.
    converged
        Whether the method's own test of convergence was met.
    sentence
        Why it stopped, in words.
    evaluations
        Of the log joint, with or without gradient.
    losses
        Negative objective along the way, in nats, if there is one.
    interrupted
        Whether Ctrl-C ended it; what was reached is then the solution.
    notes
        Sentences about what was done, for the user.
    caveats
        Sentences about what speaks against trusting this solution; the verdict says them.
    extras
        What else was found, by name: kept with the posterior and its file.
    log_weights
        log p(z) - log q(z) at the draws the solution was made of, where its family has no density of its own; None
        leaves it to the engine, which looks at fresh draws.
    target
        What was approximated, where that is another target than was given (a network's tangent): predictions are then
        its predictions.
    """

    family: AbstractFamily
    params: PyTree
    converged: bool
    sentence: str
    evaluations: int
    losses: Float[np.ndarray, " steps"] = field(default_factory=lambda: np.empty(0))
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    log_weights: Float[np.ndarray, " draws"] | None = None
    target: AbstractTarget | None = None


@dataclass(frozen=True)
class AbstractDirectMethod(AbstractMethod):
    """A method with an end of its own."""

    @abc.abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Find the approximation. A KeyboardInterrupt is passed on unless there is something to keep."""
