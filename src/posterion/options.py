"""Arguments of `fit`, checked before any work: each for itself, and which of them mean something together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optax

from posterion.engine.controls import Controls
from posterion.errors import OptionError
from posterion.methods import AbstractDirectMethod, AbstractMethod
from posterion.optim.convergence import Rounds
from posterion.optim.loop import Callback
from posterion.optim.optimisers import resolve
from posterion.target import AbstractRowTarget, AbstractTarget


def controls_of(
    method: AbstractMethod,
    *,
    n: int | None = None,
    restarts: int = 1,
    stop: Rounds | None = None,
    callbacks: Sequence[Callback] = (),
    obj_optimizer: optax.GradientTransformation | str | None = None,
) -> Controls:
    """The engine's form of what the user asked for.

    Raises
    ------
    OptionError
        For a value outside what it can mean, or a combination that means nothing; the message says what to do.
    """
    if isinstance(method, AbstractDirectMethod):
        given = {"n": n, "stop": stop, "callbacks": tuple(callbacks) or None, "obj_optimizer": obj_optimizer}
        for name, value in given.items():
            if value is not None:
                raise OptionError(
                    f"{name} is for methods of steps, such as 'advi'; {type(method).__name__} has an end of its own"
                )
    n, restarts = whole_number("n", n), whole_number("restarts", restarts)
    assert restarts is not None  # only None gives None  # noqa: S101
    if n is not None and stop is not None:
        raise OptionError("n fixes the number of steps and stop decides it: give one of them")
    if stop is not None and not isinstance(stop, Rounds):
        raise OptionError(f"stop must be a stop rule such as Rounds(tolerance=0.1), not {stop!r}")
    return Controls(
        n=n, restarts=restarts, rule=stop or Rounds(), callbacks=tuple(callbacks), optimiser=resolve(obj_optimizer)
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
