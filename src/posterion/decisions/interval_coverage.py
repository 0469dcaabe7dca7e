"""Calibration of predicted numbers: where outcomes fall in their predictive distribution, how often intervals hold.

The probability integral transform of a row is the predictive probability of a value at or below what came true. If the
predictions are right it is uniform over rows [1]_: a hump in the middle says that they are too wide, a bowl that they
are too narrow, a slope that they are biased.

References
----------
.. [1] Gneiting, Balabdaoui and Raftery (2007), Probabilistic forecasts, calibration and sharpness. JRSS B 69.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray
from jaxtyping import Float

from posterion.decisions._checks import as_rows, checked_draws
from posterion.decisions.calibration import wilson_interval
from posterion.errors import DataError, OptionError

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def pit(draws: Any, outcomes: Any, *, random_seed: int = 0) -> Float[np.ndarray, " rows"]:
    """Probability integral transform of every outcome, from predictive draws.

    The rank of the outcome among its draws, spread evenly over the rank's share of (0, 1) so that it is exactly uniform
    for right predictions, with few draws and with counts as well (a randomised transform).

    Parameters
    ----------
    draws
        Of the outcome, (draws, rows), as ``prediction.sample()[name]`` gives them.
    outcomes
        What came true, (rows,).
    random_seed
        Of the spreading.
    """
    x, y = checked_draws(draws, outcomes)
    below, ties = np.sum(x < y, axis=0), np.sum(x == y, axis=0)
    spread = np.random.default_rng(np.random.SeedSequence([random_seed, 1])).uniform(size=len(y))
    return (below + spread * (ties + 1)) / (len(x) + 1)


def coverage(
    transform: Any, levels: Sequence[float] | np.ndarray = _LEVELS, *, confidence: float = 0.95
) -> xarray.Dataset:
    """How often central prediction intervals held what came true, by the probability they were meant to have.

    Parameters
    ----------
    transform
        As `pit` gives it: the central interval of level L holds a row whose transform is within L/2 of one half.
    levels
        Nominal probabilities.
    confidence
        Of the Wilson bounds that tell luck from a fault.

    Returns
    -------
    xarray.Dataset
        Along the dim ``level``: ``covered`` (share of rows), ``low``, ``high`` (its bounds) and ``rows``.

    Raises
    ------
    DataError
        If the transform is not between 0 and 1.
    """
    u = as_rows("the transform", transform)
    if np.any((u < 0) | (u > 1)):
        raise DataError(f"a probability integral transform lies between 0 and 1; found {u.min()} to {u.max()}")
    nominal = np.asarray(levels, float)
    if nominal.ndim != 1 or not np.all((nominal > 0) & (nominal < 1)):
        raise OptionError(f"levels must be probabilities between 0 and 1; found {levels!r}")
    held = np.sum(np.abs(u[:, None] - 0.5) <= nominal / 2, axis=0)
    low, high = wilson_interval(held, np.full(len(nominal), len(u)), level=confidence)
    return xarray.Dataset(
        {
            "covered": ("level", held / len(u)),
            "low": ("level", low),
            "high": ("level", high),
            "rows": ("level", np.full(len(nominal), len(u))),
        },
        coords={"level": nominal},
        attrs={"confidence": confidence},
    )
