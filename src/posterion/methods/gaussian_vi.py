r"""The closest Gaussian of full covariance, in tens of steps, and its draws corrected to the posterior's.

Three stages, all deterministic given the seed: the mode and its curvature (`mode`); the Gaussian that minimises
KL(q, p) by natural-gradient steps on quasi-random draws (`gaussian_fit`); and Pareto smoothed importance resampling of
draws from a Student-t around it, where k-hat says that this is reliable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from posterion.diagnostics.psis import ParetoSmoothed
from posterion.errors import DegenerateError, OptionError
from posterion.families import Particles
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.curvature import Curvature
from posterion.methods.gaussian import full_rank
from posterion.methods.gaussian_fit import Fit, fit_gaussian, normal_draws, num_draws, student_draws
from posterion.methods.importance import caveats, resample, smooth
from posterion.methods.mode import check_fall, find_mode, refuse_flat
from posterion.methods.surface import Surface, check_memory

_NEARLY_EQUAL = 0.8
"""Share of the wanted draws that the weighted ones are to be worth before no more are drawn."""
_BLOCKS = 8
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
    num_draws: int = 4096

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
        return _corrected(problem, surface, found, plain, self.num_draws)


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


def _corrected(problem: Problem, surface: Surface, found: Fit, plain: Solution, count: int) -> Solution:
    """Draws of a Student-t around the Gaussian, or of itself, resampled where that is reliable."""
    *seeds, choice = (int(s) for s in np.random.SeedSequence(problem.seed).generate_state(2 * _BLOCKS + 1, np.uint32))
    khats = []
    for proposal, draws_of in (
        ("a Student-t around the closest Gaussian", student_draws),
        ("the closest Gaussian", normal_draws),
    ):
        points, log_weights, smoothed = _weighted(problem, surface, found, count, draws_of, seeds[len(khats) :: 2])
        khats.append(f"{smoothed.khat:.2f} of {proposal}")
        if smoothed.khat <= smoothed.threshold:
            break
    else:
        note = (
            f"the Gaussian's draws are left as they are: importance weights would not correct them (k-hat "
            f"{' and '.join(khats)}, limit {smoothed.threshold:.2f})"
        )
        return replace(plain, evaluations=surface.evaluations, notes=(note,))
    note = (
        f"{count:,} draws, resampled by importance from {len(points):,} of {proposal}, whose k-hat this is; "
        f"worth {smoothed.effective_draws:,.0f} independent ones"
    )
    return replace(
        plain,
        evaluations=surface.evaluations,
        family=Particles(count),
        params=resample(points, smoothed, count, choice).astype(jnp.result_type(float)),
        notes=(note,),
        log_weights=log_weights,
        caveats=caveats(smoothed),
    )


def _weighted(
    problem: Problem, surface: Surface, found: Fit, count: int, draws_of: Callable, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, ParetoSmoothed]:
    """Blocks of draws until they are worth ``count`` independent ones, with their log weights, raw and smoothed."""
    size, log_volume = len(found.mean), float(np.linalg.slogdet(found.root)[1])
    points, log_weights, smoothed = np.empty((0, size)), np.empty(0), None
    for seed in seeds:
        u, log_q = draws_of(size, int(2 ** np.ceil(np.log2(count))), seed)
        new = found.mean + u @ found.root.T
        values, _ = surface.log_joint_at(new)
        points = np.concatenate([points, new])
        log_weights = np.concatenate([log_weights, values - log_q + log_volume])
        smoothed = smooth(log_weights)
        problem.report(surface.evaluations, None, -float(np.mean(log_weights)), "Correcting draws")
        if smoothed.effective_draws >= _NEARLY_EQUAL * count:
            break
    assert smoothed is not None  # there are seeds  # noqa: S101
    return points, log_weights, smoothed
