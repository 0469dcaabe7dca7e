r"""The generalised Gauss-Newton curvature of a network, in blocks of rows and bounded memory.

With :math:`J_n` the Jacobian of row n's output by the weights and :math:`\Lambda_n` the negative second derivative of
its log likelihood by the output,

.. math:: H = \sum_n J_n^\top \Lambda_n J_n + P, \qquad P = -\nabla^2_w \log p(w \mid h)

which is the exact curvature of the network's tangent (`posterion.target.linearised`).

References
----------
Immer, Bauer, Fortuin, Rätsch and Khan (2021), Scalable marginal likelihood estimation for model selection in deep
learning. ICML.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data
from posterion.target import AbstractNetworkTarget

_BLOCK_VALUES = 1 << 23
"""Entries of the Jacobians that are held at a time."""


class Rows:
    """A network's rows in blocks of equal length, the last one padded with rows that weigh nothing.

    Parameters
    ----------
    target
        The network.
    data
        By slot, rows on ``Slot.row_axis``.
    indices
        Entries of ``z`` that the Jacobian is taken by.

    Attributes
    ----------
    blocks
        Data with two axes in front, (blocks, rows of a block), and one weight per row.
    """

    def __init__(self, target: AbstractNetworkTarget, data: Mapping[str, Array], indices: np.ndarray) -> None:
        self._target, self._indices = target, indices
        z = jax.ShapeDtypeStruct((target.layout.size,), jnp.result_type(float))
        self._forms = jax.eval_shape(target.output, z, dict(data))
        self.num_rows = next(iter(self._forms.values())).shape[0]
        self.outputs = sum(int(np.prod(form.shape[1:])) for form in self._forms.values())
        size = max(1, min(self.num_rows, 4096, _BLOCK_VALUES // max(1, len(indices) * self.outputs)))
        count = -(-self.num_rows // size)
        self.blocks = (
            {name: self._cut(name, np.asarray(value), count, size) for name, value in data.items()},
            np.concatenate([np.ones(self.num_rows), np.zeros(count * size - self.num_rows)])
            .reshape(count, size)
            .astype(jnp.result_type(float)),
        )

    def _cut(self, name: str, value: np.ndarray, count: int, size: int) -> np.ndarray:
        rows = np.moveaxis(value, self._target.slots[name].row_axis or 0, 0)
        padding = np.repeat(rows[-1:], count * size - len(rows), axis=0)
        return np.concatenate([rows, padding]).reshape(count, size, *rows.shape[1:])

    # ---- of one row
    def _one(self, row: Data) -> dict[str, Array]:
        return {name: jnp.expand_dims(value, self._target.slots[name].row_axis or 0) for name, value in row.items()}

    def output_of(self, z: Array, row: Data) -> Array:
        """All outputs of a row, flat."""
        return jnp.concatenate([jnp.ravel(head) for head in self._target.output(z, self._one(row)).values()])

    def log_likelihood_of(self, flat: Array, z: Array, row: Data) -> Array:
        """Of a row, given its flat outputs."""
        heads, at = {}, 0
        for name, form in self._forms.items():
            size = int(np.prod(form.shape[1:]))
            heads[name] = flat[at : at + size].reshape(1, *form.shape[1:])
            at += size
        return sum(jnp.sum(rows) for rows in self._target.log_likelihood(z, heads, self._one(row)).values())  # type: ignore[return-value]

    def _jacobian(self, z: Array, row: Data) -> tuple[Array, Array]:
        """The output and its Jacobian by the entries at the indices."""
        chosen = z[self._indices]
        within = lambda part: self.output_of(z.at[self._indices].set(part), row)
        return within(chosen), jax.jacrev(within)(chosen)

    def features(self, of_first_output: np.ndarray) -> Callable[[Array, Data], Array]:
        """``(z, row) -> `` the first output's slopes by some of the weights: the inputs of a dense last layer."""
        at = self._indices[of_first_output]
        return lambda z, row: jax.grad(lambda part: self.output_of(z.at[at].set(part), row)[0])(z[at])

    def output_precision(self, z: Array, row: Data) -> Array:
        """Lambda of a row."""
        return self._precision(self.output_of(z, row), z, row)

    def some_jacobians(self, z: Float[np.ndarray, " dim"], rows: int = 16) -> Float[np.ndarray, "rows outputs free"]:
        """Jacobians of the first few rows."""
        few = {name: value[0, :rows] for name, value in self.blocks[0].items()}
        one = lambda z, row: self._jacobian(z, row)[1]
        return np.asarray(jax.jit(jax.vmap(one, (None, 0)))(z.astype(jnp.result_type(float)), few), np.float64)

    def _precision(self, flat: Array, z: Array, row: Data) -> Array:
        """Negative second derivative of a row's log likelihood by its output, without directions of the wrong sign."""
        matrix = -jax.hessian(self.log_likelihood_of)(flat, z, row)
        if self.outputs == 1:
            return jnp.maximum(matrix, 0.0)
        values, vectors = jnp.linalg.eigh(matrix)
        return (vectors * jnp.maximum(values, 0.0)) @ vectors.T

    def depend_on(self, hyper: np.ndarray, z: Float[np.ndarray, " dim"]) -> bool:
        """Whether the likelihood, or the prior of the weights at the indices, changes with some hyperparameters."""
        row = {name: value[0, 0] for name, value in self.blocks[0].items()}

        def changes(z: Array) -> tuple[Array, Array]:
            return self.prior_precision(z), self.log_likelihood_of(self.output_of(z, row), z, row)

        dtype = jnp.result_type(float)
        moved = z.copy()
        moved[hyper] += 0.3
        program = jax.jit(changes)
        here, there = (jax.device_get(program(at.astype(dtype))) for at in (z, moved))
        return any(not np.array_equal(one, other) for one, other in zip(here, there, strict=True))

    # ---- of all rows: functions to compile
    def curvature(self, *, full: bool) -> Callable:
        """``(z, blocks) -> sum_n J' Lambda J``, the matrix or its diagonal."""

        def of_block(z: Array, data: Data, weight: Array) -> Array:
            def of_row(row: Data, weight: Array) -> tuple[Array, Array]:
                output, jacobian = self._jacobian(z, row)
                return jacobian, weight * self._precision(output, z, row)

            jacobian, precision = jax.vmap(of_row)(data, weight)
            turned = jnp.einsum("nfg,ngd->nfd", precision, jacobian)
            if not full:
                return jnp.sum(jacobian * turned, axis=(0, 1))
            flat = lambda x: x.reshape(-1, x.shape[-1])
            return flat(jacobian).T @ flat(turned)

        def function(z: Array, blocks: Any) -> Array:
            size = len(self._indices)
            zero = jnp.zeros((size, size) if full else (size,), z.dtype)
            return jax.lax.scan(lambda total, block: (total + of_block(z, *block), None), zero, blocks)[0]

        return function

    def spread(self, *, full: bool) -> Callable:
        """``(z, covariance, blocks) -> (outputs, J covariance J')`` of every row; the covariance or its diagonal."""

        def function(z: Array, covariance: Array, blocks: Any) -> tuple[Array, Array]:
            def of_row(row: Data) -> tuple[Array, Array]:
                output, jacobian = self._jacobian(z, row)
                moved = jacobian @ covariance if full else jacobian * covariance
                return output, moved @ jacobian.T

            outputs, spreads = jax.lax.map(lambda block: jax.vmap(of_row)(block[0]), blocks)
            return (
                outputs.reshape(-1, self.outputs)[: self.num_rows],
                spreads.reshape(-1, self.outputs, self.outputs)[: self.num_rows],
            )

        return function

    def expected(self, hyper: np.ndarray) -> Callable:
        r"""``(h, z, variances, outputs, spreads, blocks) -> E_q[log p(y, w, h)]`` to second order, over weights only.

        .. math:: \log p(w, h) - \tfrac12 \sum_d \sigma_d^2 P_d(h) + \sum_n \left[ \log p(y_n \mid f_n, h)
            + \tfrac12 \mathrm{tr}(V_n \nabla_f^2 \log p(y_n \mid f_n, h)) \right]
        """

        def function(h: Array, z: Array, variances: Array, outputs: Array, spreads: Array, blocks: Any) -> Array:
            z = z.at[hyper].set(h)
            total = self._target.log_prior(z) - 0.5 * jnp.sum(variances * self.prior_precision(z))

            def of_row(output: Array, spread: Array, row: Data) -> Array:
                value = self.log_likelihood_of(output, z, row)
                return value + 0.5 * jnp.sum(spread * jax.hessian(self.log_likelihood_of)(output, z, row))

            data = {name: x.reshape(-1, *x.shape[2:])[: self.num_rows] for name, x in blocks[0].items()}
            return total + jnp.sum(jax.vmap(of_row)(outputs, spreads, data))

        return function

    def prior_precision(self, z: Float[Array, " dim"]) -> Float[Array, " free"]:
        """P: how the prior curves along each entry at the indices, given all others."""
        direction = jnp.zeros_like(z).at[self._indices].set(1.0)
        return -jax.jvp(jax.grad(self._target.log_prior), (z,), (direction,))[1][self._indices]
