r"""Deterministic ADVI: the mean-field ELBO on fixed draws, maximised to the last digit; linear-response covariances.

With M fixed draws of standard noise the objective

.. math:: f(\mu, \rho) = -\frac1M \sum_m \log p(\mu + e^\rho \circ \epsilon_m) - \sum_d \rho_d

is an ordinary smooth function: Newton steps with its whole Hessian end at a point where another one would gain nothing,
which is a test of convergence that stochastic steps do not have. Mean-field standard deviations are too small where
variables are correlated. Linear response asks how the mean moves when the posterior is tilted, and gets a covariance
from the same Hessian,

.. math:: \mathrm{Cov}(z) = \bigl(\nabla^2 f\bigr)^{-1}_{\mu\mu},

exact for a Gaussian posterior. For others it is not, with however many draws; so its Gaussian is the proposal of
importance resampling, where k-hat allows that, and the draws are then the posterior's.

References
----------
.. [1] Giordano, Ingram and Broderick (2024), Black box variational inference with a deterministic objective: faster,
   more accurate, and even more black box. JMLR 25(18).
.. [2] Giordano, Broderick and Jordan (2018), Covariances, robustness, and variational Bayes. JMLR 19(51).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posterion.errors import DegenerateError, OptionError
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.correction import corrected
from posterion.methods.curvature import Curvature
from posterion.methods.gaussian import full_rank, mean_field, triangular
from posterion.methods.gaussian_fit import sobol_normals
from posterion.methods.mode import check_fall, find_mode, refuse_flat
from posterion.methods.surface import Surface, check_memory

_COVARIANCES = ("linear_response", "mean_field")
_DECREMENT = 1e-8
"""Nats that another Newton step would gain, below which the optimum is found."""
_NEWTON_STEPS = 100
_LEAST_DRAWS = 256
"""Of garch and eight schools, 64 leave sds of linear response up to 5 % off those of 4,096 draws, and 256 up to 2 %."""
_FITTED = 1.0
"""Nats by which the ELBO may be lower on fresh draws before the fixed ones count as fitted."""


@dataclass(frozen=True)
class DeterministicADVI(AbstractDirectMethod):
    """Mean-field ADVI on fixed draws, solved by Newton's method, with linear-response covariances.

    Parameters
    ----------
    covariance
        "linear_response", a Gaussian of full covariance around the mean-field means; or "mean_field", the independent
        normals themselves. Either is kept among the extras.
    num_draws
        M, the fixed draws (quasi-random). None: four for each unknown, at least 256. Too few are fitted instead of the
        posterior; the verdict says so where the ELBO on fresh draws is clearly lower.
    correct
        Whether to resample draws from around the linear-response Gaussian by their importance, where that is reliable.
        The posterior then holds `Particles`, which follow the skewness that linear response cannot know of; k-hat
        and ELBO are those of the resampling. Without correction, or where k-hat is too high, it is a `FullRank`
        Gaussian. Means nothing for independent normals, which stay what they are.

    Raises
    ------
    OptionError
        For another covariance or number; at the fit, if the Hessians would not fit into memory.
    DegenerateError
        At the fit, if the objective has no optimum: an improper posterior.

    Notes
    -----
    Extras of the posterior, over unconstrained space: ``mean``, ``mean_field_sd``, ``linear_response_covariance``,
    and ``elbo_fixed`` and ``elbo_fresh``, the ELBO of the mean-field solution on its own draws and on fresh ones.
    """

    covariance: str = "linear_response"
    num_draws: int | None = None
    correct: bool = True

    def __post_init__(self) -> None:
        if self.covariance not in _COVARIANCES:
            raise OptionError(
                f"covariance must be one of {', '.join(map(repr, _COVARIANCES))}, not {self.covariance!r}"
            )
        if self.num_draws is not None and (isinstance(self.num_draws, bool) or self.num_draws < 2):
            raise OptionError(f"num_draws must be a whole number from 2 on, or None, not {self.num_draws!r}")

    def solve(self, problem: Problem) -> Solution:
        surface, dim = Surface(problem), problem.layout.size
        count = self.num_draws or int(2 ** np.ceil(np.log2(max(_LEAST_DRAWS, 4 * dim))))
        check_memory(f"the Hessians of {dim:,} unknowns at {count:,} draws", 8 * count * dim**2, "use 'advi'")
        seeds = np.random.SeedSequence(problem.seed).generate_state(2, np.uint32)
        objective = _Objective(surface, sobol_normals(dim, count, int(seeds[0])))
        found = _newton(problem, objective, _start(problem, surface))
        mean, scale = found.point[:dim], np.exp(found.point[dim:])
        fresh = _Objective(surface, sobol_normals(dim, max(256, count), int(seeds[1])))
        gap = fresh.value(found.point) - found.value
        caveats, side = _caveats(gap, count), "lower" if gap >= 0 else "higher"
        extras = {
            "mean": mean,
            "mean_field_sd": scale,
            "elbo_fixed": np.asarray(-found.value),
            "elbo_fresh": np.asarray(-found.value - gap),
        }
        (family, params), root = mean_field(mean, scale), None
        if found.curvature is not None and not found.curvature.flat_directions():
            response = found.curvature.covariance_factor()[:dim]
            extras["linear_response_covariance"] = response @ response.T
            if self.covariance == "linear_response":
                root = triangular(response)
                family, params = full_rank(mean, root)
        elif self.covariance == "linear_response":
            caveats += ("the objective is flat at its optimum, so linear response gives no covariance",)
        plain = Solution(
            family=family,
            params=params,
            converged=found.converged,
            sentence=found.sentence,
            evaluations=surface.evaluations,
            losses=np.asarray(found.losses),
            interrupted=found.interrupted,
            notes=(f"{count:,} fixed draws; on fresh ones the mean-field ELBO is {abs(gap):.2f} nats {side}",),
            caveats=caveats,
            extras=extras,
        )
        if root is None or not self.correct or found.interrupted or problem.is_network:
            return plain
        return corrected(problem, surface, mean, root, plain)


def _caveats(gap: float, count: int) -> tuple[str, ...]:
    if gap < _FITTED:
        return ()
    return (
        f"{count:,} fixed draws are too few for this model: they were fitted, and on fresh ones the ELBO is {gap:.1f} "
        f"nats lower; use DeterministicADVI(num_draws={4 * count})",
    )


class _Objective:
    """Negative ELBO of independent normals on fixed draws, as a function of (mean, log sd) in one vector."""

    def __init__(self, surface: Surface, noise: Float[np.ndarray, "draws dim"]) -> None:
        self._surface, self._noise = surface, noise
        self._constant = 0.5 * noise.shape[1] * np.log(2 * np.pi) + 0.5 * float(np.mean(np.sum(noise**2, axis=1)))

    def value(self, point: Float[np.ndarray, " params"]) -> float:
        """Infinite where the log joint is not finite at a draw."""
        values, _ = self._surface.log_joint_at(self._draws(point))
        found = -float(np.mean(values)) - float(np.sum(point[self._noise.shape[1] :])) - self._constant
        return found if np.isfinite(found) else np.inf

    def derivatives(self, point: Float[np.ndarray, " params"]) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and Hessian."""
        dim = self._noise.shape[1]
        _, gradients, hessians = self._surface.log_joint_with_hessians_at(self._draws(point))
        lengths = np.exp(point[dim:]) * self._noise  # how a draw moves with its log sd
        gradient = np.concatenate([-gradients.mean(axis=0), -(gradients * lengths).mean(axis=0) - 1])
        count = len(lengths)
        across = -(hessians * lengths[:, None, :]).mean(axis=0)
        corner = -np.einsum("mi,mij,mj->ij", lengths, hessians, lengths) / count
        corner -= np.diag((gradients * lengths).mean(axis=0))
        return gradient, np.block([[-hessians.mean(axis=0), across], [across.T, corner]])

    def _draws(self, point: np.ndarray) -> np.ndarray:
        dim = self._noise.shape[1]
        return point[:dim] + np.exp(point[dim:]) * self._noise


@dataclass(frozen=True)
class _Found:
    point: np.ndarray
    value: float
    converged: bool
    sentence: str
    losses: list[float]
    curvature: Curvature | None
    interrupted: bool = False


def _start(problem: Problem, surface: Surface) -> np.ndarray:
    """The mode and the curvature of each entry there; the problem's start where there is no mode."""
    try:
        mode = find_mode(problem, surface)
    except DegenerateError:
        return np.concatenate([problem.starts[0], np.full(surface.size, np.log(0.1))])
    if mode.hessian is not None:
        curvature = Curvature.of(mode.hessian, surface.flatness)
        refuse_flat(problem.layout, curvature.flat_directions(), surface)
        check_fall(problem.layout, surface, mode.z, curvature.covariance_factor().T)
    diagonal = surface.diagonal(mode.z) if mode.hessian is None else np.diag(mode.hessian)
    scale = np.where(diagonal > 1e-16, 1 / np.sqrt(np.where(diagonal > 1e-16, diagonal, 1.0)), 1.0)
    return np.concatenate([mode.z, np.log(scale)])


def _newton(problem: Problem, objective: _Objective, start: np.ndarray) -> _Found:
    point, value, losses, curvature, decrement = start, objective.value(start), [], None, np.inf
    if not np.isfinite(value):
        point = np.concatenate([start[: len(start) // 2], start[len(start) // 2 :] - 2])
        value = objective.value(point)
    try:
        for _ in range(_NEWTON_STEPS):
            gradient, hessian = objective.derivatives(point)
            curvature = Curvature.of(hessian, 1e-10)
            step, decrement = curvature.newton_step(gradient)
            if decrement < _DECREMENT and not curvature.has_negative:
                sentence = f"converged: a Newton step on the fixed draws would gain {decrement:.1g} nats"
                return _Found(point, value, True, sentence, losses, curvature)
            moved = _descend(objective, point, value, float(gradient @ step), step)
            if moved is None:
                break
            point, value = moved
            losses.append(value)
            problem.report(len(losses), None, value, "Solving on fixed draws")
    except KeyboardInterrupt:
        sentence = f"interrupted after {len(losses)} Newton steps; what was reached is kept"
        return _Found(point, value, False, sentence, losses, None, interrupted=True)
    if np.max(point[len(point) // 2 :] - start[len(start) // 2 :]) > 20:  # a spread that grew e^20 times
        raise DegenerateError(
            "the spread of the approximation grows without end: the posterior is improper. Give the variables proper "
            "priors"
        )
    if decrement < 1e-4:  # rounding
        sentence = f"converged to rounding: a Newton step on the fixed draws would gain {decrement:.1g} nats"
        return _Found(point, value, True, sentence, losses, curvature)
    sentence = f"not converged after {len(losses)} Newton steps: another would gain {decrement:.2g} nats"
    return _Found(point, value, False, sentence, losses, curvature)


def _descend(
    objective: _Objective, point: np.ndarray, value: float, slope: float, step: np.ndarray
) -> tuple[np.ndarray, float] | None:
    size = 1.0
    for _ in range(30):
        there = point + size * step
        new = objective.value(there)
        if new < value + 1e-4 * size * min(slope, 0.0):
            return there, new
        size /= 2
    return None
