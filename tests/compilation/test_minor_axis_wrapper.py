"""`batch_minor` from outside: same signature, same errors, same random draws, and a way out of everything."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.compilation.minor_axis import Statistics, batch_minor, jaxprs, pack, wrapper
from tests.compilation.minor_axis_cases import CASES, NUM_ROWS, data, parameters

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Z = jnp.linspace(-1, 1, 15)


def network(z, x):
    return jnp.sum(jnp.tanh(x @ z.reshape(3, 5)))


def test_arguments_and_results_of_any_shape_come_through():
    def function(weights, x, /, scale=1.0, *, power, label=None, options=None):
        h = jnp.tanh(x @ weights["w"]) * scale
        return {"hidden": h**power, "label": label, "count": 3, "pair": (h.sum(), None), "numpy": np.arange(2)}

    arguments = ({"w": Z.reshape(3, 5)}, pack(X))
    settings = {"scale": 2.0, "power": 2, "label": "text", "options": {"deep": [1, "two", None, min]}}
    wrapped = batch_minor(function)
    found, expected = wrapped(*arguments, **settings), function(arguments[0], X, **settings)
    assert wrapped.statistics == Statistics(dots=1, flipped=1)
    assert (found["label"], found["count"], found["pair"][1]) == ("text", 3, None)
    assert isinstance(found["numpy"], np.ndarray)
    np.testing.assert_allclose(found["hidden"], expected["hidden"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found["pair"][0], expected["pair"][0], rtol=1e-6)
    assert wrapped.__wrapped__ is function


def test_python_numbers_stay_python_numbers():
    """A count may be a shape, and a Python float must not decide the type of the result."""
    wrapped = batch_minor(lambda x, n, scale: jnp.ones((n, 1)) * scale * x.sum())
    found = wrapped(X.astype("float16"), 4, 0.5)
    assert wrapped.statistics.refused == ""
    assert (found.shape, found.dtype) == ((4, 1), jnp.promote_types("float16", "float32"))


def test_integers_booleans_and_scalars():
    def function(x, counts, mask, scale):
        picked = jnp.where(mask[:, None], x * counts[:, None], 0)
        return (picked @ jnp.ones((3, 2), x.dtype)).sum() * scale, counts.max(), mask.all(), (counts @ counts) // 2

    counts = jnp.arange(40)
    arguments = (jnp.arange(120).reshape(40, 3), counts, counts % 3 == 0, jnp.float32(0.5))
    wrapped = batch_minor(function)
    for found, expected in zip(wrapped(pack(arguments[0]), *arguments[1:]), function(*arguments), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert wrapped.statistics == Statistics(dots=2, flipped=1)


def test_arrays_without_entries():
    empty = np.zeros((0, 3), "float32")
    assert float(batch_minor(network)(Z, empty)) == 0.0
    np.testing.assert_array_equal(jax.grad(batch_minor(network))(Z, empty), jnp.zeros(15))


def test_random_keys_pass_through_and_draws_are_the_same():
    def dropout(z, x, key, row_keys):
        first, second = jax.random.split(key)
        h = jnp.tanh(x @ z.reshape(3, 5)) * jax.random.bernoulli(first, 0.7, (40, 5))
        h = h + jax.vmap(lambda k: jax.random.normal(k, (5,)))(row_keys) + jax.random.normal(second, h.shape)
        return h, jax.random.categorical(second, h), key, row_keys[::-1]

    key, row_keys = jax.random.key(7), jax.random.split(jax.random.key(8), 40)
    wrapped = batch_minor(dropout)
    found, expected = wrapped(Z, pack(X), key, row_keys), dropout(Z, X, key, row_keys)
    assert wrapped.statistics.flipped == 1
    assert wrapped.statistics.refused == ""
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])
    for found_key, expected_key in zip(found[2:], expected[2:], strict=True):
        np.testing.assert_array_equal(jax.random.key_data(found_key), jax.random.key_data(expected_key))


def test_closed_over_tracers_are_differentiated():
    def objective(log_scale, wrap):
        return jax.jit(lambda z: wrap(lambda z: jnp.exp(log_scale) * network(z, X))(z) ** 2)(Z)

    expected = jax.grad(objective)(0.3, lambda function: function)
    np.testing.assert_allclose(jax.grad(objective)(0.3, batch_minor), expected, rtol=1e-5)


def test_nested_wrapping_is_harmless():
    twice = batch_minor(batch_minor(network))
    np.testing.assert_allclose(twice(Z, pack(X)), network(Z, X), rtol=1e-5)


class OwnError(Exception):
    pass


def test_errors_of_the_function_come_through_as_they_are():
    @batch_minor
    def failing(x):
        raise OwnError("as it is")

    with pytest.raises(OwnError, match="^as it is$") as caught:
        failing(pack(X))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    with pytest.raises(TypeError, match="dot_general requires contracting dimensions"):
        batch_minor(lambda x: x @ jnp.ones(4))(pack(X))


def test_a_function_that_needs_concrete_values_is_called_untouched(caplog):
    def function(x):
        return x.sum() if float(x[0, 0]) > 100 else x @ np.ones(3, "float32")

    wrapped = batch_minor(function)
    with caplog.at_level("DEBUG", logger="posterion"):
        np.testing.assert_allclose(wrapped(pack(X)), X.sum(axis=1), rtol=1e-5, atol=1e-6)
    assert "Concret" in wrapped.statistics.refused
    assert "gave up" in caplog.text


def test_side_effects_happen_once():
    seen = []

    def function(x):
        jax.debug.callback(lambda total: seen.append(float(total)), x.sum())
        return jnp.tanh(x)

    wrapped = batch_minor(function)
    np.testing.assert_allclose(wrapped(pack(X)), np.tanh(X), rtol=1e-5)
    jax.effects_barrier()
    assert len(seen) == 1
    assert wrapped.statistics.refused == "the function has side effects"


def test_shapes_without_numbers_are_exported_untouched():
    """`jax.export` for any number of rows: which axis is long cannot be known."""
    (rows,) = jax.export.symbolic_shape("rows")
    wrapped = batch_minor(network)
    specifications = (jax.ShapeDtypeStruct(Z.shape, Z.dtype), jax.ShapeDtypeStruct((rows, 3), "float32"))
    exported = jax.export.export(jax.jit(wrapped))(*specifications)
    np.testing.assert_allclose(exported.call(Z, X), network(Z, X), rtol=1e-5)
    assert wrapped.statistics.refused != ""


def test_other_backends_are_left_alone(monkeypatch):
    monkeypatch.setattr(wrapper, "MEASURED_BACKENDS", ("another",))
    wrapped = batch_minor(network)
    np.testing.assert_allclose(wrapped(Z, pack(X)), network(Z, X), rtol=1e-5)
    assert wrapped.statistics.refused == "not measured on cpu"


BROKEN = {
    "trace": (jaxprs, "trace"),
    "literal": (jaxprs, "is_literal"),
    "evaluate": (jaxprs, "evaluate"),
    "call": (jaxprs, "inlined_call"),
    "interpreter": (wrapper, "Interpreter"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_if_jax_changes_the_untouched_function_is_called(name, monkeypatch):
    def vanished(*_, **__):
        raise AttributeError("module 'jax' has no attribute that was here before")

    module, attribute = BROKEN[name]
    monkeypatch.setattr(module, attribute, vanished)
    if name == "evaluate":
        monkeypatch.setattr("posterion.compilation.minor_axis.rules.evaluate", vanished)
        monkeypatch.setattr("posterion.compilation.minor_axis.products.evaluate", vanished)
    function = jax.jit(lambda z, x: jax.nn.relu(network(z, x)))  # a call and a literal
    wrapped = batch_minor(function)
    found = jax.value_and_grad(wrapped)(Z, pack(X))
    assert "has no attribute" in wrapped.statistics.refused
    expected = jax.value_and_grad(function)(Z, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_the_names_of_jax_that_the_pass_reads_are_there():
    """If this fails, the pass is off (and everything is right, only slower): see `jaxprs` for what each name does."""
    function = jax.checkpoint(lambda x: jax.nn.relu(jax.jit(jnp.sin)(x)) @ x.T + 1.0)
    jaxpr, constants = jaxprs.trace(function, X)
    assert tuple(constants) == ()
    assert {"constvars", "invars", "outvars", "eqns", "effects"} <= set(dir(jaxpr))
    (checkpoint,) = jaxpr.eqns
    assert checkpoint.primitive.name in jaxprs.CHECKPOINTS
    assert {"jaxpr", "prevent_cse", "policy", "differentiated"} <= set(checkpoint.params)
    inner, _ = jaxprs.opened(checkpoint.params["jaxpr"])
    by_name = {equation.primitive.name: equation for equation in inner.eqns}
    assert set(by_name) == {"jit", "custom_jvp_call", "transpose", "dot_general", "add"}
    for equation in inner.eqns:
        assert {"primitive", "invars", "outvars", "params", "ctx"} <= set(dir(equation))
        assert {"name", "multiple_results", "bind", "get_bind_params"} <= set(dir(equation.primitive))
        with equation.ctx.manager:
            pass
    assert jaxprs.inlined_call(by_name["jit"]) is not None
    assert {"in_shardings", "out_shardings"} <= set(by_name["jit"].params)
    assert {"call_jaxpr", "symbolic_zeros"} <= set(by_name["custom_jvp_call"].params)
    assert {"dimension_numbers", "precision", "out_sharding"} <= set(by_name["dot_general"].params)
    assert [jaxprs.is_literal(atom) for atom in by_name["add"].invars] == [False, True]


def test_nested_calls_that_ask_for_a_placement_are_not_dissolved():
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placed = jax.jit(jnp.tanh, out_shardings=device)
    jaxpr, _ = jaxprs.trace(placed, X)
    assert jaxprs.inlined_call(jaxpr.eqns[0]) is None
    wrapped = batch_minor(lambda z, x: placed(x @ z.reshape(3, 5)))
    np.testing.assert_allclose(wrapped(Z, pack(X)), np.tanh(X @ Z.reshape(3, 5)), rtol=1e-5, atol=1e-6)
    assert wrapped.statistics == Statistics(dots=1, flipped=1, fallbacks={"jit": 1})


def primitives_in(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for parameter in equation.params.values():
            if hasattr(parameter, "eqns"):
                yield from primitives_in(parameter)


def transposes(function, *arguments):
    """Shapes that are transposed in the gradient of a function."""
    jaxpr, _ = jaxprs.trace(jax.value_and_grad(function), *arguments)
    return [e.outvars[0].aval.shape for e in primitives_in(jaxpr) if e.primitive.name == "transpose"]


def test_no_more_transposes_than_by_hand():
    """The 2-5-5-1 network with Bernoulli likelihood, against the same network written with its rows last."""

    def weights(z):
        return z[:10].reshape(2, 5), z[10:35].reshape(5, 5), z[35:].reshape(5, 1)

    def as_written(z, data):
        first, second, third = weights(z)
        logits = (jnp.tanh(jnp.tanh(data["x"] @ first) @ second) @ third)[:, 0]
        return jnp.sum(data["y"] * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(z**2)

    def by_hand(z, data):
        first, second, third = weights(z)
        logits = (third.T @ jnp.tanh(second.T @ jnp.tanh(first.T @ data["x"])))[0]
        return jnp.sum(data["y"] * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(z**2)

    num_rows = 284
    rng = np.random.default_rng(5)
    values = {"x": rng.normal(size=(num_rows, 2)).astype("float32"), "y": rng.integers(0, 2, num_rows)}
    z = jnp.asarray(rng.normal(size=40), "float32")
    wrapped, packed = batch_minor(as_written), pack(values, {"x": 0, "y": 0})
    hand = {"x": values["x"].T, "y": values["y"]}
    np.testing.assert_allclose(wrapped(z, packed), by_hand(z, hand), rtol=1e-6)
    assert wrapped.statistics == Statistics(dots=3, flipped=3)
    assert len(transposes(wrapped, z, packed)) <= len(transposes(by_hand, z, hand))
    assert len(transposes(wrapped, z, values)) <= len(transposes(by_hand, z, hand)) + 1  # X itself, if it is not packed

    hidden_shapes = {
        e.outvars[0].aval.shape
        for e in primitives_in(jaxprs.trace(jax.grad(wrapped), z, packed)[0])
        if e.primitive.name == "tanh"
    }
    assert hidden_shapes == {(5, num_rows)}


def test_statistics_are_those_of_the_last_trace():
    wrapped = batch_minor(CASES["sorted_hidden"].function)
    assert wrapped.statistics == Statistics()
    jax.eval_shape(wrapped, parameters("float32"), data("float32"))
    assert wrapped.statistics.flipped == 3
    short = data("float32", num_rows=NUM_ROWS // 8)
    jax.eval_shape(wrapped, parameters("float32"), short)
    assert wrapped.statistics.flipped == 1
