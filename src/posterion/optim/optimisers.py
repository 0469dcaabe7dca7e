"""Optimisers by object or by name. By default Adam without a rate of its own: the loop has a schedule of rates.

A name stands for a direction of steps of about unit size, which the loop's schedule multiplies; an object of optax
comes with its own rate or schedule and is left alone.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from posterion.errors import OptionError

_LARGEST_GRADIENT = 10.0
"""Nats per unit of a whitened parameter; the usual gradient of a flow has a norm of one to five."""
_WARM_UP = 100
"""Steps until they have their full size."""


class Direction(optax.GradientTransformation):
    """A transformation of gradients into directions of about unit size, to be multiplied by the loop's rates."""


DIRECTIONS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": optax.scale_by_adam,
    "adabelief": optax.scale_by_belief,
    "amsgrad": optax.scale_by_amsgrad,
    "nadam": partial(optax.scale_by_adam, nesterov=True),
    "radam": optax.scale_by_radam,
    "rmsprop": optax.scale_by_rms,
    "yogi": optax.scale_by_yogi,
}
"""Optimisers by name: those whose steps are of about unit size, whatever the scale of the gradient."""

_REFUSED = {
    **dict.fromkeys(
        ("adamw", "nadamw", "adamaxw", "lamb", "lars"),
        "it decays the parameters of the approximation towards zero, which is no prior of the model",
    ),
    **dict.fromkeys(
        ("sgd", "noisy_sgd", "sign_sgd", "adagrad", "adadelta", "fromage", "sm3", "adafactor"),
        "its steps have no natural size: pass the object with a rate of your own, e.g. optax.sgd(1e-4)",
    ),
    "lbfgs": "it needs a function without noise; method='dadvi' is for that",
}


def default_optimiser() -> optax.GradientTransformation:
    """Adam's direction (b1 0.9, b2 0.999), to be multiplied by the rate of the loop's schedule."""
    return optax.scale_by_adam()


def careful_optimiser() -> optax.GradientTransformation:
    """Adam's direction for objectives whose gradient is now and then a thousand times the usual one (flows).

    Those are clipped, forgotten ten times as fast, and the first steps are small: Adam's are otherwise as large as any,
    and tear the layers of a flow from the identity they began as.
    """
    return optax.chain(
        optax.clip_by_global_norm(_LARGEST_GRADIENT),
        optax.scale_by_adam(b2=0.99),
        optax.scale_by_schedule(optax.linear_schedule(1 / _WARM_UP, 1.0, _WARM_UP)),
    )


def resolve(optimiser: Any) -> optax.GradientTransformation | None:
    """What the engine takes, from an optax optimiser, the name of one, or None for Adam.

    Raises
    ------
    OptionError
        For a name that is not known or means nothing here, an optimiser that needs more than gradients, or an object
        that is none; the message says what to do.
    """
    if optimiser is None:
        return None
    if isinstance(optimiser, str):
        return _named(optimiser)
    if not (callable(getattr(optimiser, "init", None)) and callable(getattr(optimiser, "update", None))):
        hint = " (PyMC's optimisers are not optax's: use optax.adam(...))" if callable(optimiser) else ""
        raise OptionError(f"obj_optimizer must be an optax optimiser or the name of one, not {optimiser!r}{hint}")
    _check_takes_gradients(optimiser)
    return optimiser


@cache
def _named(name: str) -> Direction:
    """One object per name, so that a second fit finds its program."""
    if name in DIRECTIONS:
        made = DIRECTIONS[name]()
        return Direction(made.init, made.update)
    if name in _REFUSED:
        raise OptionError(f"obj_optimizer={name!r} does not suit variational inference: {_REFUSED[name]}")
    raise OptionError(
        f"obj_optimizer={name!r} is not the name of an optimiser known here; there are {', '.join(DIRECTIONS)}, or "
        "pass an object of optax, e.g. optax.adam(1e-2) or optax.adam(optax.cosine_decay_schedule(0.1, 20_000))"
    )


def _check_takes_gradients(optimiser: Any) -> None:
    """Trace one step, computing nothing: an optimiser that needs values or functions says so before a fit does."""
    params = jax.ShapeDtypeStruct((2, 3), jnp.result_type(float))
    try:
        jax.eval_shape(lambda x: optimiser.update(x, optimiser.init(x), x), params)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise OptionError(
            f"obj_optimizer must take steps from gradients alone, and {optimiser!r} does not ({said}); use optax.adam, "
            "or another first-order optimiser of optax"
        ) from error
