"""Rows: found, checked, cut into batches, or refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pymc")

import pymc as pm
import pytensor.tensor as pt

import posterion as po
from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc import from_pymc
from posterion.target import RowPlan
from tests.frontends.pymc.cases import CASES, GROUP, ROWS, X, Y
from tests.frontends.pymc.models import classes, neural_network


def by_rows(over_rows, **arrays):
    """A regression whose mean is any function of the covariate."""
    with pm.Model() as model:
        x = pm.Data("x", X[:, 0], dims="obs_id")
        y = pm.Data("y", Y, dims="obs_id")
        b = pm.Normal("b")
        pm.Normal("out", b * over_rows(x), 1, observed=y, dims="obs_id")
    return from_pymc(model)


@pytest.mark.parametrize(
    ("name", "observed"),
    [
        ("regression_with_data", ("out",)),
        pytest.param("regression_with_arrays", ("out",), marks=pytest.mark.slow),
        pytest.param("shared_unregistered", ("out",), marks=pytest.mark.slow),
        pytest.param("labelled_axes_data", ("out",), marks=pytest.mark.slow),
        ("hierarchical", ("out",)),
        ("censored", ("out",)),
        pytest.param("ordered_logistic", ("out",), marks=pytest.mark.slow),
        pytest.param("zero_sum", ("out",), marks=pytest.mark.slow),
        pytest.param("multivariate_student", ("out",), marks=pytest.mark.slow),
        ("imputed", ("out_observed",)),
        pytest.param("gp_hilbert", ("out",), marks=pytest.mark.slow),
        ("spatial_with_free_alpha", ("out",)),  # NumPy cannot evaluate this one: JAX does
        ("potential", ("rows",)),
    ],
)
def test_batches_average_to_the_full_log_likelihood(name, observed):
    target = from_pymc(CASES[name]())
    plan = target.row_plan()
    assert plan.observed == observed
    assert plan is target.row_plan()
    z = jnp.asarray(target.initial_point(0) + 0.1, "float32")
    data, axes = target.data, dict(plan.axes)
    half = plan.num_rows // 2

    @jax.jit
    def rows(data):
        terms = target.joint_terms(z, data)
        return terms.log_prior, terms.log_likelihood[observed[0]]

    prior, full = rows(data)
    order = np.random.default_rng(0).permutation(plan.num_rows)
    parts = []
    for index in (order[:half], order[half : 2 * half]):
        batch = {n: np.take(a, index, axis=axes[n]) if n in axes else a for n, a in data.items()}
        batch_prior, terms = rows(batch)
        np.testing.assert_allclose(terms, full[index], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(batch_prior, prior, rtol=1e-5)
        parts.append(np.sum(terms))
    np.testing.assert_allclose(sum(parts), np.sum(full[order[: 2 * half]]), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gp_marginal_of_data", "does not factorise over rows"),
        pytest.param("ar_observed", "does not factorise over rows", marks=pytest.mark.slow),
        pytest.param("gp_sparse", "does not factorise over rows", marks=pytest.mark.slow),
        ("local_latent", "'t' has one entry per row"),
        ("gp_latent", "cannot be cut into batches"),
        ("arange_over_rows", "'out' depend on each other"),
        ("scan", "30 of the 60 rows"),
        ("sparse_dot", "30 of the 60 rows"),
        pytest.param("unique_of_data", "cannot be cut into batches", marks=pytest.mark.slow),
        ("several_observed", "3 kinds of rows .* one of 'o1', 'o2', 'o3'"),
    ],
)
def test_refused_with_the_reason(name, sentence):
    target = from_pymc(CASES[name]())
    with pytest.raises(UnsupportedModelError, match=sentence):
        target.row_plan()
    assert not target.rows_are_independent


@pytest.mark.parametrize(
    "tied",
    [
        lambda x: x - x.mean(),
        lambda x: (x - x.min()) / (x.max() - x.min()),
        lambda x: pt.cumsum(x),
        lambda x: pt.sort(x),
        lambda x: x * x.shape[0],
    ],
)
def test_rows_that_depend_on_each_other(tied):
    with pytest.raises(UnsupportedModelError, match="'out' depend on each other"):
        by_rows(tied).row_plan()
    assert by_rows(lambda x: x**2).row_plan().num_rows == ROWS


def test_a_potential_that_sums_over_rows():
    with pm.Model() as model:
        x = pm.Data("x", X[:, 0], dims="obs_id")
        y = pm.Data("y", Y, dims="obs_id")
        b = pm.Normal("b")
        pm.Normal("out", b * x, 1, observed=y, dims="obs_id")
        pm.Potential("total", -pt.sum((b * x) ** 2))
    with pytest.raises(UnsupportedModelError, match=r"'total' sums over the rows of obs_id.*no \.sum\(\)"):
        from_pymc(model).row_plan()


def test_a_prior_that_depends_on_the_rows():
    with pm.Model() as model:
        x = pm.Data("x", X[:, 0], dims="obs_id")
        y = pm.Data("y", Y, dims="obs_id")
        b = pm.Normal("b", x.mean(), 1)
        pm.Normal("out", b * x, 1, observed=y, dims="obs_id")
    with pytest.raises(UnsupportedModelError, match="prior of 'b' depends on the rows"):
        from_pymc(model).row_plan()


def test_a_second_likelihood_that_does_not_separate():
    with pm.Model() as model:
        x = pm.Data("x", X[:, 0], dims="obs_id")
        y = pm.Data("y", Y, dims="obs_id")
        b = pm.Normal("b")
        pm.Normal("out", b * x, 1, observed=y, dims="obs_id")
        pm.Normal("mean", x.mean() + b, 1, observed=0.5)
    with pytest.raises(UnsupportedModelError, match="'mean' does not separate"):
        from_pymc(model).row_plan()


def test_two_kinds_of_rows_are_told_apart_by_name():
    with pm.Model() as model:
        x = pm.Data("x", X, dims=("person", "p"))
        y = pm.Data("y", Y, dims="person")
        w = pm.Data("w", X[:20, 0], dims="visit")
        b = pm.Normal("b", dims="p", shape=3)
        pm.Normal("income", x @ b, 1, observed=y, dims="person")
        pm.Normal("length", b[0] * w, 1, observed=Y[:20], dims="visit")
    target = from_pymc(model)
    assert dict(target.num_rows) == {"income": ROWS, "length": 20}
    assert target.row_plan("person") == RowPlan(ROWS, (("x", 0), ("y", 0)), ("income",))
    assert target.row_plan("income") == target.row_plan("person")
    assert target.row_plan("visit") == RowPlan(20, (("w", 0), ("length", 0)), ("length",))
    with pytest.raises(UnsupportedModelError, match="'income', 'length', 'person', 'visit'"):
        target.row_plan()
    with pytest.raises(UnsupportedModelError, match="No rows run over 'p'"):
        target.row_plan("p")


def test_rows_under_two_names():
    """Two dims for the same rows: the graph says that they belong together."""
    with pm.Model() as model:
        x = pm.Data("x", X[:, 0], dims="row")
        y = pm.Data("y", Y, dims="obs_id")
        b = pm.Normal("b")
        pm.Normal("out", b * x, 1, observed=y)
    assert from_pymc(model).row_plan() == RowPlan(ROWS, (("x", 0), ("y", 0)), ("out",))


def test_an_array_that_happens_to_have_as_many_rows():
    """A table of the groups with as many entries as there are rows is not cut: its dim says what it is."""
    with pm.Model(coords={"g": range(ROWS)}) as model:
        table = pm.Data("table", X[:, 0], dims="g")
        g = pm.Data("g_idx", GROUP, dims="obs_id")
        y = pm.Data("y", Y, dims="obs_id")
        b = pm.Normal("b")
        pm.Normal("out", b * table[g], 1, observed=y, dims="obs_id")
    assert from_pymc(model).row_plan().axes == (("g_idx", 0), ("y", 0))


# ------------------------------------------------------------------------------------ pm.Minibatch and total_size


@pytest.mark.parametrize(("how", "names"), [("arrays", ("minibatch.0", "out")), ("data", ("ann_input", "ann_output"))])
def test_minibatch_is_taken_over(how, names):
    x, y = classes(120)
    target = from_pymc(neural_network(x, y, minibatch=how))
    assert tuple(target.slots) == names
    assert target.batch_size == 50
    assert dict(target.num_rows) == {"out": 120}
    assert target.notes == ("pm.Minibatch taken over: 50 of 120 rows per step",)
    assert target.row_plan().axes == ((names[0], 0), (names[1], 0))
    plain = from_pymc(neural_network(x, y))
    z = jnp.asarray(plain.initial_point(0), "float32")
    np.testing.assert_allclose(target.log_density(z, target.data), plain.log_density(z, plain.data), rtol=1e-6)


def test_labels_stay_with_their_inputs():
    """Rows of x and y that belong together are cut together, whoever draws the index."""
    x, y = classes(120)
    target = from_pymc(neural_network(x, y, minibatch="arrays"))
    np.testing.assert_array_equal(target.data["minibatch.0"], x)
    np.testing.assert_array_equal(target.data["out"], y)
    z = jnp.asarray(target.initial_point(0), "float32")
    together = target.joint_terms(z, target.data).log_likelihood["out"]
    shuffled = target.data | {"out": np.random.default_rng(0).permutation(y)}
    apart = target.joint_terms(z, shuffled).log_likelihood["out"]
    assert np.abs(np.asarray(together) - np.asarray(apart)).max() > 0.1  # the comparison could tell


def test_two_minibatch_calls_are_refused():
    with pytest.raises(UnsupportedModelError, match=r"x, y = pm\.Minibatch\(X, Y, batch_size=50\)"):
        from_pymc(neural_network(*classes(120), minibatch="apart"))


def two_surveys(*, batches):
    """A mean seen by two surveys of 60 and 20 rows: each with its own pm.Minibatch, or as pm.Data with its own dim."""
    with pm.Model() as model:
        b = pm.Normal("b")
        for name, y, dim in (("first", Y, "person"), ("second", X[:20, 0] + 1, "visit")):
            if batches:
                pm.Normal(name, b, 1, observed=pm.Minibatch(y, batch_size=10), total_size=len(y))
            else:
                pm.Normal(name, b, 1, observed=pm.Data(f"y_{name}", y, dims=dim), dims=dim)
    return model


def test_minibatches_of_two_data_sets_are_refused_with_what_to_write_instead():
    sentence = r"2 separate mini-batches \('first' by 10 of 60 rows; 'second' by 10 of 20 rows\).*batch_over="
    with pytest.raises(UnsupportedModelError, match=sentence):
        from_pymc(two_surveys(batches=True))


def test_what_to_write_instead_has_the_posterior_of_both_data_sets():
    """Batches of one survey, all of the other: as all of both, which for a normal mean is known."""
    y = np.concatenate([Y, X[:20, 0] + 1])
    mean, sd = y.sum() / (1 + len(y)), 1 / np.sqrt(1 + len(y))
    approx = po.fit(
        two_surveys(batches=False), batch_size=10, batch_over="person", n=20_000, progress=False, random_seed=1
    )
    draws = approx.sample(4000)["posterior"]["b"]
    assert abs(float(draws.mean()) - mean) < 4 * sd / np.sqrt(4000) + 0.1 * sd  # drawing, and a step that has settled
    assert abs(float(draws.std()) / sd - 1) < 0.1


def test_forgotten_total_size_is_known_from_the_array():
    x, y = pm.Minibatch(X, Y, batch_size=10)
    with pm.Model() as model:
        b = pm.Normal("b", shape=3)
        with pytest.warns(UserWarning, match="total_size not provided"):
            pm.Normal("out", x @ b, 1, observed=y)
    target = from_pymc(model)
    assert dict(target.num_rows) == {"out": ROWS}
    assert "'out' has no total_size: the 60 rows behind pm.Minibatch" in target.notes[1]


def test_total_size_counts_once():
    """The log density is that of N rows: neither the batch's own scale nor N twice."""
    target = from_pymc(CASES["total_size_list"]())
    assert dict(target.num_rows) == {"out": 600}
    z = jnp.asarray([0.3], "float32")
    terms = target.joint_terms(z, target.data)
    by_hand = np.sum(-0.5 * (X - 0.3) ** 2 - 0.5 * np.log(2 * np.pi), axis=1)
    np.testing.assert_allclose(terms.log_likelihood["out"], by_hand, rtol=1e-4)
    expected = 10 * by_hand.sum() - 0.5 * 0.09 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(target.log_density(z, target.data), expected, rtol=1e-5)
    assert target.notes == ("the 60 rows of 'out' stand for total_size=600 rows",)


def test_total_size_on_another_axis():
    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Normal("out", b, 1, observed=X, total_size=[None, 30])
    with pytest.raises(UnsupportedModelError, match="total_size of 'out' scales axis 1"):
        from_pymc(model)


def test_total_size_of_what_has_no_rows():
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 0.3)
        start = pm.Normal.dist(0, 1, shape=1)
        pm.AR("out", pt.stack([rho]), sigma=1.0, init_dist=start, observed=Y, constant=False, total_size=600)
    with pytest.raises(UnsupportedModelError, match="total_size of 'out'"):
        from_pymc(model)


def test_a_hidden_minibatch_is_reported():
    """The notebook's builder ignores its arguments and takes the full data: no batches, and the note says so."""
    target = from_pymc(neural_network(*classes(120)))
    assert target.batch_size is None
    (note,) = target.notes
    assert "every step sees all of them" in note
