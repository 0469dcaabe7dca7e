"""Predictions for other rows: completed, checked, and drawn as PyMC draws them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("pymc")

import pymc as pm

from posterion.errors import DataError, UnsupportedModelError
from posterion.frontends.pymc import from_pymc
from tests.frontends.pymc.cases import CASES, ROWS, Y
from tests.frontends.pymc.models import classes, neural_network


@pytest.fixture(scope="module")
def network():
    return from_pymc(neural_network(*classes(120)))


@pytest.fixture(scope="module")
def hierarchical():
    return from_pymc(CASES["hierarchical"]())


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        np.ndarray.tolist,
        lambda a: pd.DataFrame(a, columns=["radius", "texture"]),
        lambda a: xr.DataArray(a, dims=("patient", "column")),
        lambda a: a.astype("float32"),
        jnp.asarray,
    ],
)
def test_anything_like_an_array_is_taken(network, wrap):
    x = classes(7, seed=3)[0]
    rows = network.new_rows({"ann_input": wrap(x)})
    np.testing.assert_allclose(rows["ann_input"], x, rtol=1e-6)
    assert rows["ann_output"].shape == (7,)
    assert all(isinstance(a, np.ndarray) for a in rows.values())


def test_outcomes_are_not_needed_but_may_be_passed(network):
    x, y = classes(120, seed=3)  # as many rows as the model has: its own outcomes are not those of the new rows
    assert not network.new_rows({"ann_input": x})["ann_output"].any()
    np.testing.assert_array_equal(network.new_rows({"ann_input": x, "ann_output": y})["ann_output"], y)


def test_nothing_passed_means_the_models_own_rows(network):
    rows = network.new_rows({})
    np.testing.assert_array_equal(rows["ann_input"], network.data["ann_input"])
    np.testing.assert_array_equal(rows["ann_output"], network.data["ann_output"])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"x": [[0.0, 1.0]]}, r"No input is named 'x'.*'ann_input', 'ann_output'"),
        ({"ann_input": [[0.0, 1.0, 2.0]]}, r"'ann_input' has shape \(1, 3\) and needs \(rows, 2\)"),
        ({"ann_input": [0.0, 1.0]}, r"'ann_input' has 1 axes and needs 2.*wrap it in a list"),
        ({"ann_input": np.zeros((0, 2))}, "'ann_input' has no rows"),
        (
            {"ann_input": [[0.0, np.nan], [np.nan, np.nan]]},
            r"3 missing \(NaN\) values in columns 0, 1, the first in row 0",
        ),
        ({"ann_input": [[0.0, 1.0], [0.0, np.inf]]}, "1 infinite value in column 1, the first in row 1"),
        ({"ann_input": [["a", "b"]]}, "'ann_input' holds text"),
        (
            {"ann_input": pd.DataFrame({"a": [1.0], "sex": ["f"]})},
            "'ann_input' has columns that are not numbers: 'sex'",
        ),
        ({"ann_input": [[0.0, 1.0], [2.0]]}, "rows have different lengths"),
        ({"ann_input": np.zeros((3, 2)), "ann_output": [0, 1]}, "'ann_input' has 3 .* and 'ann_output' has 2"),
        ({"ann_output": [0, 1]}, "Pass the inputs of these 2 rows too: 'ann_input'"),
    ],
)
def test_wrong_data_are_named(network, data, sentence):
    with pytest.raises(DataError, match=sentence):
        network.new_rows(data)


def test_a_forgotten_covariate_is_named(hierarchical):
    with pytest.raises(DataError, match=r"pass 'g_idx' with shape \(5,\) too"):
        hierarchical.new_rows({"x": np.zeros(5)})
    with pytest.raises(DataError, match="'g_idx'"):  # also when the number of rows happens to be the model's own
        hierarchical.new_rows({"x": np.zeros(ROWS)})
    assert hierarchical.new_rows({"x": np.zeros(5), "g_idx": [0, 1, 2, 3, 4]})["y"].shape == (5,)


def test_a_group_the_model_never_saw(hierarchical):
    """JAX would take the last group's parameters without a word."""
    with pytest.raises(DataError, match=r"'g_idx' is an index into 6 entries \(0 to 5\) and holds 6"):
        hierarchical.new_rows({"x": np.zeros(2), "g_idx": [0, 6]})
    with pytest.raises(DataError, match=r"'g_idx' must hold whole numbers \(int32\) and holds .*0\.5"):
        hierarchical.new_rows({"x": np.zeros(2), "g_idx": [0, 0.5]})


def test_rows_that_cannot_change():
    target = from_pymc(CASES["unique_of_data"]())
    with pytest.raises(DataError, match="'g' cannot be replaced: its values decide shapes"):
        target.new_rows({"g": [0, 1]})
    target = from_pymc(CASES["gp_latent"]())
    with pytest.raises(DataError, match="needs"):
        target.new_rows({"array": np.zeros((3, 1))})


def test_a_graph_tied_to_its_rows_says_so():
    target = from_pymc(CASES["scan"]())
    z = jnp.asarray(target.initial_point(0), "float32")
    with pytest.raises(UnsupportedModelError, match=r"cannot be evaluated on data of these shapes: out \(7,\)"):
        target.joint_terms(z, {"out": np.zeros(7)})


def test_infinite_bounds_are_not_errors():
    upper = np.where(np.arange(ROWS) < 30, 1.0, np.inf)
    with pm.Model() as model:
        b = pm.Normal("b")
        limit = pm.Data("limit", upper, dims="obs_id")
        y = pm.Data("y", np.minimum(Y, upper), dims="obs_id")
        pm.Censored("out", pm.Normal.dist(b, 1), lower=None, upper=limit, observed=y, dims="obs_id")
    target = from_pymc(model)
    assert target.new_rows({"limit": [np.inf, 2.0]})["y"].shape == (2,)
    with pytest.raises(DataError, match="NaN"):
        target.new_rows({"limit": [np.nan, 2.0]})


def test_missing_data_are_named(network):
    with pytest.raises(DataError, match="lack 'ann_output'"):
        network.log_density(jnp.zeros(40), {"ann_input": np.zeros((3, 2))})


def test_latents_of_new_rows_are_drawn_anew():
    """One latent per row: those of other rows are not in the posterior, they come from their prior given the rest."""
    target = from_pymc(CASES["local_latent"]())
    z = np.concatenate([[2.0], np.full(ROWS, -50.0)])  # mu, then the latents of the rows that were fitted
    keys = jax.random.split(jax.random.key(0), 4_000)
    own, new = target.data, target.new_rows({"y": np.zeros(7)})

    def draw(key, data):
        return target.simulate(key, jnp.asarray(z, "float32"), data)["out"]

    fitted = np.asarray(jax.vmap(lambda key: draw(key, own))(keys))
    drawn = np.asarray(jax.vmap(lambda key: draw(key, new))(keys))
    assert drawn.shape == (4_000, 7)
    np.testing.assert_allclose(fitted.mean(0), -50.0, atol=5 / np.sqrt(4_000))
    np.testing.assert_allclose(drawn.mean(0), 2.0, atol=5 * np.sqrt(2 / 4_000))
    np.testing.assert_allclose(drawn.var(0), 2.0, rtol=5 * np.sqrt(2 / 4_000))
    with pytest.raises(DataError, match=r"'t' would have shape \(7,\)"):
        target.log_density(jnp.asarray(z, "float32"), new)


DRAWN = [
    "regression_with_data",
    "hierarchical",
    "ordered_logistic",
    "censored",
    "dirichlet_batch",
    "imputed_covariate",
    "custom_dist",
    "gp_hilbert",
    "minibatch",
    "do_and_observe",
    "random_walk_and_ar",
]


@pytest.mark.slow  # PyMC compiles
@pytest.mark.parametrize("name", DRAWN)
def test_draws_agree_with_pymc(name):
    """For one value of the parameters, means and spreads of the draws agree with `pm.sample_posterior_predictive`."""
    num_draws = 2_000
    model = CASES[name]()
    target = from_pymc(model)
    z = target.initial_point(0) + 0.1 * np.random.default_rng(0).standard_normal(target.layout.size)
    with jax.enable_x64(True):
        values = target.constrain(jnp.asarray(z), target.data)
        keys = jax.random.split(jax.random.key(1), num_draws)
        ours = jax.jit(jax.vmap(lambda key: target.simulate(key, jnp.asarray(z), target.data)))(keys)
    repeated, coords = {}, dict(target.layout.coords)
    for v in target.layout.variables:
        dims = v.dims or tuple(f"{v.name}_{k}" for k in range(len(v.value_shape)))
        repeated[v.name] = (("chain", "draw", *dims), np.broadcast_to(values[v.name], (1, num_draws, *v.value_shape)))
    used = {d for dims, _ in repeated.values() for d in dims}
    trace = xr.Dataset(repeated, {d: list(labels) for d, labels in coords.items() if d in used})
    plain = pm.model.transform.remove_minibatched_nodes(model) if target.batch_size else model
    with plain, warnings.catch_warnings():
        warnings.simplefilter("ignore", pm.exceptions.ImplicitFreezeWarning)  # the trace lacks constant_data
        theirs = pm.sample_posterior_predictive(
            trace, var_names=list(target.observed), random_seed=1, progressbar=False
        )["posterior_predictive"]
    for variable, draws in ours.items():
        a = np.asarray(draws, "float64").reshape(num_draws, -1)
        b = theirs[variable].to_numpy()[0].astype("float64").reshape(num_draws, -1)
        error = np.sqrt((a.var(0) + b.var(0)) / num_draws)
        np.testing.assert_array_less(np.abs(a.mean(0) - b.mean(0)), 5.5 * error + 1e-9, err_msg=variable)
        low, high = np.quantile(a, [0.25, 0.75], axis=0), np.quantile(b, [0.25, 0.75], axis=0)
        spread = a.std(0) + 1e-9
        assert np.median(np.abs(low - high) / spread) < 0.1
