r"""Weights of a network whose posterior is their prior: nothing was learned about them.

Around the approximation's means the prior is taken to be a Gaussian of its own slope g and curvature h there, exact for
Normal priors given their scales. Then, entry by entry,

.. math:: \mathrm{KL} = \tfrac12 \bigl(s^2 h + (g / h)^2 h - 1 - \log s^2 h\bigr)

for an approximation of standard deviation s. Wide mean-field networks leave most of their weights there [1]_, [2]_.

References
----------
.. [1] Trippe and Turner (2018), Overpruning in variational Bayesian neural networks. arXiv:1801.06230.
.. [2] Coker, Bruinsma, Burt, Pan and Doshi-Velez (2022), Wide mean-field Bayesian neural networks ignore the data.
   AISTATS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_AT_THE_PRIOR = 0.01
"""Nats for each weight, below which two normals cannot be told apart by looking."""


@dataclass(frozen=True)
class Collapse:
    """How many weights, and how many units, have their prior for a posterior.

    Parameters
    ----------
    weights
        Share of all entries of weight matrices that are less than 0.01 nats from their prior.
    units
        Share of the units (columns of weight matrices) whose weights are all as near, on average.
    num_weights, num_units
        Of how many.
    """

    weights: float
    units: float
    num_weights: int
    num_units: int


def collapse(
    matrices: Mapping[str, Sequence[int]],
    places: Mapping[str, slice],
    sd: Float[np.ndarray, " dim"],
    slope: Float[np.ndarray, " dim"],
    curvature: Float[np.ndarray, " dim"],
) -> Collapse | None:
    """The share of weights and units that were not learned.

    Parameters
    ----------
    matrices
        Shapes of the weight matrices, by variable; units are along the last axis.
    places
        Where each variable is in ``z``.
    sd
        Of the approximation.
    slope, curvature
        First and negative second derivative of the log prior at the approximation's means.

    Returns
    -------
    Collapse or None
        None if there are no weight matrices, or the prior does not curve.
    """
    near, units = [], []
    for name, shape in matrices.items():
        s, g, h = (np.asarray(x, np.float64)[places[name]].reshape(-1, shape[-1]) for x in (sd, slope, curvature))
        if not (np.all(np.isfinite(g)) and np.all(h > 0) and np.all(s > 0)):
            continue
        ratio = s**2 * h
        divergence = 0.5 * (ratio + g**2 / h - 1 - np.log(ratio))
        near.append((divergence < _AT_THE_PRIOR).ravel())
        units.append(divergence.mean(axis=0) < _AT_THE_PRIOR)
    if not near:
        return None
    flat, columns = np.concatenate(near), np.concatenate(units)
    return Collapse(float(flat.mean()), float(columns.mean()), flat.size, columns.size)
