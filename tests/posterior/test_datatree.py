import arviz_stats
import jax
import numpy as np
import pytest

from posterion.posterior.datatree import constrained_draws, data_groups, to_datatree
from posterion.target import Layout, Variable
from tests import hand_written as hand

DRAWS = 300  # more than a chunk


@pytest.fixture(scope="module")
def target():
    return hand.linear(num_rows=12)


@pytest.fixture(scope="module")
def z(target):
    return 0.3 * np.random.default_rng(0).standard_normal((DRAWS, target.layout.size))


@pytest.mark.parametrize("x64", [False, True])
def test_constrained_values_are_those_of_each_draw(target, z, x64):
    values = constrained_draws(target, z, target.data, x64=x64)
    assert list(values) == ["w", "b", "sigma", "eta", "total"]
    assert all(v.dtype == ("float64" if x64 else "float32") and len(v) == DRAWS for v in values.values())
    tolerance = 1e-12 if x64 else 1e-5
    np.testing.assert_allclose(values["sigma"], np.exp(z[:, 4]), rtol=tolerance)
    eta = z[:, :3] @ target.data["x"].T + z[:, 3:4]
    np.testing.assert_allclose(values["eta"], eta, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(values["total"], z.sum(axis=1), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("number", [1, 255, 256, 257, 4096, 4097])
def test_any_number_of_draws(target, z, number):
    values = constrained_draws(target, np.resize(z, (number, z.shape[1])), target.data, x64=True, names=["b"])
    np.testing.assert_allclose(values["b"], np.resize(z, (number, z.shape[1]))[:, 3])
    assert list(values) == ["b"]


def test_the_tree_is_laid_out_like_pymc_does(target, z):
    observed, constant, dims = data_groups(target, target.data)
    values = constrained_draws(target, z, target.data, x64=True)
    tree = to_datatree(
        values,
        target.layout,
        observed_data=observed,
        constant_data=constant,
        dims=dims,
        sample_stats={"lp": z[:, 0]},
        attrs={"inference_library": "posterion"},
    )
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data", "constant_data"}
    assert tree["posterior"]["w"].dims == ("chain", "draw", "columns")
    assert tree["posterior"]["w"].sizes == {"chain": 1, "draw": DRAWS, "columns": 3}
    assert tree["posterior"]["columns"].values.tolist() == ["a", "b", "c"]
    assert tree["posterior"]["eta"].dims == ("chain", "draw", "row_id")
    assert tree["sample_stats"]["lp"].dims == ("chain", "draw")
    assert tree["observed_data"]["out"].dims == ("row_id",)
    np.testing.assert_array_equal(tree["observed_data"]["out"], target.data["y"])
    assert tree["constant_data"]["x"].dims == ("row_id", "columns")
    assert tree["posterior"].attrs["inference_library"] == "posterion"


def test_arviz_summarises_it(target, z):
    tree = to_datatree(constrained_draws(target, z, target.data, x64=True, names=["w", "sigma"]), target.layout)
    summary = arviz_stats.summary(tree, kind="stats")
    assert list(summary.index) == ["w[a]", "w[b]", "w[c]", "sigma"]
    assert float(summary.loc["sigma", "mean"]) == pytest.approx(np.exp(z[:, 4]).mean(), abs=0.01)


def test_coords_that_do_not_fit_are_left_out():
    layout = Layout((Variable("w", (2,), (2,), ("group",)),), coords=(("group", ("a", "b", "c")),))
    tree = to_datatree({"w": np.zeros((4, 2))}, layout)
    assert tree["posterior"]["group"].values.tolist() == [0, 1]


def test_one_dim_with_two_lengths_is_not_filled_up_with_missing_values():
    variables = (Variable("w", (3,), (3,), ("group",)), Variable("v", (2,), (2,), ("group",)))
    layout = Layout(variables, coords=(("group", ("a", "b", "c")),))
    tree = to_datatree({"w": np.ones((4, 3)), "v": np.ones((4, 2))}, layout)
    assert tree["posterior"]["v"].dims == ("chain", "draw", "v_dim_0")
    assert np.isfinite(tree["posterior"]["v"].values).all()
    assert tree["posterior"]["group"].values.tolist() == ["a", "b", "c"]


def test_pymc_takes_it_for_its_own_posterior_predictive():
    pm = pytest.importorskip("pymc")
    x = np.linspace(-1, 1, 7)
    with pm.Model(coords={"row_id": range(7)}):
        data = pm.Data("x", x, dims="row_id")
        slope = pm.Normal("slope")
        pm.Normal("y", slope * data, 0.01, observed=np.zeros(7), dims="row_id")
        layout = Layout((Variable("slope", (), ()),))
        tree = to_datatree({"slope": np.array([1.0, 2.0, 3.0])}, layout)
        found = pm.sample_posterior_predictive(tree, random_seed=0, progressbar=False)
    y = found["posterior_predictive"]["y"]
    assert y.dims == ("chain", "draw", "row_id")
    np.testing.assert_allclose(y[0], np.array([[1.0], [2.0], [3.0]]) * x, atol=0.06)


def test_the_precision_flag_is_left_alone(target, z):
    constrained_draws(target, z[:2], target.data, x64=True)
    assert not jax.config.jax_enable_x64
