"""The batch-minor pass on programs nobody wrote: random chains of operations on operands held in random orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from posterion.compilation.minor_axis import Packed, batch_minor, unpack

LENGTHS = (1, 2, 3, 4, 12, 24)


def random_shape(rng, size):
    """Axes whose product is ``size``, with some of length 1 among them."""
    shape = []
    while size > 1 and rng.random() < 0.8:
        shape.append(int(rng.choice([divisor for divisor in range(1, size + 1) if size % divisor == 0])))
        size //= shape[-1]
    return (*shape, size)


def vector_along(rng, x, axis):
    shape = [length if k == axis else 1 for k, length in enumerate(x.shape)]
    return jnp.asarray(rng.normal(size=shape), x.dtype)


OPERATIONS = (
    lambda rng, x, axis: x.transpose(rng.permutation(x.ndim)),
    lambda rng, x, axis: x.reshape(random_shape(rng, x.size)),
    lambda rng, x, axis: jnp.sum(x, axis=axis, keepdims=bool(rng.random() < 0.5)),
    lambda rng, x, axis: jnp.max(x, axis=axis),
    lambda rng, x, axis: jnp.expand_dims(x, int(rng.integers(x.ndim + 1))),
    lambda rng, x, axis: jnp.tanh(x),
    lambda rng, x, axis: jax.nn.softplus(x),
    lambda rng, x, axis: x * vector_along(rng, x, axis),
    lambda rng, x, axis: jnp.flip(x, axis),
    lambda rng, x, axis: jnp.cumsum(x, axis=axis),
    lambda rng, x, axis: jnp.concatenate([x, 2 * x], axis=axis),
    lambda rng, x, axis: jnp.stack([x, -x], axis=int(rng.integers(x.ndim + 1))),
    lambda rng, x, axis: x @ jnp.asarray(rng.normal(size=(x.shape[-1], int(rng.integers(1, 4)))), x.dtype),
    lambda rng, x, axis: jnp.broadcast_to(x[None], (int(rng.integers(1, 3)), *x.shape)),
    lambda rng, x, axis: lax.slice_in_dim(x, 0, max(1, x.shape[axis] - 1), axis=axis),
)


def random_program(seed):
    """A function of a list of arrays that combines them in twelve random steps."""

    def program(arrays):
        rng = np.random.default_rng(seed)
        pool = list(arrays)
        for _ in range(12):
            x = pool[rng.integers(len(pool))]
            operation = OPERATIONS[rng.integers(len(OPERATIONS))]
            if 0 < x.ndim and x.size <= 400:
                result = operation(rng, x, int(rng.integers(x.ndim)))
                partners = [other for other in pool if other.shape == result.shape]
                pool.append(result + 0.5 * partners[0] if partners else result)
        return sum(jnp.sum(jnp.sin(x)) for x in pool), pool

    return program


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(15))
def test_random_programs_keep_their_values_and_gradients(seed):
    rng = np.random.default_rng(1000 + seed)
    shapes = [rng.choice(LENGTHS, size=rng.integers(1, 4)) for _ in range(3)]
    arrays = [jnp.asarray(rng.normal(size=shape), "float32") for shape in shapes]
    orders = [tuple(int(axis) for axis in rng.permutation(x.ndim)) for x in arrays]
    packed = [Packed(jnp.transpose(x, order), order) for x, order in zip(arrays, orders, strict=True)]
    program = random_program(seed)
    wrapped = batch_minor(program)
    expected = jax.jit(jax.value_and_grad(program, has_aux=True))(arrays)
    found = unpack(jax.jit(jax.value_and_grad(wrapped, has_aux=True))(packed))
    assert wrapped.statistics.refused == ""
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        # Twelve steps without a normalisation: rounding grows with the entries, so it is compared with the largest.
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * max(1e-3, np.max(np.abs(wanted))))
