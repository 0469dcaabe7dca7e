"""Every repair is compared with the stock conversion, so that a test fails as soon as PyTensor no longer needs it."""

import contextlib
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

pytest.importorskip("pymc")

from posterion.frontends.pymc import dispatch  # isort: skip  before PyMC, so that it can undo its side effects
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import dfs_rewriter
from pytensor.link.jax.dispatch import jax_funcify, jax_typify
from pytensor.link.jax.dispatch.random import jax_sample_fn
from pytensor.scalar import Softplus
from pytensor.scan.utils import until
from pytensor.tensor.random.basic import WeibullRV
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.subtensor import AdvancedSubtensor

FIXED = "upstream fixed: remove the repair"
CONVERSIONS = {"stock": contextlib.nullcontext, "repaired": dispatch.repaired}


def convert(inputs, outputs, how="repaired", rewrite=False):
    fgraph = FunctionGraph(list(inputs), list(outputs), clone=True)
    if rewrite:
        pytensor.compile.mode.get_mode("JAX").optimizer.rewrite(fgraph)
    with CONVERSIONS[how]():
        return jax_funcify(fgraph)


def both(inputs, outputs, **options):
    return {how: convert(inputs, outputs, how, **options) for how in CONVERSIONS}


def fails(function, *args):
    try:
        function(*args)
    except Exception:  # whatever JAX or PyTensor raises: that it raises is what is asked
        return True
    return False


@pytest.fixture(params=[True, False], ids=["float64", "float32"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


# -------------------------------------------------------------------------------- scalar functions


def elementwise_gradient(function, points):
    return jax.vmap(jax.grad(lambda v: function(v[None])[0][0]))(points)


def test_softplus_gradient(x64):
    x = pt.vector("x", shape=(1,))
    functions = both([x], [pt.softplus(x)])
    points = jnp.array([-800.0, -90.0, -1.0, 0.0, 1.0, 90.0, 800.0])
    assert np.isnan(elementwise_gradient(functions["stock"], points)).any(), FIXED
    np.testing.assert_allclose(
        elementwise_gradient(functions["repaired"], points),
        special.expit(np.asarray(points, float)),
        rtol=1e-6,
        atol=1e-38,
    )
    values = jax.vmap(lambda v: functions["repaired"](v[None])[0][0])(points)
    np.testing.assert_allclose(values, np.logaddexp(0.0, np.asarray(points)), rtol=1e-14 if x64 else 1e-6, atol=1e-38)


def test_gradient_of_a_bernoulli_with_large_logits():
    with pm.Model() as model:
        pm.Bernoulli("y", logit_p=pm.Normal("logit", shape=4), observed=[1, 0, 1, 0])
    logit = model["logit"]
    (value,) = model.value_vars
    functions = both([value], [model.logp(model["y"])], rewrite=True)
    at = jnp.array([-100.0, 100.0, 100.0, -100.0])
    with jax.enable_x64(False):
        gradients = {how: np.asarray(jax.grad(lambda v, f=f: f(v)[0])(at)) for how, f in functions.items()}
    assert logit.type.ndim == 1
    assert np.isnan(gradients["stock"]).any(), FIXED
    np.testing.assert_allclose(gradients["repaired"], [1.0, -1.0, 0.0, 0.0], atol=1e-6)


def test_log1mexp_gradient(x64):
    x = pt.vector("x", shape=(1,))
    functions = both([x], [pt.log1mexp(x)])
    tiny = -1e-17 if x64 else -1e-9
    points = jnp.array([-50.0, -1.0, -0.6931, -0.01, tiny])
    assert np.isnan(elementwise_gradient(functions["stock"], points)).any(), FIXED
    exact = np.asarray(points, float)
    np.testing.assert_allclose(
        elementwise_gradient(functions["repaired"], points), np.exp(exact) / np.expm1(exact), rtol=1e-5
    )
    values = jax.vmap(lambda v: functions["repaired"](v[None])[0][0])(points)
    expected = np.where(exact < -1, np.log1p(-np.exp(np.minimum(exact, -1.0))), np.log(-np.expm1(exact)))
    np.testing.assert_allclose(values, expected, rtol=1e-12 if x64 else 1e-5)


def test_betainc_gradient(x64):
    a, b, x = (pt.vector(name, shape=(4,)) for name in "abx")
    functions = both([a, b, x], [pt.betainc(a, b, x)])
    at = [jnp.array(v) for v in ([0.3, 2.0, 5.0, 40.0], [0.7, 3.0, 0.5, 60.0], [0.2, 0.5, 0.9, 0.35])]

    def gradient(how):
        return jax.grad(lambda *args: functions[how](*args)[0].sum(), argnums=(0, 1, 2))(*at)

    assert fails(gradient, "stock"), FIXED
    exact = [np.asarray(v, float) for v in at]
    for k, found in enumerate(gradient("repaired")):
        step = np.zeros((3, 4))
        step[k] = 1e-5 * exact[k]
        # Fourth-order differences of SciPy's function: independent of ours in function, step and order.
        difference = (
            8 * (special.betainc(*(exact + step)) - special.betainc(*(exact - step)))
            - (special.betainc(*(exact + 2 * step)) - special.betainc(*(exact - 2 * step)))
        ) / (12 * step[k])
        np.testing.assert_allclose(found, difference, rtol=1e-7 if x64 else 3e-3, atol=1e-9 if x64 else 1e-4)
    np.testing.assert_allclose(functions["repaired"](*at)[0], special.betainc(*exact), rtol=1e-12 if x64 else 1e-4)


def test_betainc_of_parameters_of_different_shapes_and_types():
    a, n, x = pt.scalar("a"), pt.scalar("n", dtype="int64"), pt.vector("x", shape=(3,))
    function = convert([a, n, x], [pt.betainc(a, n, x)])
    with jax.enable_x64(True):
        at = 2.0, 3, np.array([0.2, 0.5, 0.9])
        for jacobian in (jax.jacrev, jax.jacfwd):
            slope = jax.jit(jacobian(lambda *args: function(*args)[0]))(*at)
            # I_x(a, 3) = x^a (1 + a (1 - x) + a (a + 1) (1 - x)^2 / 2)
            log_x, y = np.log(at[2]), 1 - at[2]
            exact = at[2] ** 2 * (log_x * (1 + 2 * y + 3 * y**2) + y + 2.5 * y**2)
            np.testing.assert_allclose(slope, exact, rtol=1e-8)


def test_erfcx_has_a_second_derivative():
    x = pt.vector("x", shape=(3,))
    functions = both([x], [pt.erfcx(x)])
    with jax.enable_x64(True):
        at = jnp.array([-2.0, 0.5, 4.0])
        hessian = {how: jax.hessian(lambda x, f=f: f(x)[0].sum()) for how, f in functions.items()}
        assert fails(hessian["stock"], at), FIXED
        # erfcx'' = (4 x^2 + 2) erfcx - 4 x / sqrt(pi)
        expected = (4 * at**2 + 2) * special.erfcx(at) - 4 * at / np.sqrt(np.pi)
        np.testing.assert_allclose(jax.jit(hessian["repaired"])(at), np.diag(expected), rtol=1e-11)
        np.testing.assert_array_equal(functions["repaired"](at)[0], functions["stock"](at)[0])


@pytest.mark.parametrize("function", [pt.gammaincinv, pt.gammainccinv, lambda a, p: pt.betaincinv(a, 2, p)])
def test_inverse_incomplete_functions(function):
    a, p = pt.scalar("a"), pt.vector("p", shape=(3,))
    assert fails(convert, [a, p], [function(a, p)], "stock"), FIXED
    at = 1.5, np.array([0.1, 0.5, 0.9])
    with jax.enable_x64(True):
        found = jax.jit(convert([a, p], [function(a, p)]))(*at)[0]
    expected = function(a, p).eval({a: at[0], p: at[1]}, mode=pytensor.compile.mode.Mode("py", None))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# -------------------------------------------------------------------------------- constants and arrays


def test_float64_constants_stay_float64():
    zeros = pt.alloc(pt.constant(0.0, dtype="float64"), 3)
    x = pt.vector("x", shape=(3,), dtype="float32")
    functions = both([x], [zeros + x])
    at = np.array([1.0, 2.0, 3.0], "float32")
    with jax.enable_x64(True):
        results = {how: f(at)[0] for how, f in functions.items()}
    assert results["stock"].dtype == np.float32, FIXED  # PyTensor types the sum as float64
    assert results["repaired"].dtype == np.float64


def test_lkj_cholesky_keeps_its_precision():
    with pm.Model() as model:
        pm.LKJCholeskyCov("chol", eta=2.0, n=3, sd_dist=pm.Exponential.dist(1.0), compute_corr=False)
    (value,) = model.value_vars
    at = np.array([0.3, -0.2, 0.5, 0.7, -0.4, 0.1])
    expected = model.compile_logp()({value.name: at})
    with jax.enable_x64(True):
        errors = {
            how: abs(float(jax.jit(f)(at)[0]) / expected - 1)
            for how, f in both([value], [model.logp()], rewrite=True).items()
        }
    assert errors["stock"] > 1e-10, FIXED
    assert errors["repaired"] < 1e-14


def test_constants_follow_the_precision_in_force(x64):
    x = pt.vector("x", shape=(3,))
    function = convert([x], [x * 2.5 + pt.constant(0.1) ** x])
    result = function(jnp.arange(3.0))[0]
    assert result.dtype == (np.float64 if x64 else np.float32)
    np.testing.assert_allclose(result, np.arange(3.0) * 2.5 + 0.1 ** np.arange(3.0), rtol=1e-6)


def test_boolean_constants_stay_concrete_while_tracing():
    x = pt.vector("x", shape=(3,))
    masked = x[pt.constant(np.array([True, False, True]))]

    def run(how):
        return jax.jit(lambda v: convert([x], [masked], how)(v)[0])(jnp.arange(3.0))

    assert fails(run, "stock"), FIXED
    np.testing.assert_array_equal(run("repaired"), [0.0, 2.0])


def test_pad_under_vectorisation():
    x = pt.matrix("x", shape=(2, 3))
    padded = pt.vectorize(lambda row: pt.pad(row, (1, 2), constant_values=7.0), signature="(n)->(m)")(x)
    functions = both([x], [padded], rewrite=True)
    at = jnp.arange(6.0).reshape(2, 3)
    assert fails(jax.jit(functions["stock"]), at), FIXED
    expected = np.pad(np.arange(6.0).reshape(2, 3), ((0, 0), (1, 2)), constant_values=7.0)
    np.testing.assert_array_equal(jax.jit(functions["repaired"])(at)[0], expected)


@pytest.mark.parametrize("mode", ["constant", "edge", "maximum", "wrap", "reflect", "symmetric"])
def test_pad_in_every_mode(mode):
    x = pt.matrix("x", shape=(3, 4))
    function = convert([x], [pt.pad(x, ((1, 0), (2, 1)), mode=mode)])
    at = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(jax.jit(function)(at)[0], np.pad(at, ((1, 0), (2, 1)), mode=mode))


# -------------------------------------------------------------------------------- random variables


def draw(function, seed=0):
    return np.asarray(function({"jax_state": jax.random.key(seed)})[0])


def generator():
    return pytensor.shared(np.random.default_rng(0))


def test_categorical_draws():
    p, n = np.array([0.5, 0.3, 0.2]), 20_000
    rng = generator()
    functions = both([rng], [pt.random.categorical(p, size=(n,), rng=rng)])

    def p_value(how):
        return stats.chisquare(np.bincount(draw(functions[how]), minlength=3), n * p).pvalue

    assert p_value("stock") < 1e-6, FIXED
    assert p_value("repaired") > 1e-3


def test_categorical_with_batched_and_impossible_classes():
    p = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    rng = generator()
    draws = draw(convert([rng], [pt.random.categorical(p, size=(1000, 2), rng=rng)]))
    assert set(draws[:, 0]) == {0}
    assert set(draws[:, 1]) == {1, 2}
    assert draws.dtype == (np.int64 if jax.config.jax_enable_x64 else np.int32)


def test_draws_have_the_dtype_of_the_graph():
    rng = generator()
    functions = both([rng], [pt.random.bernoulli(0.3, size=(5,), rng=rng)])
    assert draw(functions["stock"]).dtype == np.bool_, FIXED
    with jax.enable_x64(True):
        assert draw(functions["repaired"]).dtype == np.int64


def test_a_generator_passed_in_is_not_written_to():
    rng = generator()
    functions = both([rng], list(pt.random.normal(size=(2,), rng=rng, return_next_rng=True)))
    for how, function in functions.items():
        state = {"jax_state": jax.random.key_data(jax.random.key(3))}
        before = np.asarray(state["jax_state"])
        next_state, draws = function(state)
        unchanged = np.array_equal(np.asarray(state["jax_state"]), before)
        assert unchanged == (how == "repaired"), FIXED
        assert not np.array_equal(np.asarray(next_state["jax_state"]), before)
        assert np.isfinite(draws).all()


def test_a_missing_sampler_is_an_error_of_the_conversion():
    class UnknownRV(RandomVariable):
        name, signature, dtype = "unknown", "()->()", "floatX"

    rng = generator()
    variable = UnknownRV()(1.0, size=(2,), rng=rng)
    convert([rng], [variable], "stock")  # would fail only when traced
    with pytest.raises(NotImplementedError, match="unknown"):
        convert([rng], [variable])


def test_rejection_loops_of_truncated_counts():
    mu = pt.vector("mu", shape=(3,))
    variable = pm.Truncated.dist(pm.Poisson.dist(mu), lower=1, upper=4, shape=(1000, 3))
    rng = variable.owner.inputs[0]
    assert fails(lambda: convert([rng, mu], [variable], "stock", rewrite=True)), FIXED
    function = jax.jit(convert([rng, mu], [variable], rewrite=True))
    draws = np.asarray(function({"jax_state": jax.random.key(0)}, jnp.array([0.1, 2.0, 9.0]))[0])
    for rate, column in zip([0.1, 2.0, 9.0], draws.T, strict=True):
        expected = stats.poisson.pmf(np.arange(1, 5), rate)
        counts = np.bincount(column, minlength=5)
        assert counts[0] == 0
        assert len(counts) == 5
        assert stats.chisquare(counts[1:], 1000 * expected / expected.sum()).pvalue > 1e-3


def test_other_while_loops_are_still_refused():
    x = pt.vector("x", shape=(3,))
    halved = pytensor.scan(lambda x: (x / 2, until((x < 1).all())), outputs_info=[x], n_steps=50, return_updates=False)[
        -1
    ]
    with pytest.raises(NotImplementedError, match="While Scan"):
        convert([x], [halved], rewrite=True)


@pytest.mark.parametrize("matches", [True, False])
def test_masked_assignment_becomes_a_selection(matches):
    x, y = pt.vector("x", shape=(4,)), pt.vector("y", shape=(4,))
    mask = pt.vector("mask", dtype="bool", shape=(4,))
    output = pt.set_subtensor(x[mask], y[mask] if matches else y[mask] + 1)
    fgraph = FunctionGraph([x, y, mask], [output], clone=True)
    dfs_rewriter(dispatch.local_masked_set).rewrite(fgraph)
    indexes = [n for n in fgraph.apply_nodes if isinstance(n.op, AdvancedSubtensor)]
    assert bool(indexes) != matches
    if matches:
        at = np.arange(4.0), -np.arange(4.0), np.array([True, False, True, False])
        np.testing.assert_array_equal(jax.jit(convert(fgraph.inputs, fgraph.outputs))(*at)[0], [0, 1, -2, 3])


# -------------------------------------------------------------------------------- nobody else is touched


def tables():
    return [dict(f.registry) for f in (jax_funcify, jax_typify, jax_sample_fn)]


def test_stock_conversions_are_back_afterwards():
    before = tables()
    stock = jax_funcify.dispatch(Softplus), jax_sample_fn.dispatch(WeibullRV)
    with dispatch.repaired():
        assert jax_funcify.dispatch(Softplus) is not stock[0]
        assert jax_sample_fn.dispatch(WeibullRV) is not stock[1]
    assert tables() == before
    assert (jax_funcify.dispatch(Softplus), jax_sample_fn.dispatch(WeibullRV)) == stock


def test_other_threads_convert_with_the_stock_tables():
    x = pt.vector("x", shape=(1,))
    points = jnp.array([90.0])
    found = {}

    def elsewhere():
        with jax.enable_x64(False):
            found["elsewhere"] = elementwise_gradient(convert([x], [pt.softplus(x)], "stock"), points)

    with dispatch.repaired(), jax.enable_x64(False):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        found["here"] = elementwise_gradient(convert([x], [pt.softplus(x)], "stock"), points)
    assert np.isnan(found["elsewhere"]).all()
    assert np.isfinite(found["here"]).all()


def test_functions_may_be_traced_after_leaving():
    rng = generator()
    function = convert([rng], [pt.random.weibull(2.0, size=(3,), rng=rng), pt.random.categorical([0.5, 0.5], rng=rng)])
    assert WeibullRV not in jax_sample_fn.registry
    first, second = jax.jit(lambda key: function({"jax_state": key}))(jax.random.key(0))
    assert first.shape == (3,)
    assert second.shape == ()


@pytest.mark.parametrize("flag", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_importing_leaves_the_precision_alone(flag):
    code = (
        "import jax\n"
        "before = jax.config.jax_enable_x64\n"
        "from posterion.frontends.pymc import dispatch, moments, samplers, callbacks\n"
        "assert jax.config.jax_enable_x64 == before\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=os.environ | {"JAX_ENABLE_X64": flag})


# -------------------------------------------------------------------------------- rewrites


@pytest.mark.parametrize("sign", [1, -1])
def test_bernoulli_logit_needs_one_softplus(sign):
    y, logit = pt.vector("y", dtype="bool", shape=(6,)), pt.vector("logit", shape=(6,))
    branches = [-pt.softplus(-sign * logit), -pt.softplus(sign * logit)]
    fgraph = FunctionGraph([y, logit], [pt.switch(y, *branches)], clone=True)
    pytensor.compile.mode.get_mode("JAX").optimizer.rewrite(fgraph)
    before = convert(fgraph.inputs, fgraph.outputs)
    dispatch.rewrites(fgraph)

    def num_softplus(graph):
        return sum(isinstance(getattr(n.op, "scalar_op", None), Softplus) for n in graph.apply_nodes)

    assert num_softplus(fgraph) == 1
    at = np.array([True, False] * 3), np.array([-3.0, -0.1, 0.0, 0.2, 30.0, 800.0])
    with jax.enable_x64(True):
        np.testing.assert_array_equal(convert(fgraph.inputs, fgraph.outputs)(*at)[0], before(*at)[0])


@pytest.mark.parametrize("parameter", ["logit_p", "p"])
def test_a_models_bernoulli_is_rewritten(parameter):
    with pm.Model() as model:
        logit = pm.Normal("logit", shape=4)
        pm.Bernoulli(
            "y", **{parameter: logit if parameter == "logit_p" else pm.math.sigmoid(logit)}, observed=[1, 0, 1, 0]
        )
    (value,) = model.value_vars
    (term,) = model.logp(model["y"], sum=False)
    fgraph = FunctionGraph([value], [term], clone=True)
    pytensor.compile.mode.get_mode("JAX").optimizer.rewrite(fgraph)
    dispatch.rewrites(fgraph)
    text = pytensor.dprint(fgraph, file="str")
    assert text.lower().count("softplus") == 1, text


def test_other_switches_are_left_alone():
    y, x = pt.vector("y", dtype="bool", shape=(3,)), pt.vector("x", shape=(3,))
    for outputs in (
        pt.switch(y, -pt.softplus(-x), pt.softplus(x)),
        pt.switch(y, -pt.softplus(2 * x), -pt.softplus(x)),
        pt.switch(y, -pt.exp(-x), -pt.exp(x)),
    ):
        fgraph = FunctionGraph([y, x], [outputs], clone=True)
        before = pytensor.dprint(fgraph, file="str")
        dfs_rewriter(dispatch.local_bernoulli_logit).rewrite(fgraph)
        assert pytensor.dprint(fgraph, file="str") == before
