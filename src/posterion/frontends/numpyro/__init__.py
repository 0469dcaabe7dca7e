"""NumPyro models as targets: an unchanged model function with its arguments becomes functions of a vector and data.

The model runs under NumPyro's own handlers while JAX traces it. See `from_numpyro`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posterion.target import AbstractRowTarget

__all__ = ["from_numpyro"]


def from_numpyro(
    model: Callable,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dims: Mapping[str, Sequence[str | None]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    init_strategy: Callable | None = None,
) -> AbstractRowTarget:
    """The posterior of a NumPyro model as a target.

    ``posterion.fit(model, model_args=..., model_kwargs=...)`` calls this; use it to name axes or to choose the start.

    Parameters
    ----------
    model
        A function with ``numpyro.sample`` statements.
    args, kwargs
        What it is called with. Arrays are the data, by the names of their arguments; everything else is part of the
        model. Pass the outcome too, or nothing is observed.
    dims, coords
        Names of the axes of variables and data, and labels along them, as in ArviZ. Axes of plates have the plates'
        names already.
    init_strategy
        One of ``numpyro.infer.init_to_value`` and its like. None starts in the middle of the priors.

    Raises
    ------
    UnsupportedModelError
        If the model has something that cannot be taken over; the message names it and says what to do.
    DataError
        If an argument is missing, or is an array of something else than numbers.
    OptionError
        For dims or coords that do not fit the model.
    """
    from posterion.frontends.numpyro.registry import target_of

    return target_of(model, args, kwargs, dims, coords, init_strategy)
