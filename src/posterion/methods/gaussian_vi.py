r"""The closest Gaussian of full covariance, in tens of steps, and its draws corrected to the posterior's.

Three stages, all deterministic given the seed: the mode and its curvature (`mode`); the Gaussian that minimises
KL(q, p) by natural-gradient steps on quasi-random draws (`gaussian_fit`); and Pareto smoothed importance resampling of
draws from a Student-t around it, where k-hat says that this is reliable.
"""

from dataclasses import dataclass

import numpy as np

from posterion.errors import DegenerateError, OptionError
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.correction import NUM_DRAWS, corrected
from posterion.methods.curvature import Curvature
from posterion.methods.gaussian import full_rank
from posterion.methods.gaussian_fit import Fit, fit_gaussian, num_draws
from posterion.methods.mode import check_fall, find_mode, refuse_flat
from posterion.methods.surface import Surface, check_memory

_NARROW = 0.1
"""Standard deviation to start from where there is no mode to measure."""


@dataclass(frozen=True)
class GaussianVI(AbstractDirectMethod):
    """The Gaussian of full covariance closest to the posterior, found without a learning rate, and corrected draws.

    For smooth posteriors of up to a few hundred variables: regressions, hierarchies, state space models.

    Parameters
    ----------
    correct
        Whether to resample the Gaussian's draws by their importance, where that is reliable. The posterior then holds
        `Particles`, which follow skewness and tails that no Gaussian has. They are taken from a Student-t around the
        Gaussian, whose longer tails keep the weights bounded and whose k-hat the posterior then has; its ELBO is the
        importance-weighted bound of these draws.
        Without correction it is a `FullRank` Gaussian.
    num_draws
        Draws that are kept if they are corrected.

    Raises
    ------
    OptionError
        If ``num_draws`` is below 100; at the fit, if the draws would not fit into memory.
    DegenerateError
        At the fit, if the posterior is flat along some direction, or improper.

    Notes
    -----
    Extras of the posterior: ``gaussian_mean`` and ``gaussian_root``, a square root of the Gaussian's covariance, over
    unconstrained space.
    """

    correct: bool = True
    num_draws: int = NUM_DRAWS

    def __post_init__(self) -> None:
        if isinstance(self.num_draws, bool) or not isinstance(self.num_draws, int) or self.num_draws < 100:
            raise OptionError(f"num_draws must be a whole number from 100 on, not {self.num_draws!r}")

    def solve(self, problem: Problem) -> Solution:
        size = problem.layout.size
        check_memory(
            f"a Gaussian of full covariance over {size:,} variables",
            8 * num_draws(size) * 4 * size,
            "use 'advi', which by default keeps independent normals",
        )
        surface = Surface(problem)
        found = _closest(problem, surface)
        family, params = full_rank(found.mean, found.root)
        sentence = f"converged: the closest Gaussian is a fixed point after {len(found.losses)} steps"
        if found.interrupted:
            sentence = f"interrupted after {len(found.losses)} steps; the Gaussian reached is kept"
        elif not found.converged:
            sentence = f"no fixed point after {len(found.losses)} steps: the last one still moved {found.gain:.2g} nats"
        extras = {"gaussian_mean": found.mean, "gaussian_root": found.root}
        plain = Solution(
            family=family,
            params=params,
            converged=found.converged,
            sentence=sentence,
            evaluations=surface.evaluations,
            losses=np.asarray(found.losses),
            interrupted=found.interrupted,
            extras=extras,
        )
        if not self.correct or found.interrupted or problem.is_network:
            return plain
        return corrected(problem, surface, found.mean, found.root, plain, self.num_draws)


def _closest(problem: Problem, surface: Surface) -> Fit:
    """From the mode's curvature, or from a narrow Gaussian at the start where there is no mode."""
    no_mode = None
    try:
        mode = find_mode(problem, surface)
        if mode.interrupted:
            raise KeyboardInterrupt
        hessian = surface.hessian(mode.z) if mode.hessian is None else mode.hessian
        curvature = Curvature.of(hessian, surface.flatness)
        refuse_flat(problem.layout, curvature.flat_directions(), surface)
        mean, root = mode.z, curvature.covariance_factor()
        check_fall(problem.layout, surface, mean, root.T)
    except DegenerateError as error:
        no_mode = error
        mean, root = problem.starts[0], _NARROW * np.eye(surface.size)
    found = fit_gaussian(surface, mean, root, problem.seed, problem.report)
    if no_mode is not None and not found.converged and not found.interrupted:
        raise no_mode
    return found
