r"""Where a fit starts: near the model's initial point, and whitened at the mode.

The whitened start finds a mode by L-BFGS, with some Newton steps where correlations are too strong for it, and measures
the curvature there; the method then works in coordinates

.. math:: u_d = (z_d - \hat z_d) \sqrt{-\partial^2 \log p / \partial z_d^2}

in which every entry has a posterior standard deviation near one, whatever units the author chose. On a regression
with raw columns that turns 112 nats off after 255,000 steps into 0.0 after 4,000; on a well-scaled network it costs a
thousand evaluations and changes nothing.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from threadpoolctl import ThreadpoolController

from posterion._typing import Array, Batch
from posterion.methods.curvature import Curvature, flatness_of, line_search
from posterion.methods.gaussian import triangular
from posterion.objectives.bounds import LogJoint

_ROUNDS_OF_LBFGS = 3
_ITERATIONS = 50
_NEWTON_STEPS = 20
_HALVINGS = 10
_NEWTON_DIMENSION = 300
_SETTLED = 1e-3
"""Nats that a Newton step would gain, below which L-BFGS has gone far enough."""
_LARGEST_DIMENSION = 1000
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-8, 1e8


_SMALLEST_EIGENVALUE = 1e-10


@dataclass(frozen=True)
class Whitening:
    """Coordinates of the whitened start: ``z = shift + scale * u``.

    Parameters
    ----------
    shift
        The mode.
    scale
        Per entry, one over the root of the curvature there.
    hessian
        Second derivatives of the negative log joint at the mode.
    """

    shift: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    hessian: Float[np.ndarray, "dim dim"]

    def factor(self) -> Float[np.ndarray, "dim dim"]:
        """Lower-triangular factor of the inverse Hessian: in its coordinates the posterior is not correlated either.

        Directions that curve the wrong way (a saddle, a flat prior) keep the scale of their entries.
        """
        curvature = self.hessian * np.outer(self.scale, self.scale)
        curvature = np.where(np.isfinite(curvature), curvature, 0.0)
        values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
        values = np.where(values > _SMALLEST_EIGENVALUE * max(values.max(initial=0.0), 1.0), values, 1.0)
        return self.scale[:, None] * triangular(vectors / np.sqrt(values))


def pays(dimension: int) -> bool:
    """Whether measuring the curvature is affordable: it takes one Hessian-vector product per entry of ``z``."""
    return dimension <= _LARGEST_DIMENSION


def derivatives(log_joint: LogJoint) -> Callable:
    """``(z, direction, batch) -> (value, gradient, Hessian times direction)`` of the negative log joint.

    One program serves the search for the mode and the curvature, because compiling costs more than running.
    """

    def all_three(
        z: Float[Array, " dim"], direction: Float[Array, " dim"], batch: Batch
    ) -> tuple[Float[Array, ""], Float[Array, " dim"], Float[Array, " dim"]]:
        negative = lambda z: -log_joint(z, batch)
        (value, gradient), (_, product) = jax.jvp(jax.value_and_grad(negative), (z,), (direction,))
        return value, gradient, product

    return all_three


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager:
    """Within, BLAS uses one thread: on a busy machine its threads wait for each other 100 times longer than they work.

    SciPy's L-BFGS calls BLAS on vectors of a few dozen entries, some thousand times.
    """
    return _threads().limit(limits=1, user_api="blas")


def hessian(program: Callable, z: Float[np.ndarray, " dim"], batch: Batch) -> Float[np.ndarray, "dim dim"]:
    """Second derivatives of the negative log joint at ``z``; ``program`` is `derivatives`, compiled."""
    at = z.astype(jnp.result_type(float))
    directions = np.eye(z.size, dtype=at.dtype)
    # None is waited for before the next is on its way.
    products = [program(at, direction, batch)[2] for direction in directions]
    return np.array([np.asarray(product) for product in products], np.float64).reshape(z.size, z.size)


def curvatures(program: Callable, z: Float[np.ndarray, " dim"], batch: Batch) -> Float[np.ndarray, " dim"]:
    """Second derivative of the negative log joint along each entry of ``z``; ``program`` is `derivatives`, compiled."""
    return np.diagonal(hessian(program, z, batch))


def well_scaled(curvature: Float[np.ndarray, " dim"]) -> bool:
    """Whether steps of the usual size suit every entry, so that whitening would change little.

    Posterior standard deviations, by the curvature, are between 0.03 and 10 wherever it curves the right way, and it
    does so in most directions. On the tutorial's network the search for a mode takes as long as 2,000 steps.
    """
    usable = curvature[np.isfinite(curvature) & (curvature > 0)]
    return bool(2 * usable.size > curvature.size and usable.min() > 1e-2 and usable.max() < 1e3)


def objective(program: Callable, batch: Batch) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Value and gradient as SciPy's L-BFGS asks for them, in double; ``program`` is `derivatives`, compiled."""
    dtype = jnp.result_type(float)

    def value_and_gradient(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, _ = program(z.astype(dtype), np.zeros(z.shape, dtype), batch)
        value, gradient = float(value), np.asarray(gradient, np.float64)
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return 1e300, np.zeros_like(z)  # the line search steps back
        return value, gradient

    return value_and_gradient


def whiten(program: Callable, initial: Float[np.ndarray, " dim"], batch: Batch) -> Whitening | None:
    """Mode and curvature near ``initial``, or None where no finite mode was found.

    Parameters
    ----------
    program
        `derivatives`, compiled.
    initial
        Where the search begins.
    batch
        All rows.
    """
    from scipy.optimize import minimize  # a third of a second to import

    value_and_gradient = objective(program, batch)
    z = np.asarray(initial, np.float64)
    previous = np.inf
    with one_blas_thread():
        for _ in range(_ROUNDS_OF_LBFGS):
            found = minimize(value_and_gradient, z, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
            z = found.x
            if not found.fun < previous - 1e-3:
                break
            previous = found.fun
    if not (np.all(np.isfinite(z)) and found.fun < 1e299):
        return None
    end = z, float(found.fun), np.asarray(found.jac, np.float64)
    z, second = _newton(program, value_and_gradient, end, batch)
    curvature = np.diagonal(second)
    # A direction that curves the wrong way (a saddle, a flat prior) says nothing of a scale: leave it at one.
    usable = np.isfinite(curvature) & (curvature > 1 / _LARGEST_SCALE**2)
    scale = np.where(usable, 1 / np.sqrt(np.where(usable, curvature, 1.0)), 1.0)
    return Whitening(z, np.clip(scale, _SMALLEST_SCALE, _LARGEST_SCALE), second)


def _newton(
    program: Callable,
    value_and_gradient: Callable,
    end: tuple[Float[np.ndarray, " dim"], float, Float[np.ndarray, " dim"]],
    batch: Batch,
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, "dim dim"]]:
    """From where L-BFGS ended (point, value, gradient), Newton steps as long as they gain; second derivatives there.

    Along a ridge L-BFGS ends where it started: on a regression on raw years 2.4 posterior standard deviations off, a
    length that steps suited to independent normals, of a few hundredths of it, do not make up for. Where the surface
    curves the wrong way (networks) the point stays where it is.
    """
    z, value, gradient = end
    second = hessian(program, z, batch)
    if z.size > _NEWTON_DIMENSION:
        return z, second
    flatness = flatness_of(double=jnp.result_type(float) == jnp.float64)
    for _ in range(_NEWTON_STEPS):
        if not np.all(np.isfinite(second)):
            break
        curvature = Curvature.of(second, flatness)
        # Along a ridge the way is thousands of the units of the entries; the search along the step holds it in check.
        step, decrement = curvature.newton_step(gradient, longest=np.inf)
        if curvature.has_negative or decrement < _SETTLED:
            break
        moved = line_search(value_and_gradient, z, value, -decrement, step, _HALVINGS)
        if moved is None:
            break
        z, value, gradient = moved
        second = hessian(program, z, batch)
    return z, second
