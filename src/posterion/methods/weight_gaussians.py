r"""Gaussians of a network's weights from its Gauss-Newton curvature: the whole of it, its diagonal, or two factors.

In units of the prior, whose precision P is diagonal, the precision is :math:`I + P^{-1/2} \sum_n J_n^\top \Lambda_n J_n
P^{-1/2}`, with eigenvalues of one and more whatever the scales.

A dense last layer has :math:`J_n = \phi_n^\top \otimes I` with :math:`\phi_n` its inputs (and 1 for a bias). Kronecker
factors replace the mean of a product by the product of means:

.. math:: \sum_n \phi_n \phi_n^\top \otimes \Lambda_n \approx
          \tfrac1N \Big(\sum_n \phi_n \phi_n^\top\Big) \otimes \Big(\sum_n \Lambda_n\Big),

exact where all rows have the same :math:`\Lambda` (Gaussian noise), and as cheap for K classes and k inputs as matrices
of k and K rows where the whole matrix has k K.

References
----------
Ritter, Botev and Barber (2018), A scalable Laplace approximation for neural networks. ICLR.
Daxberger et al. (2021), Laplace redux: effortless Bayesian deep learning. NeurIPS.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.errors import DegenerateError, OptionError
from posterion.methods.ggn import Rows

MakeProgram = Callable[[str, Callable], Callable]
"""``(name, function) -> compiled program``."""


class WeightGaussian(NamedTuple):
    """The spread of the weights around a mode.

    Parameters
    ----------
    covariance
        In the form that the shape's `spread` takes.
    variances
        Of each weight.
    root
        A matrix whose product with its transpose is the covariance; or standard deviations.
    log_det
        Of the precision.
    """

    covariance: PyTree
    variances: Float[np.ndarray, " free"]
    root: np.ndarray
    log_det: float

    def times(self, vector: Float[np.ndarray, " free"]) -> Float[np.ndarray, " free"]:
        """The covariance times a vector."""
        return self.root @ (self.root.T @ vector) if self.root.ndim == 2 else self.root**2 * vector


class AbstractShape(abc.ABC):
    """How much of the curvature is kept.

    Parameters
    ----------
    rows
        The network's rows.
    program
        Compiles and keeps.
    """

    kind: str

    def __init__(self, rows: Rows, program: MakeProgram) -> None:
        self._rows = rows
        self._curvature = program("curvature", self._curvature_of())
        self._spread = program("spread", self._spread_of())

    @abc.abstractmethod
    def _curvature_of(self) -> Callable:
        """``(z, blocks) -> curvature`` of the likelihood."""

    @abc.abstractmethod
    def _spread_of(self) -> Callable:
        """``(z, covariance, blocks) -> (outputs, covariance of the outputs)`` of every row."""

    @abc.abstractmethod
    def _gaussian(self, curvature: Any, prior: Float[np.ndarray, " free"]) -> WeightGaussian:
        """From the likelihood's curvature, in double precision, and the prior's."""

    def gaussian(self, z: np.ndarray, prior: Float[np.ndarray, " free"]) -> WeightGaussian:
        """At ``z``, given the precisions of the prior there.

        Raises
        ------
        DegenerateError
            If the curvature is not finite.
        """
        found = jax.device_get(self._curvature(z, self._rows.blocks))
        found = jax.tree.map(lambda x: np.asarray(x, np.float64), found)
        if not all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found)):
            raise DegenerateError("the curvature of the likelihood is not finite at the mode")
        return self._gaussian(found, prior)

    def spread(self, z: np.ndarray, gaussian: WeightGaussian) -> tuple[Any, Any]:
        """Outputs of every row, and their covariance."""
        return self._spread(z, jax.tree.map(lambda x: x.astype(z.dtype), gaussian.covariance), self._rows.blocks)


class Whole(AbstractShape):
    """The whole matrix."""

    kind = "full"

    def _curvature_of(self) -> Callable:
        return self._rows.curvature(full=True)

    def _spread_of(self) -> Callable:
        return self._rows.spread(full=True)

    def _gaussian(self, curvature: Any, prior: Float[np.ndarray, " free"]) -> WeightGaussian:
        from scipy.linalg import solve_triangular

        unit, eye = 1 / np.sqrt(prior), np.eye(len(prior))
        cholesky = np.linalg.cholesky((curvature + curvature.T) / 2 * unit * unit[:, None] + eye)
        root = unit[:, None] * solve_triangular(cholesky, eye, lower=True).T
        log_det = 2 * float(np.log(np.diag(cholesky)).sum()) + float(np.log(prior).sum())
        covariance = root @ root.T
        return WeightGaussian(covariance, np.diag(covariance), root, log_det)


class Diagonal(AbstractShape):
    """The diagonal alone."""

    kind = "diagonal"

    def _curvature_of(self) -> Callable:
        return self._rows.curvature(full=False)

    def _spread_of(self) -> Callable:
        return self._rows.spread(full=False)

    def _gaussian(self, curvature: Any, prior: Float[np.ndarray, " free"]) -> WeightGaussian:
        precision = np.maximum(curvature, 0.0) + prior
        return WeightGaussian(1 / precision, 1 / precision, 1 / np.sqrt(precision), float(np.log(precision).sum()))


class KroneckerFactors(AbstractShape):
    """A factor for the inputs of a dense last layer and one for its outputs.

    Parameters
    ----------
    rows, program
        As for all shapes.
    positions
        Of each input and output, shape (inputs, outputs), among the weights: `dense_layer` finds them.
    """

    kind = "Kronecker-factored"

    def __init__(self, rows: Rows, program: MakeProgram, positions: np.ndarray) -> None:
        self._positions = positions
        super().__init__(rows, program)

    def _curvature_of(self) -> Callable:
        inputs, outputs = self._positions.shape
        features, precision = self._rows.features(self._positions[:, 0]), self._rows.output_precision

        def of_block(z: Any, data: Any, weight: Any) -> tuple[Any, Any]:
            phi, curve = jax.vmap(lambda row: (features(z, row), precision(z, row)))(data)
            return phi.T @ (weight[:, None] * phi), jnp.einsum("n,nfg->fg", weight, curve)

        def function(z: Any, blocks: Any) -> tuple[Any, Any]:
            zero = jnp.zeros((inputs, inputs), z.dtype), jnp.zeros((outputs, outputs), z.dtype)
            add = lambda total, block: (jax.tree.map(jnp.add, total, of_block(z, *block)), None)
            return jax.lax.scan(add, zero, blocks)[0]

        return function

    def _spread_of(self) -> Callable:
        features, rows = self._rows.features(self._positions[:, 0]), self._rows

        def function(z: Any, covariance: Any, blocks: Any) -> tuple[Any, Any]:
            inputs, outputs, variances = covariance  # eigenvectors in units of the prior, and variances along them

            def of_row(row: Any) -> tuple[Any, Any]:
                along = (features(z, row) @ inputs) ** 2 @ variances
                return rows.output_of(z, row), (outputs * along) @ outputs.T

            found = jax.lax.map(lambda block: jax.vmap(of_row)(block[0]), blocks)
            return tuple(x.reshape(-1, *x.shape[2:])[: rows.num_rows] for x in found)  # type: ignore[return-value]

        return function

    def _gaussian(self, curvature: Any, prior: Float[np.ndarray, " free"]) -> WeightGaussian:
        by_place = prior[self._positions]
        if not np.allclose(by_place, by_place[:, :1], rtol=1e-6):
            raise OptionError(
                "Kronecker factors need a prior that is the same for all outputs of the last layer, and this one is "
                "not: use curvature='full' or 'diagonal'"
            )
        unit = 1 / np.sqrt(by_place[:, 0])
        factor, precision = curvature
        of_inputs, inputs = np.linalg.eigh((factor + factor.T) / 2 * unit * unit[:, None])
        of_outputs, outputs = np.linalg.eigh((precision + precision.T) / 2)
        inputs = unit[:, None] * inputs
        values = np.outer(np.maximum(of_inputs, 0.0), np.maximum(of_outputs, 0.0)) / self._rows.num_rows + 1
        root = np.empty((len(prior), len(prior)))
        root[self._positions.ravel()] = np.kron(inputs, outputs) / np.sqrt(values.ravel())
        log_det = float(np.log(values).sum() + np.log(prior).sum())
        return WeightGaussian((inputs, outputs, 1 / values), np.sum(root**2, axis=1), root, log_det)


def dense_layer(rows: Rows, sizes: Sequence[int], z: Float[np.ndarray, " dim"]) -> np.ndarray:
    """Which weight joins which input to which output, for rows whose weights are those of one dense layer.

    Told by what the weights do, since libraries differ in which axis is which: each moves one output alone.

    Parameters
    ----------
    rows
        The network's rows.
    sizes
        Of the variables that the weights are of, in their order.
    z
        A point in general position.

    Returns
    -------
    ndarray
        Positions among the weights, shape (inputs, outputs).

    Raises
    ------
    OptionError
        If they are no dense layer.
    """
    moves = np.abs(rows.some_jacobians(z)).max(axis=0)  # (outputs, weights)
    parts, start = [], 0
    for size in sizes:
        places = np.arange(start, start + size)
        start += size
        shapes = (
            [places.reshape(-1, rows.outputs), places.reshape(rows.outputs, -1).T] if not size % rows.outputs else []
        )
        parts += [shape for shape in shapes if _joins(moves, shape)][:1] or [None]
    if any(part is None for part in parts):
        raise OptionError(
            "curvature='kronecker' is of one dense last layer, and these weights are not that: use weights='last', or "
            "curvature='full' or 'diagonal'"
        )
    return np.concatenate(parts)


def _joins(moves: np.ndarray, positions: np.ndarray) -> bool:
    """Whether the weights of each output move that one alone."""
    others = 1 - np.eye(len(moves))
    return bool(np.all(np.einsum("fg,fig->", others, moves[:, positions]) <= 1e-6 * moves.max()))
