"""What a method becomes for one target: pure functions that the loop runs without knowing what they mean."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Bool, Float

from posterion._typing import Array, Batch, Key, PyTree


class Info(NamedTuple):
    """What one step tells its readers.

    Parameters
    ----------
    loss
        The negative ELBO, in nats, estimated by this step's draws (and batch).
    finite
        Whether loss and gradient were finite; a step that was not has changed nothing.
    """

    loss: Float[Array, ""]
    finite: Bool[Array, ""]


class Algorithm(NamedTuple):
    """Pure functions. State is what the next step needs, `Info` what readers want.

    Noise is drawn apart from the step, a block of steps at a time, because drawing step by step costs as much as a
    small model's gradient.

    Parameters
    ----------
    noise
        ``(key, num_steps) -> noise`` stacked along the first axis, one entry per step.
    step
        ``(noise, state, batch, rate) -> (state, info)``; ``rate`` is the step size now.
    restart
        ``state -> state`` with the optimiser's memory cleared; every round begins so.
    evaluate
        ``(state, noise, batch, count) -> (values, params)``: log p - log q at the first ``count`` draws (zero beyond),
        whose mean is the ELBO, and the family's parameters in the units of ``z``.
    host_noise
        ``(seed, num_draws, quasi) -> noise`` made by NumPy, for `evaluate`: independent, or quasi-random, which gives
        means a far smaller error.
    noise_values_per_step
        How many random numbers a step takes, which decides the length of a block.
    iterate
        ``state -> parameters`` that the steps move, in the units of ``u``; None where they are not a family's.
    with_iterate
        ``(state, parameters) -> state`` with those in their place.
    wrap
        ``state -> state`` from the state a method starts with to the one the loop carries.
    slopes
        ``(state, noise, batch) -> (values, gradient, scores)`` at many draws, for `polishing`: log p - log q, the
        gradient of their negative mean, and the gradients of log q at each draw, with respect to all parameters in one
        vector; None where it is not worth it.
    """

    noise: Callable[[Key, int], PyTree]
    step: Callable[[PyTree, PyTree, Batch, Float[Array, ""]], tuple[PyTree, Info]]
    restart: Callable[[PyTree], PyTree]
    evaluate: Callable[[PyTree, PyTree, Batch, Array], tuple[Float[Array, " draws"], PyTree]]
    host_noise: Callable[[int | None, int, bool], PyTree]
    noise_values_per_step: int
    iterate: Callable[[PyTree], PyTree] | None = None
    with_iterate: Callable[[PyTree, PyTree], PyTree] | None = None
    wrap: Callable[[PyTree], PyTree] = lambda state: state
    slopes: Callable[[PyTree, PyTree, Batch], tuple[Array, Array, Array]] | None = None
