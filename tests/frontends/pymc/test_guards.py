"""Gradients far out, where the branch not taken overflows, against PyTensor's own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pymc")

from posterion.compilation.minor_axis import batch_minor
from posterion.frontends import target_of
from posterion.frontends.pymc import dispatch, guards

# isort: split
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import rewrite_pregrad
from pytensor.compile.mode import Mode
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.jax.dispatch import jax_funcify
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor.elemwise import Elemwise

SLOW_TO_COMPILE = {"censored above", "censored below", "ordered probit", "skew normal"}
PYTHON_MODE = Mode("py", None)
FIXED = "upstream fixed: remove the guards"
CASES = {
    "censored below": lambda mu: pm.logp(pm.Censored.dist(pm.Normal.dist(mu, 1.0), lower=0.0, upper=None), [0.0]),
    "censored above": lambda mu: pm.logp(pm.Censored.dist(pm.Normal.dist(mu, 1.0), lower=None, upper=0.0), [0.0]),
    "truncated normal": lambda mu: pm.logp(pm.TruncatedNormal.dist(mu, 1.0, lower=0.0, upper=1.0), [0.5]),
    "ex-gaussian": lambda mu: pm.logp(pm.ExGaussian.dist(mu=mu, sigma=1.0, nu=2.0), [0.5]),
    "skew normal": lambda mu: pm.logp(pm.SkewNormal.dist(mu=mu, sigma=1.0, alpha=2.0), [0.5]),
    "ordered probit": lambda mu: pm.logp(pm.OrderedProbit.dist(eta=mu, cutpoints=np.array([-1.0, 1.0])), [1]),
}


@node_rewriter([CheckAndRaise])
def drop_check(fgraph, node):
    return [node.inputs[0]]


def rewritten(mu, output):
    fgraph = FunctionGraph([mu], [output], clone=True)
    dfs_rewriter(drop_check).rewrite(fgraph)
    pytensor.compile.mode.get_mode("JAX").optimizer.rewrite(fgraph)
    return fgraph


def values_and_gradients(fgraph, points):
    with dispatch.repaired():
        function = jax_funcify(fgraph)
    return jax.vmap(jax.value_and_grad(lambda m: function(m[None])[0].sum()))(jnp.asarray(points))


@pytest.mark.parametrize(
    ("case", "x64"),
    [pytest.param(case, True, marks=[pytest.mark.slow] * (case in SLOW_TO_COMPILE)) for case in CASES]
    + [pytest.param(case, False, marks=[pytest.mark.slow] * (case != "truncated normal")) for case in CASES],
)
def test_gradients_far_out(case, x64):
    mu = pt.vector("mu", shape=(1,))
    output = CASES[case](mu)
    points = np.array([-60.0, -20.0, -9.0, -3.0, 0.0, 3.0, 9.0, 20.0, 60.0])
    with jax.enable_x64(x64):
        fgraph = rewritten(mu, output)
        assert not np.isfinite(values_and_gradients(fgraph, points)[1]).all(), FIXED
        guards.guard_branches(fgraph)
        values, found = values_and_gradients(fgraph, points)
    reference = pytensor.function(
        [mu], pytensor.grad(rewrite_pregrad(output.sum()), mu), mode=pytensor.compile.mode.Mode("py", "fast_run")
    )
    expected = np.array([reference([p])[0] for p in points])
    known = np.isfinite(expected) & np.isfinite(values)
    assert known.sum() >= 5
    assert np.isfinite(found).all()
    # PyTensor's own differences of nearly equal numbers lose some digits in the tails.
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-5 if x64 else 2e-3, atol=1e-6 if x64 else 1e-3)


def test_values_and_second_derivatives():
    mu = pt.vector("mu", shape=(1,))
    fgraph = rewritten(mu, CASES["censored below"](mu))
    points = jnp.array([[-3.0], [0.0], [3.0], [20.0]])
    with jax.enable_x64(True):
        points = jnp.asarray(points, float)
        with dispatch.repaired():
            stock = jax_funcify(fgraph)
            guards.guard_branches(fgraph)
            guarded = jax.jit(jax_funcify(fgraph))
        np.testing.assert_array_equal(jax.vmap(guarded)(points)[0], jax.vmap(stock)(points)[0])
        curvature = jax.vmap(jax.hessian(lambda m: guarded(m)[0].sum()))(points).ravel()
        step = 1e-4
        slope = jax.vmap(jax.grad(lambda m: guarded(m)[0].sum()))
        np.testing.assert_allclose(
            curvature, ((slope(points + step) - slope(points - step)) / (2 * step)).ravel(), rtol=1e-5
        )


def num_guarded(fgraph):
    return sum(isinstance(getattr(n.op, "scalar_op", None), guards.Guarded) for n in fgraph.apply_nodes)


def test_only_what_serves_one_branch_is_guarded():
    x, y = pt.vector("x", shape=(3,)), pt.vector("y", dtype="bool", shape=(3,))
    shared = pt.exp(x) * 3.0
    for output, expected in (
        (pt.switch(y, pt.log(shared), pt.sqrt(shared)), 2),  # log and sqrt; exp and mul serve both
        (pt.switch(y, pt.log(shared), -x), 3),
        (pt.switch(y, pt.log(shared), -x) + shared, 1),
        (pt.switch(y, -x, x), 0),
        (pt.log(shared), 0),
    ):
        fgraph = FunctionGraph([x, y], [output], clone=True)
        guards.guard_branches(fgraph)
        assert num_guarded(fgraph) == expected
        guards.guard_branches(fgraph)
        assert num_guarded(fgraph) == expected
        at = {x: np.array([0.5, 1.0, 2.0]), y: np.array([True, False, True])}
        values = [
            pytensor.function(inputs, result, mode=PYTHON_MODE, on_unused_input="ignore")(*at.values())
            for inputs, result in ((list(at), output), (fgraph.inputs, fgraph.outputs[0]))
        ]
        np.testing.assert_array_equal(*values)


def test_a_network_with_a_bernoulli_outcome_needs_no_guard():
    weights, data = pt.matrix("weights", shape=(4, 2)), np.ones((5, 4))
    logit = pt.tanh(data @ weights).sum(axis=-1)
    output = pm.logp(pm.Bernoulli.dist(logit_p=logit), np.array([0, 1, 1, 0, 1]))
    fgraph = rewritten(weights, output)
    dispatch.rewrites(fgraph)
    assert num_guarded(fgraph) == 0
    assert any(isinstance(n.op, Elemwise) for n in fgraph.apply_nodes)


def test_a_guarded_product_with_whole_numbers_leaks_no_tracer():
    """Counts are integers: the tangent rule took them from outside, and the batch-minor pass traced them twice."""
    with pm.Model() as model:
        log_rate = pm.Normal("log_rate", 0, 1, shape=3)
        pm.Poisson("k", pm.math.exp(log_rate), observed=[1, 2, 0])
    target = target_of(model)
    at, data = jnp.zeros(3), target.as_arrays(target.data)
    gradient = jax.jit(jax.grad(batch_minor(target.log_density))).lower(at, data).compile()(at, data)
    np.testing.assert_allclose(gradient, [0.0, 1.0, -1.0], atol=1e-6)  # k - exp(0) - 0
