"""Laws over the reference models: PyMC's own log density, its gradient, both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pymc")

import pymc as pm

from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc import from_pymc
from posterion.frontends.pymc.marginals import repaired_marginals
from tests.frontends.pymc.cases import (
    CASES,
    NEEDS_HOST_CALLBACKS,
    NO_PYMC_DENSITY,
    REFUSED,
    REFUSED_BY_PYMC,
    Y,
)

QUICK = {
    "regression_with_data",
    "labelled_axes_data",
    "hierarchical",
    "potential",
    "deterministic_of_observed",
    "imputed",
    "ordered_logistic",
    "lkj_cholesky",
    "minibatch_of_data",
}
SINGLE = {"o19"}
"""Where PyTensor itself takes the logarithm of a small integer constant, log(21), in single precision."""
FAST_TO_COMPILE = {"xla_backend_optimization_level": 0}
REFUSALS = set(REFUSED) | set(REFUSED_BY_PYMC)
COMPARED = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in CASES
    if name not in REFUSALS | NO_PYMC_DENSITY
]


def build(name):
    if name.startswith("marginalized"):
        pytest.importorskip("pymc_extras")
    return CASES[name]()


def pymc_terms(model, values, *, in_batches):
    """PyMC's own log density by variable; its random mini-batches replaced by all the rows."""
    plain = pm.model.transform.remove_minibatched_nodes(model) if in_batches else model
    with repaired_marginals():
        terms = plain.compile_logp(sum=False, mode="FAST_COMPILE")(values)
    names = [v.name for v in (*plain.basic_RVs, *plain.potentials)]
    return {name: float(np.sum(term)) for name, term in zip(names, terms, strict=True)}


def test_there_are_74_cases():
    assert len(CASES) == 74


@pytest.mark.parametrize("name", COMPARED)
def test_log_density_and_gradient(name):
    model = build(name)
    target = from_pymc(model, host_callbacks=name in NEEDS_HOST_CALLBACKS)
    random = np.random.default_rng(0)
    start = target.initial_point(0)
    point = start + 0.1 * random.standard_normal(start.size)
    data = target.data

    def value_and_terms(z):
        terms = target.named_terms(z, data)
        rows = {name: len(r) for name, r in target.joint_terms(z, data).log_likelihood.items()}
        scaled = {n: t * target.num_rows[n] / rows[n] if n in rows else t for n, t in terms.items()}
        return sum(scaled.values()), (scaled, target.log_density(z, data))

    with jax.enable_x64(True):
        evaluate = jax.jit(jax.value_and_grad(value_and_terms, has_aux=True), compiler_options=FAST_TO_COMPILE)
        z = jnp.asarray(point)
        (value, (terms, log_density)), gradient = evaluate(z)
        values = {
            v.name: np.asarray(u, v.dtype)
            for v, u in zip(model.value_vars, target.layout.unravel(z).values(), strict=True)
        }
        expected = pymc_terms(model, values, in_batches=target.batch_size is not None)
        assert terms.keys() == expected.keys()
        for variable, term in terms.items():
            rtol = 1e-6 if variable in SINGLE else 1e-8
            np.testing.assert_allclose(term, expected[variable], rtol=rtol, atol=1e-9, err_msg=variable)
        np.testing.assert_allclose(log_density, value, rtol=1e-12)
        # The derivative in a random direction, against central differences: error h^2 and rounding eps / h.
        direction = random.standard_normal(z.size)
        step = 1e-5
        difference = (evaluate(z + step * direction)[0][0] - evaluate(z - step * direction)[0][0]) / (2 * step)
        np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-4, atol=1e-4)

    evaluate = jax.jit(jax.value_and_grad(value_and_terms, has_aux=True), compiler_options=FAST_TO_COMPILE)
    (single, _), single_gradient = evaluate(jnp.asarray(point, "float32"))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, value, rtol=1e-3)
    np.testing.assert_allclose(single_gradient, gradient, rtol=1e-2, atol=1e-2 * max(1, np.abs(gradient).max()))


def test_one_array_observed_twice():
    target = from_pymc(CASES["same_data_twice"]())
    with jax.enable_x64(True):
        terms = target.named_terms(jnp.asarray([0.3]), target.data)
    residual = -0.5 * (Y - 0.3) ** 2 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(terms["o1"], residual.sum(), rtol=1e-12)
    wide = -0.125 * (Y - 0.3) ** 2 - 0.5 * np.log(2 * np.pi) - np.log(2)
    np.testing.assert_allclose(terms["o2"], wide.sum(), rtol=1e-8)  # PyTensor takes log of an int8 as float32
    assert list(target.slots) == ["y"]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    with pytest.raises(UnsupportedModelError, match=REFUSED[name]):
        from_pymc(CASES[name]())


@pytest.mark.parametrize("name", REFUSED_BY_PYMC)
def test_refused_by_pymc(name):
    with pytest.raises(REFUSED_BY_PYMC[name]):
        CASES[name]()


def test_host_callbacks_are_offered():
    with pytest.raises(UnsupportedModelError, match=r"potential 'black_box'.*BlackBox.*host_callbacks=True"):
        from_pymc(CASES["black_box_potential"]())


@pytest.mark.parametrize("name", ["lkj_cholesky", "regression_with_data"])
def test_double_precision_has_no_single_precision_inside(name):
    target = from_pymc(CASES[name]())
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(target.log_density)(jnp.asarray(target.initial_point(0)), target.data)
    assert "f32[" not in str(jaxpr)


def test_single_precision_has_no_double_precision_inside():
    target = from_pymc(CASES["regression_with_data"]())
    with jax.enable_x64(True):  # the vector decides, not the flag that happens to be set
        jaxpr = jax.make_jaxpr(target.log_density)(jnp.asarray(target.initial_point(0), "float32"), target.data)
    assert "f64[" not in str(jaxpr.jaxpr.eqns[5:])
