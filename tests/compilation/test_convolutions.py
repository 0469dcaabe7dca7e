"""Convolutions as products: the same numbers and slopes as XLA's, whatever strides, padding and layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from posterion.compilation.minor_axis import batch_minor, convolutions

RNG = np.random.default_rng(0)
CASES = {
    "plain": ((6, 7, 8, 3), (3, 2, 3, 4), {"window_strides": (1, 1), "padding": "VALID"}, ("NHWC", "HWIO", "NHWC")),
    "strides": ((6, 7, 8, 2), (3, 3, 2, 4), {"window_strides": (2, 3), "padding": "SAME"}, ("NHWC", "HWIO", "NHWC")),
    "channels first": (
        (5, 2, 6, 6),
        (4, 2, 3, 3),
        {"window_strides": (1, 2), "padding": ((1, 0), (2, 1))},
        ("NCHW", "OIHW", "NCHW"),
    ),
    "dilated": (
        (5, 9, 9, 1),
        (2, 3, 1, 2),
        {"window_strides": (1, 1), "padding": "VALID", "rhs_dilation": (2, 3)},
        ("NHWC", "HWIO", "NHWC"),
    ),
    "one dimension": ((9, 10, 2), (4, 2, 3), {"window_strides": (1,), "padding": "SAME"}, ("NWC", "WIO", "NCW")),
}


def pair(case):
    shape, kernel, options, layout = CASES[case]

    def function(kernel, image):
        return jnp.tanh(lax.conv_general_dilated(image, kernel, **options, dimension_numbers=layout))

    return function, RNG.normal(size=kernel), RNG.normal(size=shape)


@pytest.mark.parametrize("case", CASES)
def test_values_and_slopes_are_those_of_the_convolution(case):
    function, kernel, image = pair(case)
    with jax.enable_x64(True):
        turned = batch_minor(function)
        assert "conv_general_dilated" not in str(jax.make_jaxpr(turned)(kernel, image))
        np.testing.assert_allclose(jax.jit(turned)(kernel, image), function(kernel, image), rtol=1e-10, atol=1e-12)
        weights = RNG.normal(size=function(kernel, image).shape)
        total = lambda f: lambda k, x: jnp.sum(weights * f(k, x))
        found = jax.jit(jax.grad(total(turned), (0, 1)))(kernel, image)
        expected = jax.grad(total(function), (0, 1))(kernel, image)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("kind", ["max", "average", "overlapping"])
def test_pooling_is_that_of_flax(kind, padding):
    from flax import linen

    pool = linen.avg_pool if kind == "average" else linen.max_pool
    window, strides = ((3, 2), (1, 2)) if kind == "overlapping" else ((2, 2), (2, 2))
    convolve, kernel, image = pair("plain")
    function = lambda k, x: pool(convolve(k, x), window, strides=strides, padding=padding)
    with jax.enable_x64(True):
        turned = batch_minor(function)
        assert "reduce_window" not in str(jax.make_jaxpr(turned)(kernel, image))
        np.testing.assert_allclose(jax.jit(turned)(kernel, image), function(kernel, image), rtol=1e-10)
        slope = lambda f: jax.jit(jax.grad(lambda k: jnp.sum(f(k, image) ** 2)))(kernel)
        found, expected = slope(turned), slope(function)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_what_is_no_product_of_one_kernel_stays_a_convolution(monkeypatch):
    grouped = lambda k, x: lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
    )
    arrays = RNG.normal(size=(3, 3, 1, 4)).astype("f4"), RNG.normal(size=(5, 6, 6, 2)).astype("f4")
    assert "conv_general_dilated" in str(jax.make_jaxpr(batch_minor(grouped))(*arrays))
    np.testing.assert_allclose(batch_minor(grouped)(*arrays), grouped(*arrays), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(convolutions, "LARGEST", 10)  # copies that would not fit into memory
    function, kernel, image = pair("plain")
    assert "conv_general_dilated" in str(jax.make_jaxpr(batch_minor(function))(kernel, image))
