"""Improper posteriors, noticed while an approximation runs away: named, instead of followed to the last step.

Along a variable of which neither prior nor data say anything, entropy widens an approximation without end, and its ELBO
rises for ever; where the density itself rises for ever, it runs away. That is looked for between rounds, and only where
the approximation has become very wide or far: healthy fits pay one comparison of numbers on the host, and those in
large units a few evaluations of the density.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion.engine.task import Task
from posterion.errors import DegenerateError

_WIDE = 1e3
"""Standard deviation from which a variable is looked at; in the units of some models that is nothing unusual."""
_FAR = 1e6
"""Distance from zero from which a variable is looked at, however narrow the approximation."""
_FARTHEST = 10
"""Powers of ten, times the standard deviation, up to which the density has to have fallen."""
_LEAST_FALL = 0.02
"""Nats; a Gaussian's density falls by half a nat within one standard deviation."""
_NAMED = 4


def refuse_improper(task: Task, mean: Float[np.ndarray, " dim"], spread: Float[np.ndarray, " dim"]) -> None:
    """Nothing, if the density falls off both ways along every variable in which the approximation is wide or far.

    A conditional density that stays up is no density, whatever the other variables are; so one line for each tells.
    Ridges of several variables are the verdict's to find.

    Parameters
    ----------
    task
        What is approximated.
    mean, spread
        Of the approximation: means and standard deviations in the units of ``z``.

    Raises
    ------
    DegenerateError
        If it stays up along some variable, however far; the message names all of them.
    """
    wide = np.flatnonzero(((spread > _WIDE) | (np.abs(mean) > _FAR)) & np.isfinite(spread))
    if not wide.size or not np.all(np.isfinite(mean)):
        return
    density = _density(task)
    top = density(mean)
    if not np.isfinite(top):
        return
    endless = [int(k) for k in wide if _stays_up(density, top, mean, int(k), float(spread[k]))]
    if not endless:
        return
    names = task.layout.entry_names()
    named = ", ".join(names[k] for k in endless[:_NAMED])
    more = f" and {len(endless) - _NAMED} more" if len(endless) > _NAMED else ""
    raise DegenerateError(
        f"the posterior is improper: however far out {named}{more} may be, the log density does not fall, and the "
        "approximation widens without end. Neither the data nor a prior says where that is: give it a proper prior, "
        "or leave it out of the model"
    )


def _density(task: Task) -> Callable[[np.ndarray], float]:
    zero = np.zeros(task.layout.size, jnp.result_type(float))

    def density(z: np.ndarray) -> float:
        with np.errstate(over="ignore"):
            return -float(task.derivatives(z.astype(zero.dtype), zero, task.sample)[0])

    return density


def _stays_up(density: Callable[[np.ndarray], float], top: float, mean: np.ndarray, entry: int, spread: float) -> bool:
    """Whether on one side at least the density has not fallen below ``top``, its value at the mean, at any distance."""
    for side in (1.0, -1.0):
        z = mean.copy()
        for power in range(_FARTHEST + 1):
            z[entry] = mean[entry] + side * 10.0**power * spread
            value = density(z)
            if not np.isfinite(value) or top - value >= _LEAST_FALL:
                break
        else:
            return True
    return False
