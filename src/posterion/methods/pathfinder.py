r"""Pathfinder: Gaussians along the way to a mode, the best of them by the ELBO, from several starts.

Each path is an L-BFGS search for a mode. At every point of it the search's own estimate of the inverse Hessian makes a
Gaussian, and the one of the highest ELBO is kept: usually one on the way, where the posterior's mass is, and not the
one at the mode. Draws of all paths together are then resampled by their importance with respect to the mixture of the
paths' Gaussians.

References
----------
.. [1] Zhang, Carpenter, Gelman and Vehtari (2022), Pathfinder: parallel quasi-Newton variational inference. JMLR
   23(306).
"""

from collections import deque
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from posterion.errors import NonFiniteError, OptionError
from posterion.families import Particles
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.importance import caveats, resample, smooth
from posterion.methods.inverse_hessian import PathGaussian, gaussian_at, next_alpha, usable
from posterion.methods.starts import pays
from posterion.methods.surface import Surface

_SPREAD = 2.0
"""Half the width of the box, around the model's initial point, in which paths start [1]_."""


@dataclass(frozen=True)
class Pathfinder(AbstractDirectMethod):
    """Draws by quasi-Newton paths and importance resampling: a first answer in some hundred gradients a path.

    The posterior holds `Particles`; its ELBO and k-hat are those of the mixture of the paths' Gaussians, from which
    they were resampled.

    Parameters
    ----------
    num_paths
        Searches from different starts; ``restarts`` of the fit, if larger, wins.
    num_draws
        Draws that are kept.
    num_elbo_draws
        Draws that rank the Gaussians of one path.
    history
        Steps that the inverse Hessian is estimated from.
    max_iterations
        Of one search.

    Raises
    ------
    OptionError
        If a number is not positive, or ``num_draws`` is below 100.

    Notes
    -----
    Extras of the posterior: ``path_elbo``, the ELBO of each path's best Gaussian, in nats.
    """

    num_paths: int = 8
    num_draws: int = 2000
    num_elbo_draws: int = 16
    history: int = 6
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        for name, least in (
            ("num_paths", 1),
            ("num_draws", 100),
            ("num_elbo_draws", 2),
            ("history", 1),
            ("max_iterations", 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name} must be a whole number from {least} on, not {value!r}")

    def solve(self, problem: Problem) -> Solution:
        surface = Surface(problem)
        number = max(self.num_paths, len(problem.starts))
        seeds = np.random.SeedSequence(problem.seed).spawn(number + 1)
        found: list[tuple[float, PathGaussian]] = []
        interrupted, failed = False, 0
        try:
            for k, seed in enumerate(seeds[:number]):
                best = self._path(problem, surface, np.random.default_rng(seed), k)
                if best is None:
                    failed += 1
                else:
                    found.append(best)
        except KeyboardInterrupt:
            if not found:
                raise
            interrupted = True
        if not found:
            raise NonFiniteError(
                f"none of {number} paths met a point where the log density is finite and curves; fit with 'advi', or "
                "give the variables other initial values"
            )
        return self._solution(problem, surface, found, np.random.default_rng(seeds[-1]), failed, interrupted)

    def _path(
        self, problem: Problem, surface: Surface, random: np.random.Generator, number: int
    ) -> tuple[float, PathGaussian] | None:
        """The best Gaussian of one path with its ELBO."""
        start = _start(problem, surface, random, number)
        scale = _scale(surface, start)
        points, gradients = _search(surface, start, scale, self.max_iterations, self.history)
        gaussians = [g.affine(start, scale) for g in _gaussians(points, gradients, self.history)]
        if not gaussians:
            return None
        noise = random.standard_normal((self.num_elbo_draws, surface.size))
        draws = np.concatenate([gaussian.draws(noise) for gaussian in gaussians])
        values, _ = surface.log_joint_at(draws)
        log_q = np.concatenate(
            [g.log_density(draws[i * len(noise) : (i + 1) * len(noise)]) for i, g in enumerate(gaussians)]
        )
        elbo = (values - log_q).reshape(len(gaussians), -1).mean(axis=1)
        elbo = np.where(np.isfinite(elbo), elbo, -np.inf)
        best = int(np.argmax(elbo))
        problem.report(surface.evaluations, None, -float(elbo[best]), f"Path {number + 1}")
        return (float(elbo[best]), gaussians[best]) if np.isfinite(elbo[best]) else None

    def _solution(
        self,
        problem: Problem,
        surface: Surface,
        found: list[tuple[float, PathGaussian]],
        random: np.random.Generator,
        failed: int,
        interrupted: bool,  # noqa: FBT001
    ) -> Solution:
        each = -(-self.num_draws // len(found))
        points = np.concatenate([g.draws(random.standard_normal((each, surface.size))) for _, g in found])
        values, _ = surface.log_joint_at(points)
        log_q = np.logaddexp.reduce([g.log_density(points) for _, g in found]) - np.log(len(found))
        smoothed = smooth(values - log_q)
        kept = resample(points, smoothed, self.num_draws, int(random.integers(2**32)))
        sentence = f"followed {len(found)} path{'s' * (len(found) != 1)} to a mode"
        if failed:
            sentence += f"; {failed} more met no finite curvature"
        if interrupted:
            sentence = f"interrupted after {len(found)} paths, which are kept"
        note = (
            f"{self.num_draws:,} draws, resampled by importance from the mixture of the paths' Gaussians, whose "
            f"k-hat this is; worth {smoothed.effective_draws:,.0f} independent ones"
        )
        return Solution(
            family=Particles(self.num_draws),
            params=kept.astype(jnp.result_type(float)),
            converged=True,
            sentence=sentence,
            evaluations=surface.evaluations,
            interrupted=interrupted,
            notes=(note,),
            caveats=caveats(smoothed),
            extras={"path_elbo": np.array([elbo for elbo, _ in found])},
            log_weights=values - log_q,
        )


def _start(problem: Problem, surface: Surface, random: np.random.Generator, number: int) -> np.ndarray:
    """The problem's own starts first, then points spread out around the first, drawn closer until they are finite."""
    if number < len(problem.starts):
        return problem.starts[number]
    spread = _SPREAD
    for _ in range(10):
        start = problem.starts[0] + random.uniform(-spread, spread, surface.size)
        if surface.value(start) < 1e299:
            return start
        spread /= 2
    return problem.starts[0]


def _scale(surface: Surface, start: np.ndarray) -> np.ndarray:
    """Units for a search: 1 / sqrt(|curvature|) at its start, so that those of the model do not matter."""
    if not pays(surface.size):
        return np.ones(surface.size)
    curvature = np.abs(surface.diagonal(start))
    usable_ones = np.isfinite(curvature) & (curvature > 1e-8)
    return np.where(usable_ones, 1 / np.sqrt(np.where(usable_ones, curvature, 1.0)), 1.0)


def _search(
    surface: Surface, start: np.ndarray, scale: np.ndarray, max_iterations: int, history: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Points that L-BFGS accepted, with their gradients, in coordinates ``(z - start) / scale``."""
    from scipy.optimize import minimize  # a third of a second to import

    seen: dict[bytes, np.ndarray] = {}

    def value_and_gradient(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = surface.value_and_gradient(start + scale * u)
        seen[u.tobytes()] = scale * gradient
        return value, scale * gradient

    points: list[np.ndarray] = [np.zeros_like(start)]
    minimize(
        value_and_gradient,
        points[0],
        jac=True,
        method="L-BFGS-B",
        callback=lambda u: points.append(np.array(u)),
        options={"maxiter": max_iterations, "maxfun": 10 * max_iterations, "maxcor": history, "ftol": 1e-10},
    )
    points = [point for point in points if point.tobytes() in seen]
    return points, [seen[point.tobytes()] for point in points]


def _gaussians(points: list[np.ndarray], gradients: list[np.ndarray], history: int) -> list[PathGaussian]:
    """One Gaussian at each point after the first, where there is one."""
    alpha, found = np.ones(len(points[0])), []
    steps: deque[np.ndarray] = deque(maxlen=history)
    changes: deque[np.ndarray] = deque(maxlen=history)
    for k in range(1, len(points)):
        step, change = points[k] - points[k - 1], gradients[k] - gradients[k - 1]
        if usable(step, change):
            alpha = next_alpha(alpha, step, change)
            steps.append(step)
            changes.append(change)
        gaussian = gaussian_at(points[k], gradients[k], alpha, list(steps), list(changes))
        if gaussian is not None:
            found.append(gaussian)
    return found
