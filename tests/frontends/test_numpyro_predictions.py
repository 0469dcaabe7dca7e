"""Predictions of NumPyro models: moments against draws and against NumPyro's own Predictive, new rows of any number."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import Predictive

from posterion.errors import DataError, UnsupportedModelError
from posterion.frontends.numpyro import from_numpyro
from posterion.predictive import predict
from tests.frontends import numpyro_cases as cases
from tests.frontends.numpyro_cases import CASES, X

DRAWS = 3000


def target_of(name):
    case = CASES[name]
    return from_numpyro(case.model, case.args, case.kwargs)


@pytest.mark.parametrize("name", ["radon", "ordered_logit", "correlated", "matrix", "autoregression"])
def test_draws_have_the_moments_that_are_claimed(name):
    target = target_of(name)

    def both(z, data):
        keys = jax.random.split(jax.random.key(3), DRAWS)
        return target.moments(z, data), jax.vmap(lambda key: target.simulate(key, z, data))(keys)

    with jax.enable_x64(True):
        z = jnp.asarray(np.random.default_rng(4).standard_normal(target.layout.size) / 2)
        moments, draws = jax.device_get(jax.jit(both)(z, target.as_arrays(target.data)))
    assert set(moments) == {name for name, what in target.observed.items() if what.has_moments}
    for variable, (mean, variance) in moments.items():
        found = draws[variable]
        if target.observed[variable].kind == "categorical":
            found = np.eye(target.observed[variable].num_categories)[found]
        assert mean.shape == variance.shape == found.shape[1:]
        assert found.shape[1] == target.num_rows[variable]
        errors = (found.mean(axis=0) - mean) / np.sqrt(variance / DRAWS)
        assert np.abs(errors).max() < 4.5
        assert abs(np.mean(found.var(axis=0) / variance) - 1) < 0.05


@pytest.mark.parametrize("name", ["network", "radon", "ordered_logit", "eight_schools"])
def test_predictions_agree_with_numpyros_predictive(name):
    case, target = CASES[name], target_of(name)
    z = 0.7 * np.random.default_rng(5).standard_normal((DRAWS, target.layout.size))
    new = {"network": (X[:9],), "radon": (np.arange(7), 7, X[:7, 0]), "ordered_logit": (X[:9],)}.get(
        name, case.args[:2]
    )
    names = {"network": ["x"], "radon": ["county", None, "floor"], "ordered_logit": ["x"]}.get(name, [None, "errors"])
    prediction = predict(
        target, z, {n: a for n, a in zip(names, new, strict=True) if n is not None}, key=jax.random.key(0), x64=True
    )
    with jax.enable_x64(True):
        values = jax.jit(jax.vmap(lambda z: target.constrain(z, target.as_arrays(target.data))))(z)
        samples = {v.name: values[v.name] for v in target.layout.variables}
        new = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, new)
        theirs = Predictive(case.model, samples, batch_ndims=1)(jax.random.key(1), *new)
    (variable,) = target.observed
    drawn = np.asarray(theirs[variable], float)
    if target.observed[variable].kind == "categorical":
        drawn = np.eye(3)[drawn.astype(int)]
    assert prediction.mean[variable].shape == drawn.shape[1:]
    errors = (prediction.mean[variable] - drawn.mean(axis=0)) / (drawn.std(axis=0) / np.sqrt(DRAWS))
    assert np.abs(errors).max() < 5  # both are Monte Carlo estimates over the same draws of z
    np.testing.assert_allclose(prediction.std[variable], drawn.std(axis=0), rtol=0.15)
    if name == "radon":
        np.testing.assert_allclose(prediction.mean["mean"], np.asarray(theirs["mean"]).mean(axis=0), rtol=1e-6)


def test_outcomes_of_a_loaded_outcome_are_drawn_in_order():
    """The second outcome depends on the first one's draw, not on its observed value."""
    target = target_of("two_outcomes")
    with jax.enable_x64(True):
        z = jnp.zeros(4)
        data = target.as_arrays(target.data)
        draw = jax.jit(target.simulate)(jax.random.key(0), z, {**data, "y": data["y"] + 1e6})
    assert np.asarray(draw["count"]).max() < 50


@pytest.mark.parametrize("rows", [1, 7, 90])
def test_any_number_of_rows(rows):
    target = target_of("radon")
    draws = np.random.default_rng(0).standard_normal((20, target.layout.size))
    county, floor = np.arange(rows) % 7, np.linspace(-1, 1, rows)
    found = predict(target, draws, {"county": county, "floor": floor}, key=jax.random.key(0), x64=True)
    level = draws[:, [v.name for v in target.layout.variables].index("level") :]
    assert found.mean["log_radon"].shape == (rows,)
    values = {v.name: draws[:, target.layout.slices[v.name]] for v in target.layout.variables}
    expected = values["level"][:, county] + values["slope"] * floor
    np.testing.assert_allclose(found.mean["mean"], expected.mean(axis=0), atol=1e-12)
    assert level.shape[1] >= 7


def test_rows_of_a_plate_of_fixed_size_can_be_others():
    """A plate whose size is an argument of its own, as in the eight schools: new schools are drawn from their prior."""
    target = target_of("eight_schools")
    draws = np.zeros((4000, target.layout.size))
    draws[:, 0], draws[:, 1], draws[:, 2:] = 3.0, np.log(2.0), 1.5
    fitted = predict(target, draws, {"errors": cases.ERRORS}, key=jax.random.key(0), x64=True)
    np.testing.assert_allclose(fitted.mean["effect"], 6.0, atol=5 * 18 / np.sqrt(4000))
    new = predict(target, draws, {"errors": np.full(3, 0.5)}, key=jax.random.key(0), x64=True)
    np.testing.assert_allclose(new.mean["effect"], 3.0, atol=5 * 2.1 / np.sqrt(4000))
    np.testing.assert_allclose(new.std["effect"], np.hypot(2.0, 0.5), rtol=0.06)


def test_subsampled_models_predict_all_rows():
    target = target_of("subsampled")
    draws = np.random.default_rng(0).standard_normal((10, target.layout.size))
    found = predict(target, draws, {"x": X[:7]}, key=jax.random.key(0), x64=True)
    np.testing.assert_allclose(found.mean["y"], (X[:7] @ draws[:, :2].T).mean(axis=1), atol=1e-12)


def test_masks_and_weights_need_not_be_passed():
    for name, extra in (("masked", "known"), ("weighted", "weights")):
        target = target_of(name)
        complete = target.new_rows({"x": X[:5]})
        np.testing.assert_array_equal(complete[extra], np.ones(5))
        assert complete["y"].shape == (5,)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("radon", {"county": [0, 1]}, r"incomplete: pass 'floor' with shape \(2,\) too"),
        ("radon", {"county": [0, 7], "floor": [0.0, 1.0]}, r"'county' is an index into 7 entries .* holds 7"),
        ("radon", {"county": [0, 1], "floor": [0.0]}, "must be the same"),
        ("radon", {"floors": [0.0]}, r"No input is named 'floors'. The inputs are: 'county', 'floor', 'y'"),
        ("radon", {"county": [0.5], "floor": [0.0]}, "whole numbers"),
        ("network", {"x": X[:3, :1]}, r"'x' has shape \(3, 1\) and needs \(rows, 2\)"),
        ("network", {"x": [["a", "b"]]}, "holds text"),
        ("network", {"x": [[np.nan, 0.0]]}, r"missing \(NaN\)"),
        ("conditioned", {"x": X[:3]}, r"needs \(60, 2\)"),
    ],
)
def test_new_rows_that_do_not_fit_are_explained(name, data, message):
    with pytest.raises(DataError, match=message):
        target_of(name).new_rows(data)


def test_models_of_factors_predict_nothing():
    with pytest.raises(UnsupportedModelError, match="no observed site to predict"):
        target_of("row_factors").new_rows({"x": X, "y": cases.LINE})


def test_closed_over_rows_are_refused_not_taken_by_position():
    """A model that indexes a global array by its plate's rows would take its first entries for any new rows."""

    def model(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("row", 60) as rows:
            numpyro.sample("y", dist.Normal(slope * x + cases.X[:, 1][jnp.asarray(rows)], 1), obs=y)

    def closing(x, y=None):
        offset = jnp.asarray(cases.X[:, 1])
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("row", 60) as rows:
            numpyro.sample("y", dist.Normal(slope * x + offset[rows], 1), obs=y)

    with pytest.raises(DataError, match=r"closes over an array of shape \(60,\)"):
        from_numpyro(closing, (X[:, 0], cases.LINE)).new_rows({"x": X[:3, 0]})
    with pytest.raises(UnsupportedModelError, match="use jax.numpy"):
        from_numpyro(model, (X[:, 0], cases.LINE))
