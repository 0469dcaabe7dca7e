"""A PyMC model as a target: the notebook's network, by the whole contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pymc")

import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.scan.utils import until

from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc import from_pymc
from posterion.target import Observed, RowPlan, Slot
from tests.frontends.pymc.cases import CASES, GROUP, ROWS, X, Y
from tests.frontends.pymc.models import classes, network_by_hand, neural_network


@pytest.fixture(scope="module")
def data():
    return classes(120)


@pytest.fixture(scope="module")
def target(data):
    return from_pymc(neural_network(*data))


def test_layout(target):
    names = [(v.name, v.shape, v.value_shape, v.dims) for v in target.layout.variables]
    assert names == [
        ("w_in_1", (2, 5), (2, 5), ("train_cols", "hidden_layer_1")),
        ("w_1_2", (5, 5), (5, 5), ("hidden_layer_1", "hidden_layer_2")),
        ("w_2_out", (5,), (5,), ("hidden_layer_2",)),
    ]
    assert dict(target.layout.coords) == {
        "hidden_layer_1": (0, 1, 2, 3, 4),
        "hidden_layer_2": (0, 1, 2, 3, 4),
        "train_cols": (0, 1),
    }
    assert all(type(label) is int for _, labels in target.layout.coords for label in labels)
    hash(target.layout)


def test_slots(target):
    assert list(target.slots.items()) == [
        ("ann_input", Slot("float64", (None, 2), ("obs_id", "train_cols"), row_axis=0)),
        ("ann_output", Slot("float64", (None,), ("obs_id",), row_axis=0, only_observed=True)),
    ]
    assert dict(target.num_rows) == {"out": 120}
    assert dict(target.observed) == {"out": Observed("binary", (), ("obs_id",), slot="ann_output")}
    assert target.batch_size is None


def test_data_are_the_models_own(target, data):
    np.testing.assert_array_equal(target.data["ann_input"], data[0])
    np.testing.assert_array_equal(target.data["ann_output"], data[1])


def test_terms_by_hand(target, data):
    z = np.random.default_rng(1).standard_normal(40)
    log_prior, rows = network_by_hand(z, *data)
    with jax.enable_x64(True):
        terms = target.joint_terms(jnp.asarray(z), target.data)
        density = target.log_density(jnp.asarray(z), target.data)
    np.testing.assert_allclose(terms.log_prior, log_prior, rtol=1e-12)
    np.testing.assert_allclose(terms.log_likelihood["out"], rows, rtol=1e-9)
    np.testing.assert_allclose(density, log_prior + rows.sum(), rtol=1e-12)


def test_data_of_any_length_also_as_tracers(target, data):
    """The functions are found by the shapes of what they are given, inside every transformation."""
    x, y = (np.asarray(a, "float32") for a in data)
    z = jnp.asarray(np.random.default_rng(1).standard_normal((3, 40)), "float32")
    expected = [network_by_hand(np.asarray(one, "float64"), x[:7], y[:7])[1] for one in z]

    def rows(z, data):
        return target.joint_terms(z, data).log_likelihood["out"]

    batch = {"ann_input": jnp.asarray(x[:7]), "ann_output": jnp.asarray(y[:7])}
    np.testing.assert_allclose(jax.jit(jax.vmap(rows, (0, None)))(z, batch), expected, rtol=2e-5)

    def step(total, index):
        cut = {name: jax.lax.dynamic_slice_in_dim(a, index, 5) for name, a in batch.items()}
        return total + rows(z[0], cut).sum(), rows(z[0], cut)

    _, scanned = jax.jit(lambda: jax.lax.scan(step, jnp.float32(0), jnp.arange(3)))()
    np.testing.assert_allclose(scanned, [expected[0][k : k + 5] for k in range(3)], rtol=2e-5)
    assert "f64" not in str(jax.make_jaxpr(rows)(z[0], batch))


def test_initial_values_are_honoured(target, data):
    model = neural_network(*data)
    start = target.layout.unravel(jnp.asarray(target.initial_point(0)))
    for name, value in model.initial_point().items():
        np.testing.assert_allclose(start[name], value, rtol=1e-6)


def test_initial_values_drawn_from_the_prior_follow_the_seed():
    target = from_pymc(CASES["initial_values"]())
    first, again, other = target.initial_point(1), target.initial_point(1), target.initial_point(2)
    assert first[0] == again[0] != other[0]
    np.testing.assert_allclose(first[1], np.log(2.0))  # HalfNormal is fitted on the log scale


def test_moments_and_draws_for_other_rows(target, data):
    x = classes(9, seed=5)[0]
    z = np.random.default_rng(1).standard_normal(40)
    rows = target.new_rows({"ann_input": x})
    p = np.exp(network_by_hand(z, x, np.ones(9))[1])
    with jax.enable_x64(True):
        moments = target.moments(jnp.asarray(z), rows)["out"]
        keys = jax.random.split(jax.random.key(0), 4_000)
        draws = jax.jit(jax.vmap(lambda key: target.simulate(key, jnp.asarray(z), rows)["out"]))(keys)
        assert draws.dtype == jnp.int64
        draws = np.asarray(draws)
    np.testing.assert_allclose(moments.mean, p, rtol=1e-9)
    np.testing.assert_allclose(moments.variance, p * (1 - p), rtol=1e-8)
    assert draws.shape == (4_000, 9)
    error = np.sqrt(p * (1 - p) / 4_000)
    np.testing.assert_array_less(np.abs(draws.mean(0) - p), 4.5 * error + 1e-12)
    assert target.simulate(jax.random.key(0), jnp.asarray(z, "float32"), rows)["out"].dtype == jnp.int32


def test_constrained_values_and_deterministics():
    model = CASES["regression_with_data"]()
    target = from_pymc(model)
    assert target.row_names == ("mu",)
    assert target.layout.derived_dims == (("mu", ("obs_id",)),)
    z = np.array([0.1, -0.2, 0.3, 0.5])
    with jax.enable_x64(True):
        values = target.constrain(jnp.asarray(z), target.data)
        rows = target.row_values(jnp.asarray(z), target.new_rows({"x": X[:4]}))
    np.testing.assert_allclose(values["s"], np.exp(0.5))
    np.testing.assert_allclose(values["mu"], X @ z[:3], rtol=1e-12)
    np.testing.assert_allclose(rows["mu"], X[:4] @ z[:3], rtol=1e-12)
    assert rows.keys() == {"mu"}


def test_deterministics_of_outcomes_are_not_rows():
    """What is computed from the outcome is not known for new rows."""
    target = from_pymc(CASES["deterministic_of_observed"]())
    assert target.row_names == ()
    with jax.enable_x64(True):
        values = target.constrain(jnp.asarray([0.5]), target.data)
    np.testing.assert_allclose(values["residual"], Y - 0.5, rtol=1e-12)


def test_rows_on_a_later_axis():
    with pm.Model(coords={"p": range(3)}) as model:
        x = pm.Data("x", X[:, 0], dims="obs_id")
        y = pm.Data("y", X.T, dims=("p", "obs_id"))
        a = pm.Normal("a", dims="p")
        mu = pm.Deterministic("mu", a[:, None] * x, dims=("p", "obs_id"))
        pm.Normal("out", mu, 1, observed=y, dims=("p", "obs_id"))
    target = from_pymc(model)
    assert target.slots["y"].row_axis == 1
    assert target.slots["y"].shape == (3, None)
    assert target.observed["out"] == Observed("numeric", (3,), ("obs_id", "p"), slot="y")
    assert target.num_rows["out"] == ROWS
    assert target.row_plan().axes == (("x", 0), ("y", 1))
    z = np.array([0.5, 1.0, -1.0])
    with jax.enable_x64(True):
        rows = target.joint_terms(jnp.asarray(z), target.data).log_likelihood["out"]
        moments = target.moments(jnp.asarray(z), target.data)["out"]
        draws = target.simulate(jax.random.key(0), jnp.asarray(z), target.data)["out"]
    mean = X[:, :1] * z
    expected = np.sum(-0.5 * (X - mean) ** 2 - 0.5 * np.log(2 * np.pi), axis=1)
    np.testing.assert_allclose(rows, expected, rtol=1e-9)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12)
    assert moments.variance.shape == draws.shape == (ROWS, 3)


def test_classes_have_probabilities():
    target = from_pymc(CASES["ordered_logistic"]())
    assert target.observed["out"] == Observed("categorical", (), (), num_categories=4, slot="out")
    z = jnp.asarray(target.initial_point(0), "float32")
    moments = target.moments(z, target.data)["out"]
    probabilities = target.constrain(z, target.data)["out_probs"]
    np.testing.assert_allclose(moments.mean, probabilities, rtol=1e-5)
    np.testing.assert_allclose(moments.mean.sum(-1), 1, rtol=1e-5)


def test_an_outcome_that_depends_on_another_has_no_moments():
    target = from_pymc(CASES["imputed_covariate"]())
    assert not target.observed["out"].has_moments
    assert target.observed["xx_observed"].has_moments
    z = jnp.asarray(target.initial_point(0), "float32")
    assert target.moments(z, target.data).keys() == {"xx_observed"}


def test_likelihoods_without_rows_belong_to_the_prior_term():
    for name in ("gp_marginal_of_data", "ar_observed", "observed_scalar"):
        target = from_pymc(CASES[name]())
        terms = target.joint_terms(jnp.asarray(target.initial_point(0), "float32"), target.data)
        assert terms.log_likelihood == {}
        assert dict(target.num_rows) == {}
        assert not target.rows_are_independent


def test_potentials_by_row_are_rows():
    """A potential whose shape follows the data is scaled with batches, a sum is not."""
    target = from_pymc(CASES["potential"]())
    assert dict(target.num_rows) == {"rows": ROWS}
    assert target.observed == {}
    z = np.array([0.1, -0.2, 0.3])
    with jax.enable_x64(True):
        terms = target.joint_terms(jnp.asarray(z), target.data)
    np.testing.assert_allclose(terms.log_likelihood["rows"], -0.5 * (Y - X @ z) ** 2, rtol=1e-12)
    prior = np.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi)) - np.sum(z**2)
    np.testing.assert_allclose(terms.log_prior, prior, rtol=1e-12)
    assert target.row_plan() == RowPlan(ROWS, (("x", 0), ("y", 0)), ("rows",))
    assert target.simulate(jax.random.key(0), jnp.asarray(z, "float32"), target.data) == {}


def test_coords_are_plain_and_only_those_that_fit():
    dates = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]")
    with pm.Model(coords={"day": dates, "g": ["a", "b", "c"], "obs_id": np.arange(5)}) as model:
        x = pm.Data("x", X[:7, 0], dims="row")
        a = pm.Normal("a", dims=("day", "g"))
        pm.Normal("out", a.sum() * x, 1, observed=Y[:7])
    coords = dict(from_pymc(model).layout.coords)
    assert coords["day"] == ("2026-01-01", "2026-01-02")
    assert coords["g"] == ("a", "b", "c")
    assert "row" not in coords


def test_a_dim_of_another_length_than_its_labels_loses_them(data):
    x, y = data
    model = neural_network(x, y, labels=True)
    assert dict(from_pymc(model).layout.coords)["obs_id"] == tuple(range(120))
    with model:
        pm.set_data({"ann_input": x[:50], "ann_output": y[:50]}, coords={"obs_id": np.arange(50)})
    assert dict(from_pymc(model).layout.coords)["obs_id"] == tuple(range(50))


def test_constant_terms_are_arrays():
    """A flat prior is the number 0 in PyTensor's graph."""
    with pm.Model() as model:
        a = pm.Flat("a")
        pm.Deterministic("two", pt.constant(2.0))
        pm.Normal("out", a, 1, observed=Y)
    target = from_pymc(model)
    z = jnp.asarray([0.5], "float32")
    for values in (target.named_terms(z, target.data), target.constrain(z, target.data)):
        assert all(isinstance(v, jax.Array) and v.dtype == "float32" for v in values.values())


def test_simplex_has_two_shapes():
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(4))
        pm.Categorical("out", p=w, observed=GROUP % 4)
    (variable,) = from_pymc(model).layout.variables
    assert (variable.shape, variable.value_shape) == ((3,), (4,))


def test_values_of_free_variables_that_decide_shapes():
    with pm.Model() as model:
        a = pm.Normal("a", shape=3)
        pm.Normal("out", pt.unique(a).sum(), 1, observed=Y)
    with pytest.raises(UnsupportedModelError, match=r"values of free variables.*pm\.sample"):
        from_pymc(model)


def test_what_cannot_be_drawn_is_refused_when_it_is_asked_for():
    target = from_pymc(CASES["custom_logp"]())
    z = jnp.asarray(target.initial_point(0), "float32")
    with pytest.raises(UnsupportedModelError, match=r"'out' cannot be drawn.*sample_posterior_predictive"):
        target.simulate(jax.random.key(0), z, target.data)


def test_deterministics_that_cannot_be_converted_are_refused_before_the_fit():
    with pm.Model() as model:
        a = pm.Normal("a")
        pm.Normal("out", a, 1, observed=Y)
        xs = pytensor.scan(
            lambda x: (x * 0.5, until(x < 0.1)), outputs_info=[pt.exp(a)], n_steps=20, return_updates=False
        )
        pm.Deterministic("last", xs[-1])
    with pytest.raises(UnsupportedModelError, match=r"'last'.*fixed number of steps"):
        from_pymc(model)


def test_neighbours_of_as_many_areas_as_there_are_rows():
    """The matrix looks like data by its shape; its values decide shapes, so it is fixed instead."""
    rows = 12
    neighbours = np.diag(np.ones(rows - 1), 1) + np.diag(np.ones(rows - 1), -1)
    exposure = np.linspace(1, 3, rows)
    with pm.Model(coords={"area": range(rows)}) as model:
        alpha = pm.Beta("alpha", 2, 2)
        phi = pm.CAR("phi", mu=np.zeros(rows), W=neighbours, alpha=alpha, tau=1.0, dims="area")
        pm.Poisson("out", exposure * pm.math.exp(phi), observed=np.arange(rows) % 4, dims="area")
    target = from_pymc(model)
    assert all(slot.shape != (rows, rows) for slot in target.slots.values())
    assert "is fixed: its values decide the shape" in target.notes[0]
    with jax.enable_x64(True):
        z = jnp.asarray(target.initial_point(0) + 0.1)
        density = jax.jit(target.log_density)(z, target.data)
        values = {
            v.name: np.asarray(u) for v, u in zip(model.value_vars, target.layout.unravel(z).values(), strict=True)
        }
    np.testing.assert_allclose(density, model.compile_logp(mode="FAST_COMPILE")(values), rtol=1e-9)


def test_while_loops_are_refused():
    with pm.Model() as model:
        a = pm.Normal("a")
        xs = pytensor.scan(
            lambda x: (x * 0.5, until(x < 0.1)), outputs_info=[pt.exp(a)], n_steps=20, return_updates=False
        )
        pm.Normal("out", xs[-1], 1, observed=Y)
    with pytest.raises(UnsupportedModelError, match=r"likelihood of 'out'.*fixed number of steps"):
        from_pymc(model)
