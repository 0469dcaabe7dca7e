"""The negative log joint as direct methods see it: a surface of float64 numbers on the host.

Everything that is linear algebra of the size of ``z`` happens in NumPy and in double precision, whatever precision the
model is computed in; only the model's own derivatives are compiled programs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Batch
from posterion.errors import OptionError
from posterion.methods.base import Problem
from posterion.methods.curvature import flatness_of
from posterion.objectives.bounds import LogJoint

_LARGEST_BLOCK = 256
_BLOCK_VALUES = 2**22
"""Points that one call evaluates, times values of the data: few enough for memory, enough to hide what a call costs."""
_MUCH_WORK = 2**27
"""Points times values of the data from which leaving gradients out saves more than compiling another program costs."""
_REFUSED = 1e300
"""Value that stands for one that is not finite: any line search steps back from it."""
_MEMORY = 4 * 2**30


class Surface:
    """Values, gradients and curvature of the negative log joint; counts what was asked for.

    Parameters
    ----------
    problem
        What the method was given.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, self.evaluations = problem, 0
        self._dtype = jnp.result_type(float)
        self._values = sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(problem.batch.data))
        most = _BLOCK_VALUES // max(self._values, problem.layout.size, 1)
        self._block = int(np.clip(2 ** int(np.log2(max(most, 1))), 4, _LARGEST_BLOCK))
        self.x64 = self._dtype == np.float64

    @property
    def size(self) -> int:
        """Dimension of ``z``."""
        return self._problem.layout.size

    @property
    def flatness(self) -> float:
        """Scaled curvature below which rounding cannot be told from none."""
        return flatness_of(double=self.x64)

    def value_and_gradient(self, z: Float[np.ndarray, " dim"]) -> tuple[float, Float[np.ndarray, " dim"]]:
        """At one point; a large value and no slope where either is not finite."""
        value, gradient, _ = self._derivatives(z, np.zeros(self.size))
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return _REFUSED, np.zeros_like(z)
        return value, gradient

    def value(self, z: Float[np.ndarray, " dim"]) -> float:
        """At one point; a large number where it is not finite."""
        return self.value_and_gradient(z)[0]

    def product(self, z: Float[np.ndarray, " dim"], direction: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """The Hessian at ``z`` times a direction."""
        return self._derivatives(z, direction)[2]

    def hessian(self, z: Float[np.ndarray, " dim"]) -> Float[np.ndarray, "dim dim"]:
        """The Hessian at ``z``, one product per column, made symmetric."""
        columns = [self.product(z, direction) for direction in np.eye(self.size)]
        matrix = np.stack(columns, axis=1) if columns else np.empty((0, 0))
        return (matrix + matrix.T) / 2

    def diagonal(self, z: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """The Hessian's diagonal at ``z``, by as many products as the Hessian takes."""
        found = np.empty(self.size)
        for d in range(self.size):
            direction = np.zeros(self.size)
            direction[d] = 1.0
            found[d] = self.product(z, direction)[d]
        return found

    def log_joint_at(
        self, points: Float[np.ndarray, "points dim"]
    ) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "points dim"]]:
        """The log joint, not negated, and its gradients at many points; non-finite values are left as they are."""
        program = self._problem.program("values and gradients", values_and_gradients(self._problem.log_joint))
        values, gradients = self._in_blocks(program, points, self._block)
        self.evaluations += len(points)
        return values, gradients

    def values_at(self, points: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, " points"]:
        """As `log_joint_at`, without gradients."""
        if len(points) * self._values < _MUCH_WORK:  # what computes gradients is there already
            return self.log_joint_at(points)[0]
        program = self._problem.program("values", values(self._problem.log_joint))
        [found] = self._in_blocks(program, points, self._block)
        self.evaluations += len(points)
        return found

    def log_joint_with_hessians_at(
        self, points: Float[np.ndarray, "points dim"]
    ) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "points dim"], Float[np.ndarray, "points dim dim"]]:
        """As `log_joint_at`, with the Hessians of the log joint; counts as ``dim`` evaluations more a point."""
        program = self._problem.program("values and Hessians", values_and_hessians(self._problem.log_joint))
        values, gradients, hessians = self._in_blocks(program, points, max(1, self._block // max(1, self.size)))
        self.evaluations += len(points) * (1 + self.size)
        return values, gradients, hessians

    def _in_blocks(self, program: Callable, points: np.ndarray, size: int) -> list[np.ndarray]:
        """What the program gives at all points, called with ``size`` of them at a time."""
        found = []
        for first in range(0, len(points), size):
            block = points[first : first + size].astype(self._dtype)
            count = len(block)
            if count < size:
                block = np.concatenate([block, np.repeat(block[-1:], size - count, axis=0)])
            given = jax.device_get(program(block, self._problem.batch))
            found.append([np.asarray(part, np.float64)[:count] for part in given])
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _derivatives(self, z: np.ndarray, direction: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        self.evaluations += 1
        found = self._problem.derivatives(z.astype(self._dtype), direction.astype(self._dtype), self._problem.batch)
        value, gradient, product = found  # `jax.device_get` of the three takes as long as computing them may
        return float(value), np.asarray(gradient, np.float64), np.asarray(product, np.float64)


def values(log_joint: LogJoint) -> Callable:
    """``(points, batch) -> (values,)`` of the log joint."""

    def function(points: Float[Array, "points dim"], batch: Batch) -> tuple[Array]:
        return (jax.vmap(lambda z: log_joint(z, batch))(points),)

    return function


def values_and_gradients(log_joint: LogJoint) -> Callable:
    """``(points, batch) -> (values, gradients)`` of the log joint."""

    def function(points: Float[Array, "points dim"], batch: Batch) -> tuple[Array, Array]:
        return jax.vmap(jax.value_and_grad(lambda z: log_joint(z, batch)))(points)

    return function


def values_and_hessians(log_joint: LogJoint) -> Callable:
    """``(points, batch) -> (values, gradients, Hessians)`` of the log joint; forward over reverse."""

    def one(z: Float[Array, " dim"], batch: Batch) -> tuple[Array, Array, Array]:
        both = lambda z: jax.value_and_grad(lambda z: log_joint(z, batch))(z)
        (value, gradient), products = jax.linearize(both, z)
        return value, gradient, jax.vmap(lambda direction: products(direction)[1])(jnp.eye(z.size, dtype=z.dtype))

    def function(points: Float[Array, "points dim"], batch: Batch) -> tuple[Array, Array, Array]:
        return jax.vmap(one, (0, None))(points, batch)

    return function


def check_memory(what: str, num_bytes: int, instead: str) -> None:
    """Refuse, before allocating, what does not fit.

    Raises
    ------
    OptionError
        If it takes more than four gibibytes; the message says how many bytes, and what to do instead.
    """
    if num_bytes > _MEMORY:
        raise OptionError(f"{what} would take {num_bytes:,} bytes ({num_bytes / 2**30:.1f} GiB); {instead}")
