r"""The Gaussian closest to the posterior, by fixed-point steps with quasi-random draws: what `Auto` refines with.

The Gaussian that minimises KL(q, p) has, with z = m + A u and u standard normal,

.. math:: E[\nabla_u \log p] = 0, \qquad E[\nabla_u^2 \log p] = -I.

Both expectations are read off one linear regression of the gradients on u: by Stein's lemma its slopes estimate the
second, from first derivatives alone, and without error where the posterior is Gaussian. Each step is the
natural-gradient step of length rho [1]_,

.. math:: \Lambda \leftarrow (1 - \rho) I - \rho E[\nabla_u^2 \log p], \qquad
          u \leftarrow \rho \Lambda^{-1} E[\nabla_u \log p],

shortened until the ELBO on the same draws does not fall. The draws are scrambled Sobol points, so the objective is a
smooth deterministic function, its fixed point is exact, and its error falls nearly as 1 / draws.

References
----------
.. [1] Khan and Rue (2023), The Bayesian learning rule. JMLR 24, section 4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posterion.methods.surface import Surface

_MOST_STEPS = 100
_TOLERANCE = 1e-4
"""Nats between successive Gaussians below which the fixed point is reached; far below what the draws leave."""
_NO_GAIN = 0.01
"""Nats of the ELBO that three steps together must gain to go on."""
_WIDEST = 1e6
"""Times the starting width from which a Gaussian has no fixed point: the posterior is improper."""
_LEAST_PRECISION = 0.05
"""Of one step's precision relative to the last one's: a direction widens by at most a factor of 4.5."""


@dataclass(frozen=True)
class Fit:
    """A Gaussian and how it was reached.

    Parameters
    ----------
    mean, root
        Mean and a matrix A with A Aᵀ the covariance.
    elbo
        On the fixed draws, in nats.
    gain
        What the last step moved, in nats.
    losses
        Negative ELBO after each step.
    converged, interrupted
        Whether the fixed point was reached, and whether Ctrl-C came first.
    """

    mean: Float[np.ndarray, " dim"]
    root: Float[np.ndarray, "dim dim"]
    elbo: float
    gain: float
    losses: list[float]
    converged: bool
    interrupted: bool = False


def num_draws(dim: int) -> int:
    """Draws that determine dim * (dim + 1) / 2 slopes well: a power of two."""
    return int(2 ** np.ceil(np.log2(max(512, 8 * dim))))


def sobol_normals(dim: int, count: int, seed: int) -> Float[np.ndarray, "draws dim"]:
    """Scrambled Sobol points through the normal quantile, centred and with unit covariance as far as they are many."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    uniform = qmc.Sobol(dim, scramble=True, rng=np.random.default_rng(seed)).random(count)
    return ndtri(np.clip(uniform, 1e-10, 1 - 1e-10))


def normal_draws(dim: int, count: int, seed: int) -> tuple[Float[np.ndarray, "draws dim"], Float[np.ndarray, " draws"]]:
    """Quasi-random standard normal draws, and their log densities."""
    u = sobol_normals(dim, count, seed)
    return u, -0.5 * np.sum(u**2, axis=1) - 0.5 * dim * np.log(2 * np.pi)


def student_draws(
    dim: int, count: int, seed: int
) -> tuple[Float[np.ndarray, "draws dim"], Float[np.ndarray, " draws"]]:
    """Quasi-random draws of a standard Student-t, and their log densities.

    Ten degrees of freedom, or as many as dimensions: tails long enough to keep importance weights bounded where a
    posterior's are longer than a Gaussian's, and in many dimensions not so long that most draws fall outside.
    """
    from scipy.special import gammaincinv, gammaln, ndtri
    from scipy.stats import qmc

    freedom = max(10.0, float(dim))
    uniform = qmc.Sobol(dim + 1, scramble=True, rng=np.random.default_rng(seed)).random(count)
    uniform = np.clip(uniform, 1e-10, 1 - 1e-10)
    u = ndtri(uniform[:, :dim]) * np.sqrt(freedom / (2 * gammaincinv(freedom / 2, uniform[:, dim])))[:, None]
    log_constant = gammaln((freedom + dim) / 2) - gammaln(freedom / 2) - dim / 2 * np.log(freedom * np.pi)
    return u, log_constant - (freedom + dim) / 2 * np.log1p(np.sum(u**2, axis=1) / freedom)


def fit_gaussian(
    surface: Surface, mean: Float[np.ndarray, " dim"], root: Float[np.ndarray, "dim dim"], seed: int, report: Callable
) -> Fit:
    """Refine a Gaussian until it is a fixed point.

    Parameters
    ----------
    surface
        The log joint.
    mean, root
        Where to start: a mode and its curvature, or anything near.
    seed
        Of the draws.
    report
        Told ``(done, total, loss, note)``.
    """
    dim = len(mean)
    u = sobol_normals(dim, num_draws(dim), seed)
    design = np.concatenate([np.ones((len(u), 1)), u], axis=1)
    solver = np.linalg.pinv(design)
    values, slopes = _look(surface, mean, root, u)
    elbo, losses, rho, gain = _elbo(values, root), [], 1.0, np.inf
    if not np.isfinite(elbo):  # too wide for the posterior's tails: start narrower
        for _ in range(10):
            root = root / 2
            values, slopes = _look(surface, mean, root, u)
            elbo = _elbo(values, root)
            if np.isfinite(elbo):
                break
    widest = np.abs(root).max()
    try:
        for _ in range(_MOST_STEPS):
            ok = np.isfinite(values) & np.all(np.isfinite(slopes), axis=1)
            inverse = solver if ok.all() else np.linalg.pinv(design[ok])
            regression = inverse @ slopes[ok]
            curvature = -(regression[1:] + regression[1:].T) / 2
            pull = regression[0]  # the mean slope, less what the draws' own mean makes of the curvature
            while True:
                eigenvalues, vectors = np.linalg.eigh((1 - rho) * np.eye(dim) + rho * curvature)
                precision = np.maximum(eigenvalues, _LEAST_PRECISION)
                move = rho * (vectors @ ((vectors.T @ pull) / precision))
                new_mean, new_root = mean + root @ move, root @ (vectors / np.sqrt(precision)) @ vectors.T
                new_values, new_slopes = _look(surface, new_mean, new_root, u)
                new_elbo = _elbo(new_values, new_root)
                gain = float(0.5 * move @ move + 0.25 * np.sum((precision - 1) ** 2))
                if new_elbo >= elbo - 1e-3 * max(1.0, rho) or rho < 0.02:
                    break
                rho /= 2
            if not np.isfinite(new_elbo):
                break
            mean, root, values, slopes, elbo = new_mean, new_root, new_values, new_slopes, new_elbo
            losses.append(-elbo)
            report(surface.evaluations, None, -elbo, "Fitting a Gaussian")
            if np.abs(root).max() > _WIDEST * widest or not np.all(np.isfinite(root)):
                break
            settled = len(losses) > 3 and losses[-4] - losses[-1] < _NO_GAIN
            if gain < _TOLERANCE * rho**2 or settled:
                return Fit(mean, root, elbo, gain, losses, converged=True)
            rho = min(1.0, 1.5 * rho)
    except KeyboardInterrupt:
        return Fit(mean, root, elbo, gain, losses, converged=False, interrupted=True)
    return Fit(mean, root, elbo, gain, losses, converged=False)


def _look(surface: Surface, mean: np.ndarray, root: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log joint at the draws, and its gradients with respect to u."""
    values, gradients = surface.log_joint_at(mean + u @ root.T)
    return values, gradients @ root


def _elbo(values: np.ndarray, root: np.ndarray) -> float:
    dim = len(root)
    mean = float(np.mean(values))
    return mean + float(np.linalg.slogdet(root)[1]) + 0.5 * dim * (1 + np.log(2 * np.pi))
