"""One target per model: kept while it is unchanged, new where it must be, gone with the model."""

import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pymc")

import pymc as pm

from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc import from_pymc
from tests.frontends.pymc.cases import CASES, GROUP, X, Y
from tests.frontends.pymc.models import classes, network_by_hand, neural_network


def density(target):
    return float(target.log_density(jnp.asarray(target.initial_point(0), "float32"), target.data))


def test_an_unchanged_model_has_one_target():
    model = CASES["regression_with_data"]()
    assert from_pymc(model) is from_pymc(model)
    assert from_pymc(model) is not from_pymc(CASES["regression_with_data"]())


def test_new_values_are_seen_by_the_same_target():
    x, y = classes(120)
    model = neural_network(x, y)
    target = from_pymc(model)
    before = density(target)
    with model:
        pm.set_data({"ann_input": x[::-1].copy(), "ann_output": y})
    assert from_pymc(model) is target
    log_prior, rows = network_by_hand(target.initial_point(0), x[::-1], y)
    np.testing.assert_allclose(density(target), log_prior + rows.sum(), rtol=1e-5)
    assert abs(density(target) - before) > 0.1


def test_other_shapes_have_a_target_of_their_own():
    x, y = classes(120)
    model = neural_network(x, y)
    first = from_pymc(model)
    with model:
        pm.set_data({"ann_input": x[:50], "ann_output": y[:50]})
    second = from_pymc(model)
    assert second is not first
    assert first.layout == second.layout
    assert first.slots == second.slots
    assert second.data["ann_input"].shape == (50, 2)
    with model:
        pm.set_data({"ann_input": x, "ann_output": y})
    assert from_pymc(model) is first


def test_values_that_decide_shapes_are_watched():
    model = CASES["shape_from_maximum_of_data"]()
    assert from_pymc(model).layout.size == 6
    with model:
        pm.set_data({"g": np.where(GROUP == 5, 8, GROUP)})
    target = from_pymc(model)
    assert target.layout.size == 9
    assert np.isfinite(density(target))


def test_frozen_values_are_watched():
    model = CASES["boolean_mask_of_data"]()
    first = from_pymc(model)
    assert from_pymc(model) is first
    before = density(first)
    with model:
        pm.set_data({"y": 2 * Y})
    second = from_pymc(model)
    assert second is not first
    expected = -np.sum((2 * Y[Y > 0]) ** 2) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(density(second), expected, rtol=1e-5)
    np.testing.assert_allclose(before, -np.sum(Y[Y > 0] ** 2) - 0.5 * np.log(2 * np.pi), rtol=1e-5)


def test_a_changed_model_has_a_new_target():
    model = CASES["regression_with_data"]()
    first = from_pymc(model)
    with model:
        pm.Normal("another")
    second = from_pymc(model)
    assert [v.name for v in first.layout.variables] == ["b", "s"]
    assert [v.name for v in second.layout.variables] == ["b", "s", "another"]
    model.set_initval(model["another"], 3.0)
    assert from_pymc(model).initial_point(0)[-1] == 3.0


def test_a_conditional_added_after_the_fit():
    """What was made of the model before still works; the model with it is another one."""
    with pm.Model() as model:
        length = pm.Gamma("length", 2, 1)
        gp = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=length))
        gp.marginal_likelihood("out", X=X[:20, :1], y=Y[:20], sigma=0.5)
    before = from_pymc(model)
    value = density(before)
    with model:
        gp.conditional("new", np.linspace(-1, 1, 4)[:, None])
    assert [v.name for v in before.layout.variables] == ["length"]
    assert density(before) == value
    assert [v.name for v in from_pymc(model).layout.variables] == ["length", "new"]


def test_two_models_on_one_array():
    shared = X.copy()

    def build(sigma):
        with pm.Model() as model:
            b = pm.Normal("b", 0, sigma, shape=3)
            pm.Normal("out", shared @ b, 1, observed=Y)
        return from_pymc(model)

    first, second = build(1.0), build(2.0)
    z = jnp.asarray([0.1, 0.2, 0.3], "float32")
    prior = [float(t.joint_terms(z, t.data).log_prior) for t in (first, second)]
    expected = [np.sum(-0.5 * (np.array(z) / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi)) for s in (1, 2)]
    np.testing.assert_allclose(prior, expected, rtol=1e-5)
    np.testing.assert_array_equal(first.data["out"], Y)


def test_do_and_observe_make_models_of_their_own():
    with pm.Model() as model:
        a = pm.Normal("a")
        b = pm.Normal("b", a, 1)
        pm.Normal("out", b, 1, observed=Y)
    intervened = from_pymc(pm.do(model, {"a": 2.0}))
    assert [v.name for v in intervened.layout.variables] == ["b"]
    start = jnp.asarray([0.5], "float32")
    expected = -0.5 * 1.5**2 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(intervened.joint_terms(start, intervened.data).log_prior, expected, rtol=1e-5)
    assert [v.name for v in from_pymc(model).layout.variables] == ["a", "b"]


def test_nested_models_are_fitted_whole():
    with pm.Model() as model:
        with pm.Model("sub") as sub:
            a = pm.Normal("a")
        pm.Normal("out", a, 1, observed=Y)
    assert [v.name for v in from_pymc(model).layout.variables] == ["sub::a"]
    assert from_pymc(sub) is from_pymc(model)


def test_the_model_is_not_changed_and_not_kept_alive():
    model = CASES["regression_with_data"]()
    before = set(vars(model)), model.basic_RVs[:], dict(model.rvs_to_values)
    target = from_pymc(model)
    assert (set(vars(model)), model.basic_RVs, model.rvs_to_values) == before
    gone = weakref.ref(model)
    del model, before
    gc.collect()
    assert gone() is None
    assert np.isfinite(density(target))  # what was made of it still works


@pytest.mark.slow
def test_threads_at_once():
    """Building, specialising and evaluating in both precisions from several threads give what one thread gives."""
    x, y = classes(60)
    expected = density(from_pymc(neural_network(x, y)))
    shared = from_pymc(neural_network(x, y))
    failures = []

    def work(number):
        try:
            own = from_pymc(neural_network(x, y))
            for target in (own, shared):
                with jax.enable_x64(bool(number % 2)):
                    z = jnp.asarray(target.initial_point(0))
                    assert z.dtype == ("float64" if number % 2 else "float32")
                    rows = slice(0, 20 + number)
                    cut = {name: a[rows] for name, a in target.data.items()}
                    assert target.joint_terms(z, cut).log_likelihood["out"].shape == (20 + number,)
                    np.testing.assert_allclose(target.log_density(z, target.data), expected, rtol=1e-5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: pm.Normal("out", 0, 1, observed=Y), "no free random variable"),
        (lambda: pm.Normal("a"), "no observed variable and no pm.Potential"),
    ],
)
def test_nothing_to_fit(build, sentence):
    with pm.Model() as model:
        build()
    with pytest.raises(UnsupportedModelError, match=sentence):
        from_pymc(model)


def test_something_else_than_a_model():
    with pytest.raises(UnsupportedModelError, match=r"A pymc\.Model is needed, not dict"):
        from_pymc({})


def test_a_symbolic_input_without_a_value():
    import pytensor.tensor as pt

    x = pt.vector("x")
    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Normal("out", b * x[0], 1, observed=Y)
    with pytest.raises(UnsupportedModelError, match="depends on x, a symbolic variable without a value"):
        from_pymc(model)
