r"""A short look at a posterior, for `Auto`: how much wider it is somewhere than independent normals can be.

Some fifty steps of L-BFGS lead near a mode. There, with H the second derivatives of the negative log joint and D their
diagonal, independent normals follow the scaled curvature :math:`S = D^{-1/2} H D^{-1/2}` as if it were the identity.
Its smallest eigenvalue says what they miss: along that direction the posterior is :math:`1 / \sqrt{\lambda}` times as
wide as they are. Lanczos iterations find it from Hessian-vector products, and random signs estimate the diagonal [1]_,
so that nothing of size dim squared is formed.

References
----------
.. [1] Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix. Applied Numerical Mathematics 57.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Batch
from posterion.methods.starts import objective, one_blas_thread

_ITERATIONS = 50
_SIGNS = 32
_LANCZOS = 40
_ACCURACY = 0.05


def missed_width(program: Callable, initial: Float[np.ndarray, " dim"], batch: Batch, seed: int) -> float:
    """How many times as wide as the best independent normals the posterior is along its worst direction.

    Parameters
    ----------
    program
        `starts.derivatives`, compiled.
    initial
        Where the search for a mode begins.
    batch
        All rows, or a sample of them.
    seed
        Of the random signs.

    Returns
    -------
    float
        1 for independent variables, more for correlated ones; NaN where the curvature near the mode is not positive
        or not finite, and says nothing.
    """
    from scipy.optimize import minimize  # a third of a second to import

    dtype, dim = jnp.result_type(float), initial.size
    random = np.random.default_rng(seed)
    with one_blas_thread():
        found = minimize(
            objective(program, batch), initial, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
        )
        at = found.x.astype(dtype)
        product = lambda v: np.asarray(program(at, v.astype(dtype), batch)[2], np.float64)
        signs = random.choice([-1.0, 1.0], size=(_SIGNS, dim))
        diagonal = np.mean([sign * product(sign) for sign in signs], axis=0)
        if not (np.all(np.isfinite(diagonal)) and np.all(diagonal > 0)):
            return float("nan")
        scale = 1 / np.sqrt(diagonal)
        smallest = _smallest_eigenvalue(lambda v: scale * product(scale * v), random.standard_normal(dim))
    return float(1 / np.sqrt(smallest)) if smallest > 0 else float("nan")


def _smallest_eigenvalue(product: Callable[[np.ndarray], np.ndarray], first: np.ndarray) -> float:
    """Of a symmetric matrix by Lanczos iterations, to a few percent; NaN if a product is not finite."""
    vectors = [first / np.linalg.norm(first)]
    diagonal: list[float] = []
    beside: list[float] = []
    smallest = np.inf
    for _ in range(min(_LANCZOS, first.size)):
        image = product(vectors[-1])
        if not np.all(np.isfinite(image)):
            return float("nan")
        diagonal.append(float(vectors[-1] @ image))
        basis = np.stack(vectors)
        image = image - basis.T @ (basis @ image)
        image = image - basis.T @ (basis @ image)  # once more, against rounding
        length, before = float(np.linalg.norm(image)), smallest
        smallest = float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))[0])
        if length < 1e-10 or (len(diagonal) > 10 and abs(before - smallest) < _ACCURACY * 0.1 * abs(smallest)):
            break
        beside.append(length)
        vectors.append(image / length)
    return smallest
