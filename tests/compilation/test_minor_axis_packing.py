"""Data stored with their rows last: what is packed, and that it passes through JAX like the array it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from posterion.compilation.minor_axis import Packed, batch_minor, pack, stacked, unpack
from posterion.errors import OptionError
from tests.compilation.minor_axis_cases import CASES, data, parameters

X = np.arange(120.0, dtype="float32").reshape(40, 3)


def log_density(z, data):
    return jnp.sum(jnp.tanh(data["x"] @ z.reshape(3, 5)) * data["y"][:, None])


def test_packed_knows_the_array_it_stands_for():
    packed = pack(X)
    assert isinstance(packed, Packed)
    assert packed.stored.shape == (3, 40)
    assert (packed.shape, packed.ndim, packed.dtype) == (X.shape, 2, X.dtype)
    np.testing.assert_array_equal(packed.value, X)
    np.testing.assert_array_equal(unpack({"x": [packed, 1]})["x"][0], X)


@pytest.mark.parametrize(
    ("shape", "packed"),
    [((40,), False), ((40, 3), True), ((12, 3), True), ((11, 3), False), ((4096, 512), False), ((2044, 511), True)],
)
def test_axis_0_is_taken_for_rows_if_it_is_long(shape, packed):
    assert isinstance(pack(np.zeros(shape, "float32")), Packed) == packed


@pytest.mark.parametrize(
    ("shape", "axis", "order"),
    [
        ((6, 3), 0, (1, 0)),
        ((6, 300), 0, (1, 0)),
        ((6, 512), 0, None),
        ((3, 6), 1, None),
        ((3, 6), -1, None),
        ((2, 6, 3), 1, (0, 2, 1)),
        ((6, 2, 3), 0, (1, 2, 0)),
        ((6, 3), None, None),
        ((6,), 0, None),
    ],
)
def test_rows_are_where_the_caller_says(shape, axis, order):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    result = pack({"x": x, "other": x}, {"x": axis})
    assert result["other"] is x
    if order is None:
        assert result["x"] is x
    else:
        assert result["x"].order == order
        np.testing.assert_array_equal(result["x"].stored, x.transpose(order))


def test_a_row_axis_that_is_not_there_is_named():
    with pytest.raises(OptionError, match=r"'x' has shape \(40, 3\) and no axis 2"):
        pack({"x": X}, {"x": 2})
    with pytest.raises(OptionError, match="list"):
        pack([X], {"x": 0})


def test_whatever_is_no_array_of_numbers_is_left_alone():
    tree = {"keys": jax.random.split(jax.random.key(0), (40, 2)), "text": np.full((40, 2), "a"), "none": None, "n": 3}
    for packed in (pack(tree), pack(tree, dict.fromkeys(tree, 0))):
        assert all(packed[name] is tree[name] for name in tree)


@pytest.mark.parametrize("dtype", ["int32", "bool", "float16"])
def test_types_are_kept(dtype):
    x = (X > 50).astype(dtype)
    assert pack(x).dtype == dtype
    np.testing.assert_array_equal(pack(x).value, x)


def test_packing_twice_changes_nothing_and_works_on_device_arrays_and_under_jit():
    once = pack(jnp.asarray(X))
    assert pack(once) is once
    again = jax.jit(lambda x: pack({"x": x}, {"x": 0}))(X)["x"]
    assert again.order == once.order
    np.testing.assert_array_equal(again.stored, once.stored)


def test_double_precision_follows_the_precision_in_force():
    with jax.enable_x64(True):
        assert pack(X.astype("float64")).dtype == "float64"
    assert pack(X.astype("float64")).dtype == "float32"


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_batches_are_stacked_as_each_would_be_packed(axis):
    batches = np.random.default_rng(1).normal(size=(4, 6, 5, 7)).astype("float32")
    found = stacked(batches, axis, 6)
    for k in range(4):
        alone = pack({"x": np.moveaxis(batches[k], 0, axis)}, {"x": axis})["x"]
        assert isinstance(found, Packed) == isinstance(alone, Packed)
        if isinstance(alone, Packed):
            assert (found.order, found.shape) == (alone.order, (6, *alone.shape))
            np.testing.assert_array_equal(found.stored[k], alone.stored)
        else:
            np.testing.assert_array_equal(found[k], alone)


def test_batches_of_wide_rows_are_left_as_they_are():
    wide = np.ones((2, 3, 600), "float32")
    assert stacked(wide, 0, 2).shape == wide.shape
    assert stacked(wide[:, :, 0], 0, 2).shape == (2, 3)


@pytest.fixture(scope="module")
def model():
    values = {"x": X / 100, "y": np.linspace(-1, 1, 40, dtype="float32")}
    return jnp.linspace(-1, 1, 15), values, pack(values, {"x": 0, "y": 0})


def test_packed_is_an_argument_of_jit_grad_and_vmap(model):
    z, values, packed = model
    wrapped = batch_minor(log_density)
    expected = jax.value_and_grad(log_density)(z, values)
    found = jax.jit(jax.value_and_grad(wrapped))(z, packed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), found, expected)
    many = jnp.stack([z, -z])
    np.testing.assert_allclose(
        jax.vmap(wrapped, (0, None))(many, packed), jax.vmap(log_density, (0, None))(many, values), rtol=1e-5, atol=1e-5
    )


def test_gradient_with_respect_to_packed_data_is_packed(model):
    z, values, packed = model
    found = jax.grad(batch_minor(log_density), argnums=1)(z, packed)
    assert isinstance(found["x"], Packed)
    np.testing.assert_allclose(found["x"].value, jax.grad(log_density, argnums=1)(z, values)["x"], rtol=1e-5, atol=1e-6)


def test_batches_stacked_on_the_host_for_a_scan(model):
    z, values, _ = model
    indices = np.random.default_rng(3).integers(0, 40, (7, 24))
    plain = {name: leaf[indices] for name, leaf in values.items()}
    wrapped = batch_minor(log_density)

    def last(function, batches):
        step = lambda z, batch: (z + 0.01 * jax.grad(function)(z, batch), None)
        return jax.jit(lambda z, batches: lax.scan(step, z, batches)[0])(z, batches)

    found = last(wrapped, {name: stacked(leaf, 0, 7) for name, leaf in plain.items()})
    np.testing.assert_allclose(found, last(log_density, plain), rtol=1e-5, atol=1e-6)
    assert wrapped.statistics.flipped == 1


def test_batches_stacked_for_a_scan_or_a_vmap(model):
    z, values, _ = model
    pieces = [{name: leaf[rows] for name, leaf in values.items()} for rows in (slice(0, 20), slice(20, 40))]
    row_axes = {"x": 0, "y": 0}
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(pack(piece, row_axes) for piece in pieces))
    assert together["x"].shape == (2, 20, 3)
    np.testing.assert_array_equal(together["x"].value, np.stack([piece["x"] for piece in pieces]))
    wrapped = batch_minor(log_density)
    expected = [log_density(z, piece) for piece in pieces]
    np.testing.assert_allclose(jax.vmap(wrapped, (None, 0))(z, together), expected, rtol=1e-5, atol=1e-5)
    _, scanned = lax.scan(lambda carry, batch: (carry, wrapped(z, batch)), 0, together)
    np.testing.assert_allclose(scanned, expected, rtol=1e-5, atol=1e-5)
    assert wrapped.statistics.flipped == 1
    both = batch_minor(lambda z, data: jnp.sum(data["x"] @ z.reshape(3, 5)))(z, together)
    np.testing.assert_allclose(both, jnp.sum(together["x"].value @ z.reshape(3, 5)), rtol=1e-5)


def test_packed_is_carried_by_a_scan(model):
    z, _, packed = model

    def step(carry, _):
        return carry, batch_minor(log_density)(z, carry)

    carried, values = lax.scan(step, packed, None, length=2)
    assert isinstance(carried["x"], Packed)
    np.testing.assert_allclose(values[0], values[1])


def test_packed_data_of_another_length_need_only_another_trace():
    case = CASES["softmax_pick"]
    z, wrapped = parameters("float32"), jax.jit(batch_minor(case.function))
    for num_rows in (48, 31):
        values = data("float32", num_rows)
        found = wrapped(z, pack(values, dict.fromkeys(values, 0)))
        np.testing.assert_allclose(found, case.function(z, values), rtol=1e-5)
