"""Each rule by itself: whatever order the operands are held in, the result is that of the primitive."""

from itertools import permutations, product
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive, primitives

from posterion.compilation.minor_axis import Packed, batch_minor
from posterion.compilation.minor_axis.interpreter import Interpreter
from posterion.compilation.minor_axis.products import FlipLimits
from posterion.compilation.minor_axis.rules import ELEMENTWISE, RULES
from posterion.compilation.minor_axis.values import held, rows_last

FLOAT, INTEGER, BOOLEAN = "float32", "int32", "bool"


def array(shape, kind, seed):
    rng = np.random.default_rng(seed)
    if kind == BOOLEAN:
        return jnp.asarray(rng.random(shape) < 0.5)
    if kind == INTEGER:
        return jnp.asarray(rng.integers(1, 9, shape), INTEGER)
    return jnp.asarray(rng.uniform(0.1, 0.9, shape), FLOAT)


UNARY = """abs acosh asin asinh acos atan atanh bessel_i0e bessel_i1e cbrt ceil cos cosh digamma erf erf_inv erfc exp
exp2 expm1 floor is_finite lgamma log log1p logistic neg reciprocal round rsqrt sign sin sinh sqrt square stop_gradient
tan tanh""".split()
BINARY = """add atan2 div eq ge gt igamma igammac le lt max min mul ne nextafter polygamma pow rem sub zeta""".split()
INTEGERS = """bitwise_and bitwise_or bitwise_xor shift_left shift_right_arithmetic shift_right_logical""".split()

# Name: function, (shape, kind) of each operand.
OPERATIONS = {
    **{name: (getattr(lax, name), [((3, 4), FLOAT)]) for name in UNARY},
    **{name: (getattr(lax, name), [((3, 4), FLOAT)] * 2) for name in BINARY},
    **{name: (getattr(lax, name), [((3, 4), INTEGER)] * 2) for name in INTEGERS},
    "acosh": (lambda x: lax.acosh(1 + x), [((3, 4), FLOAT)]),
    "bitwise_not": (lax.bitwise_not, [((3, 4), INTEGER)]),
    "population_count": (lax.population_count, [((3, 4), INTEGER)]),
    "clz": (lax.clz, [((3, 4), INTEGER)]),
    "betainc": (lax.betainc, [((3, 4), FLOAT)] * 3),
    "integer_pow": (lambda x: lax.integer_pow(x, 3), [((3, 4), FLOAT)]),
    "complex": (
        lambda x, y: lax.real(lax.conj(lax.complex(x, y))) + lax.imag(lax.complex(x, y)),
        [((3, 4), FLOAT)] * 2,
    ),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 5, 10), [((3, 4), FLOAT)]),
    "convert": (lambda x: lax.convert_element_type(x, jnp.float16), [((3, 4), INTEGER)]),
    "clamp": (lax.clamp, [((), FLOAT), ((3, 4), FLOAT), ((), FLOAT)]),
    "clamp_arrays": (lax.clamp, [((3, 4), FLOAT)] * 3),
    "select": (lax.select, [((3, 4), BOOLEAN), ((3, 4), FLOAT), ((3, 4), FLOAT)]),
    "select_by_scalar": (lax.select, [((), BOOLEAN), ((3, 4), FLOAT), ((3, 4), FLOAT)]),
    "outer": (lambda x, y: x - y, [((3, 1), FLOAT), ((1, 4), FLOAT)]),
    "outer_long": (lambda x, y: x[:, None] * y, [((40,), FLOAT), ((3,), FLOAT)]),
    "stretched": (lambda x, y: x * y, [((3, 4), FLOAT), ((3, 1), FLOAT)]),
    "three_axes": (lambda x, y: x / y, [((2, 3, 4), FLOAT), ((2, 1, 4), FLOAT)]),
    "polynomial": (lambda x: jnp.polyval(jnp.array([1.0, 2, 3]), x), [((3, 4), FLOAT)]),
    **{
        f"reduce_{name}": (lambda x, name=name: getattr(jnp, name)(x, axis=(0, 2)), [((2, 3, 4), FLOAT)])
        for name in ("sum", "max", "min", "prod")
    },
    "reduce_and": (lambda x: jnp.all(x, axis=1), [((3, 4), BOOLEAN)]),
    "reduce_or": (lambda x: jnp.any(x, axis=0), [((3, 4), BOOLEAN)]),
    "argmax": (lambda x: jnp.argmax(x, axis=1), [((2, 3, 4), FLOAT)]),
    "argmin": (lambda x: jnp.argmin(x, axis=0), [((2, 3, 4), FLOAT)]),
    "mean_keepdims": (lambda x: x - x.mean(axis=1, keepdims=True), [((2, 3, 4), FLOAT)]),
    **{
        name: (lambda x, name=name: getattr(lax, name)(x, axis=1, reverse=True), [((2, 3, 4), FLOAT)])
        for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
    },
    "sort": (lambda x: jnp.sort(x, axis=0), [((3, 4), FLOAT)]),
    "sort_pairs": (lambda x, y: lax.sort((x, y), dimension=1, num_keys=1), [((3, 4), INTEGER), ((3, 4), FLOAT)]),
    "argsort": (lambda x: jnp.argsort(x, axis=1), [((3, 4), FLOAT)]),
    "broadcast_bias": (lambda x, b: x + b, [((3, 4), FLOAT), ((4,), FLOAT)]),
    "broadcast_large": (lambda x: jnp.broadcast_to(x[None], (1, 3, 4)) * 2, [((3, 4), FLOAT)]),
    "broadcast_copies": (lambda x: jnp.broadcast_to(x[:, None], (3, 5, 4)), [((3, 4), FLOAT)]),
    "broadcast_square": (lambda x: jnp.broadcast_to(x[:, :1], (3, 4)), [((3, 4), FLOAT)]),
    "iota": (lambda x: x + lax.broadcasted_iota(FLOAT, (3, 4), 1), [((3, 4), FLOAT)]),
    "transpose": (lambda x: x.transpose(2, 0, 1), [((2, 3, 4), FLOAT)]),
    "transpose_demand": (lambda x, b: x + jnp.broadcast_to(b, (4, 3)).T, [((3, 4), FLOAT), ((3,), FLOAT)]),
    "squeeze": (lambda x: x.squeeze((1, 3)), [((2, 1, 4, 1), FLOAT)]),
    "expand_dims": (lambda x: x[:, None, :, None], [((3, 4), FLOAT)]),
    "unit_axes": (lambda x: x.reshape(1, 3, 1, 4), [((3, 1, 4), FLOAT)]),
    "unit_axes_demand": (
        lambda x, b: x + jnp.broadcast_to(b, (3, 1, 4)).reshape(3, 4),
        [((3, 4), FLOAT), ((4,), FLOAT)],
    ),
    "slice": (lambda x: x[1:, :3:2], [((3, 4), FLOAT)]),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice(x, (i, 0), (1, 3)), [((3, 4), FLOAT), ((), INTEGER)]),
    "concatenate": (lambda x, y: jnp.concatenate([x, y], axis=1), [((3, 4), FLOAT), ((3, 2), FLOAT)]),
    "stack": (lambda x, y: jnp.stack([x, y], axis=1), [((3, 4), FLOAT)] * 2),
    "stack_last": (lambda x, y: jnp.stack([x, y], axis=-1), [((3, 4), FLOAT)] * 2),
    "split": (lambda x: jnp.split(x, [1], axis=1), [((3, 4), FLOAT)]),
    "rev": (lambda x: x[::-1], [((3, 4), FLOAT)]),
    "pad": (lambda x: lax.pad(x, jnp.float32(7), ((1, 0, 0), (0, 2, 1))), [((3, 4), FLOAT)]),
    "pick": (lambda x: x[jnp.arange(3), jnp.array([2, 0, 3])], [((3, 4), FLOAT)]),
    "pick_along": (lambda x: jnp.take_along_axis(x, jnp.array([[2], [0], [3]]), 1), [((3, 4), FLOAT)]),
    "pick_batched": (lambda x: jnp.take_along_axis(x, jnp.ones((2, 3, 2), int), 2), [((2, 3, 4), FLOAT)]),
    "softplus": (jax.nn.softplus, [((3, 4), FLOAT)]),
    "logaddexp": (jnp.logaddexp, [((3, 4), FLOAT)] * 2),
    "logaddexp_row": (lambda x, b: jnp.logaddexp(x, jnp.broadcast_to(b, (3, 4))), [((3, 4), FLOAT), ((4,), FLOAT)]),
    "checkpoint": (jax.checkpoint(lambda x, y: jnp.sin(x) * y), [((3, 4), FLOAT)] * 2),
    "dot": (lambda x, y: x @ y, [((3, 4), FLOAT), ((4, 2), FLOAT)]),
    "dot_flipped": (lambda x, y: x @ y, [((20, 4), FLOAT), ((4, 2), FLOAT)]),
    "dot_three": (lambda x, y: jnp.tensordot(x, y, 1), [((4, 5, 3), FLOAT), ((3, 2), FLOAT)]),
    "dot_two_contracted": (lambda x, y: jnp.einsum("nij,jik->nk", x, y), [((9, 2, 3), FLOAT), ((3, 2, 2), FLOAT)]),
    "dot_batched": (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), [((2, 9, 3), FLOAT), ((2, 3, 2), FLOAT)]),
    "dot_precision": (
        lambda x, y: lax.dot(x, y, precision=("default", "highest"), preferred_element_type=FLOAT),
        [((20, 4), FLOAT), ((4, 2), FLOAT)],
    ),
    "vector": (lambda x, y: x @ y, [((20, 4), FLOAT), ((4,), FLOAT)]),
    "outer_product": (jnp.outer, [((20,), FLOAT), ((3,), FLOAT)]),
    "dot_algorithm": (
        lambda x, y: lax.dot(x, y, precision=lax.DotAlgorithmPreset.F32_F32_F32),
        [((20, 4), FLOAT), ((4, 2), FLOAT)],
    ),
    "empty": (lambda x, y: jnp.tanh(x @ y).sum(axis=0), [((0, 4), FLOAT), ((4, 2), FLOAT)]),
    "empty_columns": (lambda x, y: (x @ y).reshape(0, 3, 20), [((20, 4), FLOAT), ((4, 0), FLOAT)]),
    "scalar": (lambda x: jnp.sin(x) * 2, [((), FLOAT)]),
}
NATURAL_ORDER = {"dot_algorithm": {"dot_general"}, "empty_columns": {"reshape"}}
"""Operations that are meant to fall back."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_result_does_not_depend_on_the_order_of_the_operands(name):
    function, kinds = OPERATIONS[name]
    arguments = [array(shape, kind, seed) for seed, (shape, kind) in enumerate(kinds)]
    expected = function(*arguments)
    orders = [list(permutations(range(argument.ndim)))[::-1] for argument in arguments]
    for chosen in list(product(*orders))[:8]:
        packed = [Packed(jnp.transpose(x, order), order) for x, order in zip(arguments, chosen, strict=True)]
        wrapped = batch_minor(function)
        found = wrapped(*packed)
        assert wrapped.statistics.refused == ""
        assert set(wrapped.statistics.fallbacks) <= NATURAL_ORDER.get(name, set())
        for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert (got.dtype, got.weak_type) == (wanted.dtype, wanted.weak_type)
            np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-6, err_msg=f"{chosen}")


def test_every_rule_is_for_a_primitive_that_exists():
    """Tells when JAX renames a primitive, whose rule would then silently never be used."""
    known = {p.name for p in vars(primitives).values() if isinstance(p, Primitive)}
    traced = jax.make_jaxpr(lambda x: (jnp.stack([x, x]), *jnp.split(x, 2), lax.mulhi(jnp.int32(2), jnp.int32(3))))
    known |= {equation.primitive.name for equation in traced(jnp.ones(4)).eqns}
    other_versions = {"copy_p", "mulhi"}  # names of the same primitive in other releases of JAX
    assert set(RULES) - known <= other_versions


def test_every_elementwise_primitive_is_tested_here():
    used = set()
    for function, kinds in OPERATIONS.values():
        arguments = [array(shape, kind, seed) for seed, (shape, kind) in enumerate(kinds)]
        used |= names_in(jax.make_jaxpr(function)(*arguments))
    derivatives_only = {"add_any", "copy", "copy_p", "igamma_grad_a", "one_minus_square"}
    comparisons_of_sorts = {"eq_to", "le_to", "lt_to"}
    rarely_met = {"mulhi", "log2"}
    assert ELEMENTWISE - used <= derivatives_only | comparisons_of_sorts | rarely_met


def names_in(jaxpr):
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for parameter in equation.params.values():
            if hasattr(parameter, "eqns"):
                names |= names_in(parameter)
    return names


def test_long_chains_of_broadcasts_do_not_exhaust_the_stack():
    def function(x, bias):
        noise = jnp.broadcast_to(bias, x.shape)
        for _ in range(2000):
            noise = 0.99 * noise
        return x + noise

    wrapped = batch_minor(function)
    jax.eval_shape(wrapped, Packed(jnp.ones((3, 40)), (1, 0)), jnp.ones(3))
    assert wrapped.statistics.refused == ""


def test_a_bias_is_broadcast_into_the_order_it_is_needed_in():
    packed = Packed(jnp.ones((3, 40)), (1, 0))
    traced = jax.make_jaxpr(lambda x, b: batch_minor(lambda x, b: jnp.sum(jnp.tanh(x + b)))(x, b))(packed, jnp.ones(3))
    assert "transpose" not in names_in(traced)


@pytest.mark.parametrize(
    ("shape", "order"), [((), ()), ((5,), (0,)), ((40, 10), (1, 0)), ((39, 10), (0, 1)), ((2, 40, 5), (0, 2, 1))]
)
def test_rows_last(shape, order):
    assert rows_last(shape, 4) == order


@pytest.mark.parametrize(("rows", "width", "flips"), [(20, 5, 1), (19, 5, 0), (188, 47, 1), (192, 48, 0), (20, 0, 0)])
def test_products_are_turned_within_the_measured_limits(rows, width, flips):
    wrapped = batch_minor(lambda x, w: x @ w)
    jax.eval_shape(wrapped, jnp.ones((rows, 3)), jnp.ones((3, width)))
    assert (wrapped.statistics.dots, wrapped.statistics.flipped) == (1, flips)


def test_limits_can_be_chosen():
    wrapped = batch_minor(lambda x, w: x @ w, ratio=1, width=65)
    jax.eval_shape(wrapped, jnp.ones((64, 3)), jnp.ones((3, 64)))
    assert wrapped.statistics.flipped == 1


def test_a_reshape_keeps_its_order_only_if_no_group_is_torn_apart():
    x = held(jnp.arange(24.0).reshape(4, 6), (1, 0))  # value (6, 4), stored (4, 6)
    interpreter = Interpreter(FlipLimits(4, 48))
    for shape, kept in [((2, 3, 4), True), ((6, 2, 2), True), ((24,), False), ((3, 8), False), ((1, 6, 1, 4), True)]:
        jaxpr = jax.make_jaxpr(lambda x, shape=shape: lax.reshape(x, shape))(jnp.ones((6, 4)))
        interpreter.counts.fallbacks.clear()
        (result,) = interpreter.run(jaxpr, (), [x])
        assert result.shape == shape
        assert bool(interpreter.counts.fallbacks) != kept
        np.testing.assert_array_equal(result.natural, x.natural.reshape(shape))
        assert prod(result.shape) == 24
