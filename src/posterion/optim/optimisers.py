"""Optimisers by object or by name. By default Adam without a rate of its own: the loop has a schedule of rates."""

import inspect

import optax

from posterion.errors import OptionError


def default_optimiser() -> optax.GradientTransformation:
    """Adam's direction (b1 0.9, b2 0.999), to be multiplied by the rate of the loop's schedule."""
    return optax.scale_by_adam()


def resolve(optimiser: optax.GradientTransformation | str | None) -> optax.GradientTransformation | None:
    """An optax optimiser from an object or the name of one, or None for the default with its schedule.

    A name stands for optax's optimiser of that name at a rate of 0.01 (``"adam"``, ``"adamw"``, ``"rmsprop"`` ...).

    Raises
    ------
    OptionError
        For a name optax does not know, one that needs more than a rate, or an object that is no optimiser.
    """
    if optimiser is None:
        return None
    if isinstance(optimiser, str):
        make = getattr(optax, optimiser, None)
        if make is None or "learning_rate" not in inspect.signature(make).parameters:
            raise OptionError(
                f"obj_optimizer={optimiser!r} is not the name of an optax optimiser that takes a learning rate; "
                "try 'adam', 'adamw', 'rmsprop', 'sgd', or pass the object, e.g. optax.adam(1e-2)"
            )
        return make(learning_rate=0.01)
    if not (callable(getattr(optimiser, "init", None)) and callable(getattr(optimiser, "update", None))):
        hint = " (PyMC's optimisers are not optax's: use optax.adam(...))" if callable(optimiser) else ""
        raise OptionError(f"obj_optimizer must be an optax optimiser or the name of one, not {optimiser!r}{hint}")
    return optimiser
