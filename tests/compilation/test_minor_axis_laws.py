"""Laws of the batch-minor pass: on every function, values and derivatives are those of the function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.compilation.minor_axis import batch_minor, pack
from tests.compilation.minor_axis_cases import CASES, data, parameters

ALWAYS = """tanh relu_tanh gelu softplus_sigmoid softmax_pick index_pick logsumexp_loss mixture layer_norm sorted_hidden
skip_connection checkpointed attention convolution_of_hidden recurrent conditional loop varying_slopes cut_up flattened
already_minor custom_vjp custom_jvp_with_integer""".split()
"""Cases that a bare pytest runs, one per idea; the others are run with the slow tests."""

SINGLE = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in CASES]

ROW_AXES = dict.fromkeys(data("float32"), 0)


def run_quickly(function, *arguments):
    """Compile with few optimisations (the laws hold without them) and run."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arguments).compile(compiler_options=options)(*arguments)


def derivatives(case, function):
    """A function that gives value, gradient, directional derivative and Hessian-vector product."""

    def all_at_once(z, direction, values):
        value_and_gradient = jax.value_and_grad(lambda z: function(z, values))
        if not case.has_forward_mode:
            return dict(zip(("value", "gradient"), value_and_gradient(z), strict=True))
        (value, gradient), (slope, curvature) = jax.jvp(value_and_gradient, (z,), (direction,))
        return {"value": value, "gradient": gradient, "jvp": slope, "hvp": curvature}

    return all_at_once


def assert_close(found, expected, spacings=64):
    """Equal up to rounding: relative to the largest entry, in units of the precision's spacing."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, wanted), got in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True):
        assert (got.dtype, got.weak_type) == (wanted.dtype, wanted.weak_type)
        assert np.all(np.isfinite(wanted)), path
        tolerance = spacings * np.finfo(wanted.dtype).eps * np.max(np.abs(wanted), initial=1e-30)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=str(path))


def assert_pass_worked(case, wrapped):
    """Without this, a pass that had silently stopped working would obey every law."""
    assert wrapped.statistics.refused == ""
    assert wrapped.statistics.flipped >= case.flips
    assert set(wrapped.statistics.fallbacks) <= case.fallbacks


@pytest.mark.parametrize("name", SINGLE)
def test_value_and_gradient_in_single_precision(name):
    case, values, z = CASES[name], data("float32"), parameters("float32")
    wrapped = batch_minor(case.function)
    found = run_quickly(jax.value_and_grad(wrapped), z, pack(values, ROW_AXES))
    assert_pass_worked(case, wrapped)
    assert_close(found, run_quickly(jax.value_and_grad(case.function), z, values))


@pytest.mark.parametrize("name", ["relu_tanh", "mixture", "checkpointed", "custom_jvp_with_integer"])
def test_derivatives_of_every_kind_in_single_precision(name):
    case, values = CASES[name], data("float32")
    z, direction = parameters("float32"), parameters("float32", seed=2)
    found = run_quickly(derivatives(case, batch_minor(case.function)), z, direction, pack(values, ROW_AXES))
    assert_close(found, run_quickly(derivatives(case, case.function), z, direction, values))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_every_kind_in_double_precision_for_many_z_at_once(name):
    case = CASES[name]
    with jax.enable_x64(True):
        values = jax.tree.map(jnp.asarray, data("float64"))
        z = jnp.asarray([parameters("float64"), parameters("float64", seed=2)])
        wrapped = batch_minor(case.function)
        found = run_quickly(jax.vmap(derivatives(case, wrapped), (0, 0, None)), z, z[::-1], pack(values, ROW_AXES))
        assert_pass_worked(case, wrapped)
        assert_close(found, run_quickly(jax.vmap(derivatives(case, case.function), (0, 0, None)), z, z[::-1], values))


def test_unpacked_data_give_the_same():
    case, values, z = CASES["softmax_pick"], data("float32"), parameters("float32")
    wrapped = batch_minor(case.function)
    found = run_quickly(jax.value_and_grad(wrapped), z, values)
    assert_close(found, run_quickly(jax.value_and_grad(case.function), z, values))
    assert_pass_worked(case, wrapped)


def test_full_hessian_and_the_pass_around_a_gradient():
    case, values = CASES["tanh"], data("float32")
    z, packed = jnp.asarray(parameters("float32")), pack(values, ROW_AXES)
    expected = run_quickly(jax.hessian(case.function), z, values)
    assert_close(run_quickly(jax.hessian(batch_minor(case.function)), z, packed), expected)
    outside = batch_minor(jax.value_and_grad(case.function))
    assert_close(run_quickly(outside, z, packed), run_quickly(jax.value_and_grad(case.function), z, values))
    assert outside.statistics.flipped >= 3


@jax.custom_jvp
def guarded_softplus(x):
    """Its own derivative is inf * 0 = NaN at 1000, in the branch that `where` does not take."""
    return jnp.where(x > 30, x, jnp.log1p(jnp.exp(x)))


@guarded_softplus.defjvp
def _(primals, tangents):
    return guarded_softplus(*primals), jax.nn.sigmoid(*primals) * tangents[0]


@pytest.mark.parametrize("logit", [-1000.0, 0.0, 1000.0])
def test_safe_derivatives_stay_safe(logit):
    """A rule written for the sake of a derivative must survive the pass."""

    def log_density(z, x):
        logits = x @ z.reshape(2, 2)
        safe = guarded_softplus(logits) + jax.nn.softplus(logits) + jax.nn.relu(logits)
        return jnp.sum(safe + jax.nn.log_softmax(logits)[:, :1])

    x = jnp.full((40, 2), logit, "float32")
    z = jnp.array([1.0, 0.5, 0.25, 0.125], "float32")
    wrapped = batch_minor(log_density)
    found, expected = run_quickly(jax.grad(wrapped), z, pack(x)), run_quickly(jax.grad(log_density), z, x)
    assert wrapped.statistics.flipped == 1
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.all(np.isfinite(run_quickly(jax.hessian(wrapped), z, pack(x))))


def test_gradient_against_finite_differences():
    """Independent of JAX's derivatives altogether."""
    case = CASES["mixture"]
    with jax.enable_x64(True):
        z, packed = parameters("float64"), pack(data("float64"), ROW_AXES)
        value = jax.jit(batch_minor(case.function))
        gradient = jax.grad(value)(z, packed)
        step = 1e-6
        for entry in (0, 17, 60, 85):
            shift = step * np.eye(len(z))[entry]
            slope = (value(z + shift, packed) - value(z - shift, packed)) / (2 * step)
            np.testing.assert_allclose(gradient[entry], slope, rtol=1e-6, atol=1e-6)
