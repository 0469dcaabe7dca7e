import jax
import jax.numpy as jnp

from posterion.compilation.dependence import used_inputs

INPUTS = {"a": jnp.ones(3), "b": jnp.ones(3), "c": jnp.ones(3)}


def test_each_output_has_its_own_inputs():
    def function(x):
        dead = jnp.exp(x["c"])
        del dead
        return {"sum": x["a"] + x["b"], "nested": (x["b"], {"deep": 2 * x["b"]}), "constant": jnp.zeros(2)}

    assert used_inputs(function, INPUTS) == {"sum": {"a", "b"}, "nested": {"b"}, "constant": set()}


def test_a_shape_alone_is_no_dependence():
    assert used_inputs(lambda x: {"zeros": jnp.zeros_like(x["a"])}, INPUTS) == {"zeros": set()}


def test_it_sees_through_calls_and_loops():
    def function(x):
        inner = jax.jit(lambda a, b: (a + 1, b + 1))(x["a"], x["b"])
        total, _ = jax.lax.scan(lambda carry, row: (carry + row, None), 0.0, x["c"])
        return {"first": inner[0], "loop": total}

    assert used_inputs(function, INPUTS) == {"first": {"a"}, "loop": {"c"}}


def test_shapes_are_enough():
    shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in INPUTS.items()}
    assert used_inputs(lambda x: {"y": x["a"].sum()}, shapes) == {"y": {"a"}}
