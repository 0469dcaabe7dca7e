r"""Gaussians from the inverse Hessian that L-BFGS estimates along its path.

With a diagonal :math:`\alpha` and the last J steps s and gradient changes y, the estimate is

.. math:: H^{-1} \approx \mathrm{diag}(\alpha) + \beta \gamma \beta^\top

[1]_, eqs. 6-8 of [2]_. In the units of :math:`\sqrt\alpha` it is the identity but for 2 J directions, so
draws and densities take time and memory proportional to dim * J, and no matrix of size dim is formed.

References
----------
.. [1] Byrd, Nocedal and Schnabel (1994), Representations of quasi-Newton matrices and their use in limited memory
   methods. Mathematical Programming 63.
.. [2] Zhang, Carpenter, Gelman and Vehtari (2022), Pathfinder: parallel quasi-Newton variational inference. JMLR
   23(306).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_CURVATURE = 1e-12
"""Of y's over |y|^2 from which a step is used to estimate curvature."""


@dataclass(frozen=True)
class PathGaussian:
    """A Gaussian whose covariance is ``sqrt(alpha) (I + Q (L Lᵀ - I) Qᵀ) sqrt(alpha)``.

    Parameters
    ----------
    mean
        Its mean.
    root_alpha
        Square root of the diagonal part.
    basis
        Q, orthonormal columns.
    factor
        L, lower triangular.
    """

    mean: Float[np.ndarray, " dim"]
    root_alpha: Float[np.ndarray, " dim"]
    basis: Float[np.ndarray, "dim rank"]
    factor: Float[np.ndarray, "rank rank"]

    def draws(self, noise: Float[np.ndarray, "draws dim"]) -> Float[np.ndarray, "draws dim"]:
        """Turn standard normals into draws."""
        inside = noise @ self.basis
        return self.mean + self.root_alpha * (noise + (inside @ self.factor.T - inside) @ self.basis.T)

    def log_density(self, points: Float[np.ndarray, "draws dim"]) -> Float[np.ndarray, " draws"]:
        """Log density, normalised."""
        from scipy.linalg import solve_triangular

        scaled = (points - self.mean) / self.root_alpha
        inside = scaled @ self.basis
        solved = solve_triangular(self.factor, inside.T, lower=True).T
        square = np.sum(scaled**2, axis=1) - np.sum(inside**2, axis=1) + np.sum(solved**2, axis=1)
        log_volume = np.sum(np.log(self.root_alpha)) + np.sum(np.log(np.diag(self.factor)))
        return -0.5 * square - log_volume - 0.5 * len(self.mean) * np.log(2 * np.pi)

    def affine(self, shift: Float[np.ndarray, " dim"], scale: Float[np.ndarray, " dim"]) -> "PathGaussian":
        """The Gaussian of ``shift + scale * z``."""
        return PathGaussian(shift + scale * self.mean, scale * self.root_alpha, self.basis, self.factor)


def next_alpha(
    alpha: Float[np.ndarray, " dim"], step: Float[np.ndarray, " dim"], change: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " dim"]:
    """The diagonal after one more step (Gilbert and Lemaréchal 1989; algorithm 3 of Zhang et al.)."""
    a, b, c = change @ (alpha * change), change @ step, step @ (step / alpha)
    return 1 / (a / (b * alpha) + change**2 / b - a * step**2 / (b * c * alpha**2))


def usable(step: Float[np.ndarray, " dim"], change: Float[np.ndarray, " dim"]) -> bool:
    """Whether a step tells of positive curvature."""
    return bool(step @ change > _CURVATURE * (change @ change))


def gaussian_at(
    point: Float[np.ndarray, " dim"],
    gradient: Float[np.ndarray, " dim"],
    alpha: Float[np.ndarray, " dim"],
    steps: list[np.ndarray],
    changes: list[np.ndarray],
) -> PathGaussian | None:
    """The Gaussian at one point of the path, or None if rounding left no positive covariance.

    Parameters
    ----------
    point, gradient
        Where, and the gradient of the *negative* log joint there.
    alpha
        The diagonal.
    steps, changes
        Of the last points of the path, and of the gradient over them; oldest first.
    """
    from scipy.linalg import solve_triangular

    if not (np.all(np.isfinite(alpha)) and np.all(alpha > 0)):
        return None
    root = np.sqrt(alpha)
    if not steps:
        return PathGaussian(point - alpha * gradient, root, np.empty((len(point), 0)), np.empty((0, 0)))
    s, y = np.stack(steps, axis=1), np.stack(changes, axis=1)
    products = s.T @ y
    upper = np.triu(products)
    if np.any(np.diag(upper) == 0):
        return None
    inverse = solve_triangular(upper, np.eye(len(upper)))
    middle = inverse.T @ (np.diag(np.diag(products)) + y.T @ (alpha[:, None] * y)) @ inverse
    zero = np.zeros_like(middle)
    gamma = np.block([[zero, -inverse], [-inverse.T, middle]])
    beta = np.concatenate([root[:, None] * y, s / root[:, None]], axis=1)  # in units of root
    basis, triangle = np.linalg.qr(beta)
    inner = np.eye(len(triangle)) + triangle @ gamma @ triangle.T
    try:
        factor = np.linalg.cholesky((inner + inner.T) / 2)
    except np.linalg.LinAlgError:
        return None
    scaled = root * gradient
    mean = point - root * (scaled + beta @ (gamma @ (beta.T @ scaled)))
    return PathGaussian(mean, root, basis, factor)
