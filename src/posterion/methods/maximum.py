r"""The mode (maximum a posteriori, MAP), for comparison.

.. math:: \hat z = \arg\max_z \; \log p(z, y)

over unconstrained space, the Jacobian of the transform included: for a positive variable that is the mode of its
logarithm. A point says nothing of uncertainty, and its verdict says so.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from posterion.families import Point
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.mode import find_mode
from posterion.methods.surface import Surface


@dataclass(frozen=True)
class MAP(AbstractDirectMethod):
    """The mode of the posterior over unconstrained space: one point, without spread.

    Extras of the posterior: ``log_joint``, the log joint density at the mode.

    Notes
    -----
    The mode depends on the coordinates. This is the mode of the unconstrained variables (the logarithm of a positive
    one), which is where Laplace's method works; PyMC's ``find_MAP`` leaves the Jacobian out and finds another point.
    """

    @property
    def caveats(self) -> tuple[str, ...]:
        return ("a mode is one point: it has no spread, so it says nothing about uncertainty",)

    def solve(self, problem: Problem) -> Solution:
        surface = Surface(problem)
        mode = find_mode(problem, surface)
        return Solution(
            family=Point(),
            params=mode.z[None].astype(jnp.result_type(float)),
            converged=mode.converged,
            sentence=mode.sentence,
            evaluations=surface.evaluations,
            interrupted=mode.interrupted,
            extras={"log_joint": np.asarray(mode.log_joint)},
        )
