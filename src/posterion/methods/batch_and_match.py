r"""Batch and match (BaM): a Gaussian of full covariance that matches the posterior's scores, without a learning rate.

Each iteration draws a batch from the current Gaussian, and moves to the Gaussian that minimises

.. math:: \frac1B \sum_b \bigl\|\nabla\log p(z_b) - \nabla\log q(z_b)\bigr\|^2_{\mathrm{Cov}(q)}
          + \frac{2}{\lambda_t} \mathrm{KL}(q_t, q)

which has a closed form [1]_: with the means :math:`\bar z, \bar g` and covariances :math:`C, \Gamma` of draws and
scores, and :math:`\kappa = \lambda / (1 + \lambda)`,

.. math:: U = \lambda\Gamma + \kappa\, \bar g\bar g^\top, \quad
          V = \Sigma_t + \lambda C + \kappa\, (\mu_t - \bar z)(\mu_t - \bar z)^\top, \quad
          \Sigma U \Sigma + \Sigma = V, \quad \mu = (1 - \kappa) \mu_t + \kappa\, (\Sigma\bar g + \bar z).

References
----------
.. [1] Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul (2024), Batch and match: black-box variational
   inference with a score-based divergence. ICML. arXiv 2402.14758, section 3.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posterion.errors import DegenerateError, OptionError
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.gaussian import full_rank
from posterion.methods.mode import find_mode
from posterion.methods.surface import Surface, check_memory

_LARGEST_DIMENSION = 1000
_WINDOW = 10
"""Iterations between looks at whether the ELBO still rises."""
_MOST_ITERATIONS = 500


@dataclass(frozen=True)
class BatchAndMatch(AbstractDirectMethod):
    """A full-covariance Gaussian by matching scores in closed form.

    Parameters
    ----------
    batch_draws
        B, draws of an iteration. None: one for each unknown and more, at least 32. Fewer than unknowns make the
        covariance unstable.
    tolerance
        Gain of the ELBO in nats, over ten iterations, below which it stops.

    Raises
    ------
    OptionError
        For fewer than two draws or a tolerance that is not positive; at the fit, for more than a thousand unknowns.

    Notes
    -----
    What it minimises is not the Kullback-Leibler divergence: on skewed posteriors its Gaussian differs from that of
    `GaussianVI`, and its ELBO is lower. On Gaussian posteriors the two agree.
    """

    batch_draws: int | None = None
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.batch_draws is not None and (isinstance(self.batch_draws, bool) or self.batch_draws < 2):
            raise OptionError(f"batch_draws must be a whole number from 2 on, or None, not {self.batch_draws!r}")
        if not self.tolerance > 0:
            raise OptionError(f"tolerance must be a positive number of nats, not {self.tolerance!r}")

    def solve(self, problem: Problem) -> Solution:
        surface, dim = Surface(problem), problem.layout.size
        check_memory(f"batch and match on {dim:,} unknowns", 10 * 8 * dim**2, "use 'advi' or 'lowrank_advi'")
        if dim > _LARGEST_DIMENSION:
            raise OptionError(
                f"batch and match takes {dim:,} draws an iteration for {dim:,} unknowns, and matrix roots of that "
                f"size; it is for up to {_LARGEST_DIMENSION:,}. Use 'lowrank_advi'"
            )
        count = self.batch_draws or int(2 ** np.ceil(np.log2(max(32, dim + 1))))
        random = np.random.default_rng(problem.seed)
        mean, root = _start(problem, surface)
        losses, kept, sentence, converged, interrupted = [], [], "", False, False
        try:
            for t in range(_MOST_ITERATIONS):
                u = random.standard_normal((count, dim))
                draws = mean + u @ root.T
                values, scores = surface.log_joint_at(draws)
                fine = np.isfinite(values) & np.all(np.isfinite(scores), axis=1)
                if np.mean(fine) < 0.5:
                    root = root / 2  # most draws are where the posterior is not: come closer
                    continue
                log_q = -0.5 * np.sum(u**2, axis=1) - np.linalg.slogdet(root)[1] - 0.5 * dim * np.log(2 * np.pi)
                losses.append(-float(np.mean((values - log_q)[fine])))
                problem.report(t + 1, None, losses[-1], "Matching scores")
                rate = count * dim / (t + 1)
                mean, root = _match(mean, root, draws[fine], scores[fine], rate)
                kept.append((mean, root))
                if _settled(losses, self.tolerance):
                    converged = True
                    break
        except KeyboardInterrupt:
            if not kept:
                raise
            interrupted = True
        if not kept:
            raise DegenerateError("the log density was not finite at most draws however narrow the Gaussian was")
        mean, root = _average(kept[-_WINDOW:])
        sentence = f"stopped at the limit of {_MOST_ITERATIONS} iterations"
        if converged:
            sentence = f"converged: ten iterations gained less than {self.tolerance:g} nats, after {len(losses)} in all"
        elif interrupted:
            sentence = f"interrupted after {len(losses)} iterations; what was reached is kept"
        family, params = full_rank(mean, root)
        return Solution(
            family=family,
            params=params,
            converged=converged,
            sentence=sentence,
            evaluations=surface.evaluations,
            losses=np.asarray(losses),
            interrupted=interrupted,
        )


def _start(problem: Problem, surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """The mode, with the curvature of each entry alone: correlations are left to find."""
    try:
        mode = find_mode(problem, surface)
        diagonal = surface.diagonal(mode.z) if mode.hessian is None else np.diag(mode.hessian)
    except DegenerateError:
        return problem.starts[0], 0.1 * np.eye(surface.size)
    usable = np.isfinite(diagonal) & (diagonal > 1e-16)
    return mode.z, np.diag(np.where(usable, 1 / np.sqrt(np.where(usable, diagonal, 1.0)), 1.0))


def _match(
    mean: Float[np.ndarray, " dim"],
    root: Float[np.ndarray, "dim dim"],
    draws: Float[np.ndarray, "draws dim"],
    scores: Float[np.ndarray, "draws dim"],
    rate: float,
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, "dim dim"]]:
    """One closed-form step, in coordinates in which the current Gaussian is standard: units do not matter."""
    z = np.linalg.solve(root, (draws - mean).T).T
    g = scores @ root
    share = rate / (1 + rate)
    z_mean, g_mean = z.mean(axis=0), g.mean(axis=0)
    z_off, g_off = z - z_mean, g - g_mean
    u = rate * (g_off.T @ g_off) / len(g) + share * np.outer(g_mean, g_mean)
    v = np.eye(len(mean)) + rate * (z_off.T @ z_off) / len(z) + share * np.outer(z_mean, z_mean)
    # With V = L Lᵀ and the eigenvalues w of Lᵀ U L: Sigma = L E (2 / (1 + sqrt(1 + 4 w))) Eᵀ Lᵀ.
    lower = np.linalg.cholesky(v)
    values, vectors = np.linalg.eigh(lower.T @ u @ lower)
    inner = lower @ (vectors * np.sqrt(2 / (1 + np.sqrt(1 + 4 * np.maximum(values, 0.0)))))
    move = share * (inner @ (inner.T @ g_mean) + z_mean)
    return mean + root @ move, root @ inner


def _settled(losses: list[float], tolerance: float) -> bool:
    """Whether the last ten iterations together gained less than the tolerance, or than their own noise."""
    if len(losses) < 3 * _WINDOW or len(losses) % _WINDOW:
        return False
    before, after = np.asarray(losses[-2 * _WINDOW : -_WINDOW]), np.asarray(losses[-_WINDOW:])
    error = np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / _WINDOW)
    return bool(before.mean() - after.mean() < max(tolerance, error))


def _average(gaussians: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of means, and a root of the mean of covariances."""
    mean = np.mean([m for m, _ in gaussians], axis=0)
    return mean, np.concatenate([root for _, root in gaussians], axis=1) / np.sqrt(len(gaussians))
