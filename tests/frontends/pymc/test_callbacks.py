import contextlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pymc")

import posterion as po
from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc import callbacks, dispatch, from_pymc

# isort: split
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import Op
from pytensor.link.jax.dispatch import jax_funcify
from pytensor.link.jax.dispatch.random import jax_sample_fn


def convert(inputs, outputs, *, on_host=True):
    fgraph = FunctionGraph(list(inputs), list(outputs), clone=True)
    pytensor.compile.mode.get_mode("JAX").optimizer.rewrite(fgraph)
    with callbacks.host_callbacks() if on_host else contextlib.nullcontext(), dispatch.repaired():
        return jax_funcify(fgraph)


class Swirl(Op):
    """A black box: (x, k) -> (k sin x, sum of cos x), with k an integer."""

    calls = 0

    def make_node(self, x, k):
        x, k = pt.as_tensor(x), pt.as_tensor(k)
        return Apply(self, [x, k], [x.type(), pt.dscalar()])

    def perform(self, node, inputs, outputs):
        x, k = inputs
        assert x.dtype == np.float64
        Swirl.calls += 1
        outputs[0][0] = k * np.sin(x)
        outputs[1][0] = np.cos(x).sum()

    def L_op(self, inputs, outputs, cotangents):
        x, k = inputs
        zero = [
            pt.zeros_like(o) if isinstance(g.type, pytensor.gradient.DisconnectedType) else g
            for o, g in zip(outputs, cotangents, strict=True)
        ]
        return [zero[0] * k * pt.cos(x) - zero[1] * pt.sin(x), pytensor.gradient.DisconnectedType()()]

    def connection_pattern(self, node):
        return [[True, True], [False, False]]


class SwirlByPullback(Swirl):
    """The same with the gradient under PyTensor's new name for it."""

    L_op = Op.L_op

    def pullback(self, inputs, outputs, cotangents):
        return Swirl.L_op(self, inputs, outputs, cotangents)


class WithoutShape(Op):
    def make_node(self, x):
        return Apply(self, [pt.as_tensor(x)], [pt.dvector()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = np.asarray(inputs[0])[:2] ** 2


class WithInferShape(WithoutShape):
    def infer_shape(self, node, shapes):
        return [(2,)]


@pytest.fixture(params=[Swirl, SwirlByPullback])
def swirl(request):
    x, k = pt.vector("x", shape=(3,)), pt.scalar("k", dtype="int64")
    return convert([x, k], request.param()(x, k))


def test_value_and_gradient_of_a_black_box(swirl):
    x = jnp.array([0.1, 0.7, 2.0])

    def total(x):
        first, second = swirl(x, 3)
        return jnp.sum(first**2) + second

    value, gradient = jax.jit(jax.value_and_grad(total))(x)
    x = np.asarray(x)
    np.testing.assert_allclose(value, np.sum((3 * np.sin(x)) ** 2) + np.cos(x).sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, 18 * np.sin(x) * np.cos(x) - np.sin(x), rtol=1e-6)


@pytest.mark.parametrize("x64", [True, False])
def test_precision_follows_the_caller(swirl, x64):
    with jax.enable_x64(x64):
        dtype = np.float64 if x64 else np.float32
        first, second = jax.jit(swirl)(jnp.array([0.1, 0.7, 2.0]), 2)
        gradient = jax.grad(lambda x: swirl(x, 2)[1])(jnp.array([0.1, 0.7, 2.0]))
        assert first.dtype == second.dtype == gradient.dtype == dtype
        np.testing.assert_allclose(gradient, -np.sin([0.1, 0.7, 2.0]), rtol=1e-14 if x64 else 1e-6)


def test_mapped_scanned_and_called_from_threads(swirl):
    points = jnp.linspace(0.0, 2.0, 12).reshape(4, 3)
    expected = -np.sin(np.asarray(points))
    gradient = jax.jit(jax.grad(lambda x: swirl(x, 2)[1]))
    np.testing.assert_allclose(jax.vmap(gradient)(points), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.lax.map(gradient, points), expected, rtol=1e-6)
    found = {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: gradient(points[k])})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose([found[k] for k in range(4)], expected, rtol=1e-6)


def test_large_arrays_pass():
    x, k = pt.vector("x", shape=(300_000,)), pt.scalar("k", dtype="int64")
    converted = convert([x, k], Swirl()(x, k))
    function = jax.jit(jax.grad(lambda x: converted(x * 2.0, 2)[1]))
    at = jnp.linspace(0.0, 1.0, 300_000)
    np.testing.assert_allclose(function(at), -2 * np.sin(2 * np.asarray(at)), rtol=1e-5, atol=1e-6)


def test_without_the_context_it_is_refused_and_nothing_is_left_behind():
    x, k = pt.vector("x", shape=(3,)), pt.scalar("k", dtype="int64")
    before = dict(jax_funcify.registry), dict(jax_sample_fn.registry)
    convert([x, k], Swirl()(x, k))
    assert (dict(jax_funcify.registry), dict(jax_sample_fn.registry)) == before
    with pytest.raises(NotImplementedError, match="Swirl"):
        convert([x, k], Swirl()(x, k), on_host=False)


def test_shapes_come_from_infer_shape_or_the_model_is_refused():
    x = pt.vector("x", shape=(3,))
    with pytest.raises(UnsupportedModelError, match="infer_shape"):
        convert([x], [WithoutShape()(x)])
    np.testing.assert_allclose(jax.jit(convert([x], [WithInferShape()(x)]))(jnp.array([1.0, 2.0, 3.0]))[0], [1.0, 4.0])


def test_an_op_without_gradient_says_so_when_one_is_asked_for():
    x = pt.vector("x", shape=(3,))
    function = convert([x], [WithInferShape()(x)])
    with pytest.raises(UnsupportedModelError, match="pullback"):
        jax.grad(lambda x: function(x)[0].sum())(jnp.ones(3))


def test_elementwise_functions_without_a_jax_version():
    nu, x = pt.scalar("nu"), pt.vector("x", shape=(3,))
    output = pt.kve(nu, x)
    with pytest.raises(NotImplementedError):
        convert([nu, x], [output], on_host=False)
    from scipy.special import kve

    at = np.array([0.5, 1.0, 4.0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(convert([nu, x], [output])(1.5, at)[0], kve(1.5, at), rtol=1e-14)


# --------------------------------------------------------------------------------------------- whole models


class Far(Op):
    """A black box whose result is nothing without double precision: x -> 1e6 + sin x."""

    in_double = set()  # whether JAX had double precision in the threads that called

    def make_node(self, x):
        x = pt.as_tensor(x)
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, outputs):
        Far.in_double.add(jax.config.jax_enable_x64)
        outputs[0][0] = 1e6 + np.sin(inputs[0])

    def pullback(self, inputs, outputs, cotangents):
        return [cotangents[0] * pt.cos(inputs[0])]


@pytest.fixture(scope="module")
def far():
    """A model with a black box, and its target."""
    with pm.Model() as model:
        x = pm.Normal("x", shape=3)
        pm.Normal("y", Far()(x) - 1e6, 0.1, observed=[0.1, 0.2, 0.3])
    return model, from_pymc(model, host_callbacks=True)


def test_double_precision_passes_threads_that_have_single(far):
    model, target = far
    points = np.random.default_rng(0).normal(size=(20, 3))
    mode = pytensor.compile.mode.Mode("py", "fast_run")
    logp, dlogp = model.compile_logp(mode=mode), model.compile_dlogp(mode=mode)
    with jax.enable_x64(True):
        slow = jax.jit(lambda a: jax.lax.fori_loop(0, 300, lambda _, a: jnp.tanh(a @ a / 1000), a))
        all_of = lambda z, data: jax.lax.map(jax.value_and_grad(lambda z: target.log_density(z, data)), z)
        after = jax.jit(lambda a, z: all_of(z + 0 * a[0, 0], target.data))
        after(slow(jnp.ones((300, 300))), points)  # compiled
        Far.in_double.clear()
        # What waits for something else runs in a thread of XLA's.
        values, gradients = map(np.asarray, after(slow(jnp.ones((300, 300))), points))
    assert False in Far.in_double
    np.testing.assert_allclose(values, [logp({"x": z}) for z in points], rtol=1e-8)
    np.testing.assert_allclose(gradients, [dlogp({"x": z}) for z in points], rtol=1e-8)


def test_second_derivatives(far):
    _, target = far
    with jax.enable_x64(True):
        z = jnp.array([0.3, -1.2, 2.0])
        found = jax.hessian(target.log_density)(z, target.data)
    s, y = np.sin(z), np.array([0.1, 0.2, 0.3])
    # Differences have ten digits; six of them go with the million that is added.
    np.testing.assert_allclose(found, np.diag(-1 - 100 * (np.cos(z) ** 2 + (y - s) * s)), rtol=1e-4, atol=1e-6)


def test_a_black_box_is_fitted_by_default(far):
    approx = po.fit(far[1], n=500, progress=False, random_seed=1)
    # Near zero the sine is a line: y ~ Normal(x, 0.1) under x ~ Normal(0, 1).
    draws = approx.sample(1000)["posterior"]["x"].values[0]
    np.testing.assert_allclose(draws.mean(0), np.arcsin([0.1, 0.2, 0.3]) / 1.01, atol=0.03)
    np.testing.assert_allclose(draws.std(0), 0.1, rtol=0.2)


# --------------------------------------------------------------------------------------------- PyMC's own


def compare_with_pymc(model, points):
    value_variables = model.value_vars
    mode = pytensor.compile.mode.Mode("py", "fast_run")
    logp, dlogp = model.compile_logp(mode=mode), model.compile_dlogp(mode=mode)
    with jax.enable_x64(True):
        function = convert(value_variables, [model.logp()])
        for point in points:
            arguments = [jnp.asarray(point[v.name]) for v in value_variables]
            value, gradient = jax.jit(
                jax.value_and_grad(lambda *args: function(*args)[0], argnums=tuple(range(len(arguments))))
            )(*arguments)
            np.testing.assert_allclose(value, logp(point), rtol=1e-10)
            np.testing.assert_allclose(np.concatenate([np.ravel(g) for g in gradient]), dlogp(point), rtol=1e-6)


def test_interpolated():
    knots = np.linspace(-3.0, 3.0, 40)
    with pm.Model() as model:
        pm.Interpolated("x", knots, stats.norm.pdf(knots))
    name = model.value_vars[0].name
    compare_with_pymc(model, [{name: np.array(v)} for v in (-1.3, 0.2, 0.9)])


def test_differential_equation():
    times = np.linspace(0.5, 2.0, 4)
    system = pm.ode.DifferentialEquation(
        func=lambda y, t, p: [-p[0] * y[0]], times=times, n_states=1, n_theta=1, t0=0.0
    )
    with pm.Model() as model:
        rate = pm.Normal("rate")
        curve = system(y0=[2.0], theta=[rate])
        pm.Normal("y", curve[:, 0], 0.1, observed=2 * np.exp(-0.7 * times))
    compare_with_pymc(model, [{"rate": np.array(v)} for v in (0.4, 0.7)])


def test_random_variables_without_a_sampler_are_drawn_on_the_host():
    mu = pt.vector("mu", shape=(2,))
    variable = pm.CustomDist.dist(mu, random=lambda mu, rng=None, size=None: rng.normal(mu, 0.5, size), shape=(4000, 2))
    rng = variable.owner.inputs[0]
    with pytest.raises(NotImplementedError):
        convert([rng, mu], [variable], on_host=False)
    function = convert([rng, mu], [variable])
    draw = jax.jit(lambda key: function({"jax_state": key}, jnp.array([1.0, 2.0]))[0])
    draws = np.asarray(draw(jax.random.key(1)))
    np.testing.assert_array_equal(draws, draw(jax.random.key(1)))
    assert not np.array_equal(draws, draw(jax.random.key(2)))
    assert np.all(np.abs(draws.mean(0) - [1, 2]) < 5 * 0.5 / np.sqrt(4000))
    several = jax.vmap(draw)(jax.random.split(jax.random.key(3), 3))
    assert len(np.unique(several[:, 0, 0])) == 3
