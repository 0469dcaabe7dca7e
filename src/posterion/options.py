"""Arguments of `fit`, checked before any work: each for itself, and which of them mean something together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posterion.engine.controls import Controls, Known
from posterion.errors import OptionError
from posterion.families import AbstractDiagonalPlus, Mixture
from posterion.methods import ADVI, SWAG, AbstractDirectMethod, AbstractMethod
from posterion.optim.convergence import Averaging, Rounds
from posterion.optim.optimisers import Direction, resolve
from posterion.posterior.posterior import Posterior
from posterion.target import AbstractNetworkTarget, AbstractRowTarget, AbstractTarget, Layout


@dataclass(frozen=True)
class Combination:
    """Arguments that mean nothing together, and why.

    Parameters
    ----------
    arguments
        As users write them.
    reason
        Why not, and what to do instead.
    applies
        ``(method, given) -> whether``; ``given`` holds the arguments that were given, by name.
    """

    arguments: str
    reason: str
    applies: Callable[[AbstractMethod, Mapping[str, Any]], bool]


def _direct_and(name: str) -> Callable[[AbstractMethod, Mapping[str, Any]], bool]:
    return lambda method, given: isinstance(method, AbstractDirectMethod) and name in given


def _is_local(method: AbstractMethod) -> bool:
    return isinstance(method, ADVI) and method.noise == "local"


_OF_STEPS = ("n", "stop", "callbacks", "obj_optimizer", "max_seconds", "start", "checkpoint")
_HAS_AN_END = (
    "a method that solves in one go, as Laplace() and DeterministicADVI() do, has an end of its own; "
    "leave it out, or use a method of steps such as 'advi'"
)

MEANINGLESS: tuple[Combination, ...] = (
    *(Combination(f"{name}= with a direct method", _HAS_AN_END, _direct_and(name)) for name in _OF_STEPS),
    Combination(
        "batch_size= with a direct method",
        "a method that solves in one go, as Laplace() and DeterministicADVI() do, needs all rows at once: leave "
        "batch_size out, or use 'advi'",
        _direct_and("batch_size"),
    ),
    Combination(
        "n= with stop=",
        "n fixes the number of steps and stop decides it: give one of them",
        lambda method, given: "n" in given and "stop" in given,
    ),
    Combination(
        "start= with restarts=",
        "a fit that begins at another posterior has one start: leave restarts out",
        lambda method, given: "start" in given and given.get("restarts", 1) > 1,
    ),
    Combination(
        "start= with checkpoint=",
        "a fit that goes on from a checkpoint has its start there: begin at the other posterior without one",
        lambda method, given: "start" in given and "checkpoint" in given,
    ),
    Combination(
        "stop=Averaging() with an optax object",
        "averages need constant step sizes that the loop halves: name the optimiser, e.g. obj_optimizer='adam'",
        lambda method, given: (
            isinstance(given.get("stop"), Averaging) and not isinstance(given.get("obj_optimizer", ""), str | Direction)
        ),
    ),
    Combination(
        "stop=Averaging() with SWAG",
        "SWAG averages its iterates itself: give n, or leave stop out",
        lambda method, given: isinstance(method, SWAG) and isinstance(given.get("stop"), Averaging),
    ),
    Combination(
        "restarts= below the components of a Mixture",
        "a mixture needs a starting point for each of its components: leave restarts out, or raise it",
        lambda method, given: (
            isinstance(mixture := getattr(method, "family", None), Mixture)
            and 1 < given.get("restarts", 1) < mixture.components
        ),
    ),
    Combination(
        "noise='local' with another family than MeanField and LowRank",
        "weights are drawn row by row where they are independent, or are but for a few common directions: leave noise "
        "out, or take one of the two families",
        lambda method, given: (
            _is_local(method) and not isinstance(getattr(method, "family", None), AbstractDiagonalPlus)
        ),
    ),
)
"""Every combination that is refused for what it would mean; shown in the documentation."""


def controls_of(
    method: AbstractMethod,
    *,
    n: Any = None,
    restarts: Any = 1,
    stop: Any = None,
    callbacks: Sequence[Any] = (),
    obj_optimizer: Any = None,
    max_seconds: Any = None,
    start: Any = None,
    checkpoint: Any = None,
    batch_size: Any = None,
) -> Controls:
    """The engine's form of what the user asked for.

    Raises
    ------
    OptionError
        For a value outside what it can mean, or a combination that means nothing; the message says what to do.
    """
    n, restarts = whole_number("n", n), whole_number("restarts", restarts) or 1
    if stop is not None and not isinstance(stop, Rounds | Averaging):
        raise OptionError(f"stop must be a stop rule such as Rounds(tolerance=0.1), not {stop!r}")
    if max_seconds is not None and (
        isinstance(max_seconds, bool) or not isinstance(max_seconds, int | float) or not max_seconds > 0
    ):
        raise OptionError(f"max_seconds must be a positive number of seconds, not {max_seconds!r}")
    if start is not None and not isinstance(start, Posterior):
        raise OptionError(f"start must be a posterior, as fit returns it, not {start!r}")
    callbacks = tuple(callbacks)
    if any(not callable(callback) for callback in callbacks):
        raise OptionError("callbacks must be functions of one argument, the progress of the fit")
    optimiser = resolve(obj_optimizer)
    given = {"n": n, "stop": stop, "callbacks": callbacks or None, "obj_optimizer": obj_optimizer}
    given |= {"max_seconds": max_seconds, "start": start, "checkpoint": checkpoint, "restarts": restarts}
    given["batch_size"] = whole_number("batch_size", batch_size)
    _check_combination(method, {name: value for name, value in given.items() if value is not None})
    known = None if start is None else Known(start.family, start.params, start.layout)
    return Controls(
        n=n,
        restarts=restarts,
        rule=stop or Rounds(),
        callbacks=callbacks,
        optimiser=optimiser,
        max_seconds=max_seconds,
        start=known,
    )


def check_noise(method: AbstractMethod, target: AbstractTarget) -> None:
    """Refuse noise for each row where there are no layers with weights to draw row by row.

    Raises
    ------
    OptionError
        If the target is no network.
    """
    if _is_local(method) and not isinstance(target, AbstractNetworkTarget):
        raise OptionError(
            "noise='local' draws the weights of a network anew for each row, and this model is not known as one: make "
            "it with posterion.network, or leave noise out"
        )


def what_asks_for_steps(target: AbstractTarget, **arguments: Any) -> str:
    """The first argument given that only a method of steps can follow, or the model's mini-batches; else empty."""
    for name, value in arguments.items():
        if value is not None and value != ():
            return name
    if isinstance(target, AbstractRowTarget) and target.batch_size is not None:
        return "the model's mini-batch"
    return ""


def positive_number(name: str, value: Any) -> float:
    """``value`` as a positive, finite number.

    Raises
    ------
    OptionError
        For anything else.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise OptionError(f"{name} must be a positive number, not {value!r}")
    return float(value)


def check_start(start: Known | None, layout: Layout) -> None:
    """Refuse an approximation of other variables than the model has.

    Raises
    ------
    OptionError
        With both lists of variables.
    """
    if start is None:
        return
    theirs, ours = ([(v.name, v.shape) for v in of.variables] for of in (start.layout, layout))
    if theirs != ours:
        raise OptionError(f"start is a posterior of the variables {theirs}, and the model has {ours}")


def combinations_table() -> str:
    """The combinations that are refused, as a table for the documentation."""
    rows = [f"| `{c.arguments}` | {c.reason} |" for c in MEANINGLESS]
    return "\n".join(["| together | why not |", "|---|---|", *rows])


def _check_combination(method: AbstractMethod, given: Mapping[str, Any]) -> None:
    for combination in MEANINGLESS:
        if combination.applies(method, given):
            raise OptionError(f"{combination.arguments} (method {type(method).__name__}): {combination.reason}")


def whole_number(name: str, value: Any) -> int | None:
    """``value`` as a whole number from 1 on, or None as it is.

    Raises
    ------
    OptionError
        For anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{name} must be a whole number from 1 on, not {value!r}")
    return int(value)


def seed_of(random_seed: Any) -> int:
    """A seed as the engine takes it; None draws one.

    Raises
    ------
    OptionError
        For anything but a whole number from 0 on.
    """
    if random_seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
    if isinstance(random_seed, bool) or not isinstance(random_seed, int | np.integer) or random_seed < 0:
        raise OptionError(f"random_seed must be a whole number from 0 on, not {random_seed!r}")
    return int(random_seed) % 2**63
