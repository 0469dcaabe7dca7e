"""The product of two small matrices as a sum of outer products, which XLA fuses with what comes before and after.

A call of XLA's matrix product costs about a microsecond however small it is, and nothing is fused across it. With a
handful of units that is most of a network's step: written as ``sum_k left[k, :, None] * right[k, None, :]``, a layer's
product, its bias and its tanh are one kernel over the rows. It is a primitive of its own so that its derivatives are
such sums too, where differentiating the sum itself would give slices and paddings; the derivative by the small operand,
a sum over all rows, stays a matrix product.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Float

from posterion._typing import Array


def small_product(left: Float[Array, "k h"], right: Float[Array, "k n"]) -> Float[Array, "h n"]:
    """``left.T @ right``."""
    return _small_product.bind(left, right)


def _product(left: Array, right: Array) -> Array:
    return lax.dot_general(left, right, (((0,), (0,)), ((), ())))


def _sum(left: Array, right: Array) -> Array:
    total = left[0][:, None] * right[0][None, :]
    for k in range(1, left.shape[0]):
        total = total + left[k][:, None] * right[k][None, :]
    return total


_small_product = Primitive("small_product")
_small_product.def_impl(jax.jit(_sum))
_small_product.def_abstract_eval(
    lambda left, right: ShapedArray((left.shape[1], right.shape[1]), jnp.result_type(left, right))
)
mlir.register_lowering(_small_product, mlir.lower_fun(_sum, multiple_results=False))
ad.defbilinear(
    _small_product,
    lambda cotangent, left, right: lax.dot_general(right, cotangent, (((1,), (1,)), ((), ()))),
    lambda cotangent, left, right: small_product(left.T, cotangent),
)
# Several products at once are no longer small.
batching.primitive_batchers[_small_product] = lambda operands, axes: (jax.vmap(_product, axes)(*operands), 0)
