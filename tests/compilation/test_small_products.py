"""Small matrix products written as sums: values and every kind of derivative are those of the product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.compilation.minor_axis import batch_minor
from posterion.compilation.minor_axis.products import is_small
from posterion.compilation.minor_axis.small_products import small_product

RNG = np.random.default_rng(0)
with jax.enable_x64(True):
    LEFT, RIGHT = jnp.asarray(RNG.standard_normal((3, 4))), jnp.asarray(RNG.standard_normal((3, 11)))


def bumpy(product):
    return lambda left, right: jnp.sum(jnp.sin(product(left, right)) ** 2)


def plain(left, right):
    return left.T @ right


@pytest.mark.parametrize(
    "derive",
    [
        lambda f: f,
        lambda f: jax.grad(f, (0, 1)),
        lambda f: jax.hessian(f, (0, 1)),
        lambda f: jax.jacfwd(jax.jacfwd(f, 1), 0),
        lambda f: jax.jit(jax.grad(lambda a, b: jnp.sum(jax.grad(f)(a, b) ** 3), 1)),
    ],
    ids=["value", "gradient", "hessian", "forward-forward", "reverse-reverse"],
)
def test_derivatives_of_every_kind_are_those_of_the_product(derive):
    with jax.enable_x64(True):
        found, expected = derive(bumpy(small_product))(LEFT, RIGHT), derive(bumpy(plain))(LEFT, RIGHT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_several_at_once(axes):
    with jax.enable_x64(True):
        several = lambda x, axis: x if axis is None else jnp.asarray(RNG.standard_normal((5, *x.shape)))
        left, right = several(LEFT, axes[0]), several(RIGHT, axes[1])
        for f in (lambda p: p, lambda p: jax.grad(bumpy(p), (0, 1))):
            found = jax.vmap(f(small_product), axes)(left, right)
            expected = jax.vmap(f(plain), axes)(left, right)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


def layers(x, w):
    return jnp.tanh(jnp.tanh(x @ w) @ w.T)


@pytest.mark.parametrize(
    ("rows", "width", "small"), [(200, 5, True), (70, 16, True), (600, 5, False), (200, 32, False)]
)
def test_only_small_products_are_sums(rows, width, small):
    x, w = RNG.standard_normal((rows, 5)).astype("f4"), RNG.standard_normal((5, width)).astype("f4")
    equations = jax.make_jaxpr(batch_minor(layers))(x, w).eqns
    assert any(equation.primitive.name == "small_product" for equation in equations) == small
    assert is_small(5, width, rows) == small
    np.testing.assert_allclose(batch_minor(layers)(x, w), layers(x, w), rtol=2e-6, atol=2e-6)


def test_a_single_column_is_not():
    x, w = RNG.standard_normal((200, 5)).astype("f4"), RNG.standard_normal((5, 1)).astype("f4")
    names = [e.primitive.name for e in jax.make_jaxpr(batch_minor(lambda x, w: jnp.tanh(x @ w)))(x, w).eqns]
    assert "dot_general" in names
    assert "small_product" not in names
