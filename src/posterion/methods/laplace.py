r"""Laplace's approximation: the mode, and a Gaussian of the curvature there.

.. math:: q(z) = \mathcal N(z;\; \hat z,\; H^{-1}), \qquad H = -\nabla^2 \log p(\hat z, y)

Exact for a Gaussian posterior, and close where there are many data for each parameter. The result is an ordinary
member of a Gaussian family, with an ELBO and a verdict.

References
----------
.. [1] Tierney and Kadane (1986), Accurate approximations for posterior moments and marginal densities. JASA 81.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.errors import OptionError
from posterion.families import AbstractFamily
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.curvature import Curvature
from posterion.methods.gaussian import full_rank, mean_field
from posterion.methods.mode import Mode, check_fall, find_mode, refuse_flat
from posterion.methods.surface import Surface, check_memory
from posterion.target import Layout


class Spread(NamedTuple):
    """A Gaussian around the mode, and the directions whose fall can be checked, in the units of z, one per row."""

    family: AbstractFamily
    params: PyTree
    directions: Float[np.ndarray, "directions dim"]


@dataclass(frozen=True)
class Laplace(AbstractDirectMethod):
    """A Gaussian at the mode, with the covariance that the curvature there means.

    Parameters
    ----------
    curvature
        "full", a Gaussian of any covariance; or "diagonal", independent normals, which ignores correlations and is
        narrower for it.

    Raises
    ------
    OptionError
        For another curvature; at the fit, if the covariance would not fit into memory, with the number of bytes.
    DegenerateError
        At the fit, if the posterior has no mode or is flat along some direction: duplicated or constant columns under
        flat priors, an improper posterior. The message names the variables.

    Notes
    -----
    Its verdict is measured like that of any other approximation, by fresh draws. For networks, whose curvature at a
    mode means little, sampled Laplace predicts worse than every other method we measured.
    """

    curvature: str = "full"

    def __post_init__(self) -> None:
        if self.curvature not in CURVATURES:
            raise OptionError(f"curvature must be one of {', '.join(map(repr, CURVATURES))}, not {self.curvature!r}")

    def solve(self, problem: Problem) -> Solution:
        surface = Surface(problem)
        spread_at = CURVATURES[self.curvature]
        if self.curvature == "full":
            size = problem.layout.size
            check_memory(
                f"the covariance of {size:,} variables and its factors", 3 * 8 * size**2, "use Laplace('diagonal')"
            )
        mode = find_mode(problem, surface)
        if mode.interrupted:
            raise KeyboardInterrupt  # without a mode there is nothing to keep
        family, params, directions = spread_at(problem.layout, surface, mode)
        check_fall(problem.layout, surface, mode.z, directions)
        caveats = ()
        if problem.is_network:
            caveats = (
                "draws from a Laplace approximation of a network predict badly: its curvature at the mode does not "
                "hold as far as its draws go",
            )
        return Solution(
            family=family,
            params=params,
            converged=mode.converged,
            sentence=f"found the mode: {mode.sentence}",
            evaluations=surface.evaluations,
            caveats=caveats,
            extras={"log_joint": np.asarray(mode.log_joint)},
        )


def _full(layout: Layout, surface: Surface, mode: Mode) -> Spread:
    hessian = surface.hessian(mode.z) if mode.hessian is None else mode.hessian
    curvature = Curvature.of(hessian, surface.flatness)
    refuse_flat(layout, curvature.flat_directions(), surface)
    root = curvature.covariance_factor()
    return Spread(*full_rank(mode.z, root), root.T)


def _diagonal(layout: Layout, surface: Surface, mode: Mode) -> Spread:
    diagonal = surface.diagonal(mode.z) if mode.hessian is None else np.diag(mode.hessian)
    refuse_flat(layout, [np.eye(len(diagonal))[d] for d in np.flatnonzero(~(diagonal > 0))], surface)
    scale = 1 / np.sqrt(diagonal)
    rows = np.diag(scale) if len(scale) <= 1000 else np.empty((0, len(scale)))
    return Spread(*mean_field(mode.z, scale), rows)


CURVATURES: dict[str, Callable[[Layout, Surface, Mode], Spread]] = {"full": _full, "diagonal": _diagonal}
"""How the curvature at a mode becomes a Gaussian, by name."""
