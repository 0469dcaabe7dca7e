"""Log densities written by hand: names, supports and their volumes, rows, predictions, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import stats
from numpyro.distributions import constraints

import posterion as po
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends.numpyro import from_numpyro
from tests.frontends import numpyro_cases as cases

X, LINE, LABELS = cases.X, cases.LINE, cases.LABELS


def line_prior(p):
    return jnp.sum(stats.norm.logpdf(p["weights"], 0, 2)) + stats.gamma.logpdf(p["sigma"], 2.0)


def line_likelihood(p, batch):
    return stats.norm.logpdf(batch["y"], batch["x"] @ p["weights"], p["sigma"])


def line(**options):
    given = {
        "initial": {"weights": jnp.zeros(2), "sigma": 1.0},
        "data": {"x": X, "y": LINE},
        "log_prior": line_prior,
        "log_likelihood": line_likelihood,
        "supports": {"sigma": constraints.positive},
    }
    return po.log_density(**{**given, **options})


def density(target, z, precision=True):
    with jax.enable_x64(precision):
        return np.asarray(jax.jit(target.log_density)(jnp.asarray(z, float), target.as_arrays(target.data)))


def test_names_are_paths_and_values_keep_their_nesting():
    seen = []
    initial = {"layers": [{"w": np.ones((2, 3))}, np.float32(2.0)], "scale": 1}

    def fn(params):
        seen.append(jax.tree.structure(params))
        return -jnp.sum(params["layers"][0]["w"] ** 2) - params["layers"][1] ** 2 - params["scale"]

    target = po.log_density(fn, initial=initial, dims={"layers.0.w": ["in", None]}, coords={"in": ["a", "b"]})
    assert [(v.name, v.shape, v.dims) for v in target.layout.variables] == [
        ("layers.0.w", (2, 3), ("in", None)),
        ("layers.1", (), ()),
        ("scale", (), ()),
    ]
    assert target.layout.coords == (("in", ("a", "b")),)
    np.testing.assert_array_equal(target.initial_point(0), [1, 1, 1, 1, 1, 1, 2, 1])
    np.testing.assert_allclose(density(target, target.initial_point(0)), -6 - 4 - 1)
    assert set(seen) == {jax.tree.structure(initial)}


def test_a_bare_array_is_a_parameter_too():
    target = po.log_density(lambda theta: -jnp.sum(theta**2), initial=jnp.arange(3.0))
    assert [v.name for v in target.layout.variables] == ["params"]
    np.testing.assert_allclose(density(target, [1.0, 2.0, 3.0]), -14)


def test_supports_add_their_volume():
    """A density on constrained values times |d theta / d z|, against change of variables by automatic derivatives."""
    initial = {"s": np.array([0.5, 2.0]), "p": np.array([0.2, 0.3, 0.5]), "u": -0.5, "free": 1.0}
    supports = {"s": constraints.positive, "p": constraints.simplex, "u": constraints.interval(-1, 1)}
    fn = lambda v: jnp.sum(stats.gamma.logpdf(v["s"], 2.0)) + jnp.sum(jnp.log(v["p"])) + v["u"] - v["free"] ** 2
    target = po.log_density(fn, initial=initial, supports=supports)
    with jax.enable_x64(True):
        back = jax.jit(lambda z: target.constrain(z, {}))(jnp.asarray(target.initial_point(0)))
    for name, value in initial.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-12)
    z = np.random.default_rng(0).standard_normal(target.layout.size)
    with jax.enable_x64(True):
        flat = lambda z: jnp.concatenate(
            [jnp.ravel(v)[: 2 if name == "p" else None] for name, v in sorted(target.constrain(z, {}).items())]
        )
        volume = jnp.linalg.slogdet(jax.jacfwd(flat)(jnp.asarray(z)))[1]
        expected = fn(target.constrain(jnp.asarray(z), {})) + volume
    np.testing.assert_allclose(density(target, z), np.asarray(expected), rtol=1e-10)


def test_data_are_arguments():
    target = po.log_density(
        lambda p, data: -jnp.sum((data["y"] - p) ** 2), initial=jnp.zeros(()), data={"y": np.arange(4.0)}
    )
    np.testing.assert_allclose(density(target, [1.0]), -(1 + 0 + 1 + 4))
    with jax.enable_x64(True):
        program = jax.jit(target.log_density)
        np.testing.assert_allclose(program(jnp.ones(1), {"y": jnp.ones(4)}), 0.0)
        program(jnp.ones(1), {"y": jnp.zeros(4)})
    assert program._cache_size() == 1


def test_rows_give_the_same_density_as_the_whole_and_as_numpyro():
    import numpyro
    import numpyro.distributions as dist

    def model(x, y):
        weights = numpyro.sample("weights", dist.Normal(0, 2).expand([2]).to_event(1))
        sigma = numpyro.sample("sigma", dist.Gamma(2.0, 1.0))
        numpyro.sample("y", dist.Normal(x @ weights, sigma), obs=y)

    rows = line()
    whole = po.log_density(
        lambda p, data: line_prior(p) + jnp.sum(line_likelihood(p, data)),
        initial={"weights": jnp.zeros(2), "sigma": 1.0},
        data={"x": X, "y": LINE},
        supports={"sigma": constraints.positive},
    )
    other = from_numpyro(model, (X, LINE))
    z = np.array([0.3, 0.9, -0.4])  # sigma first: JAX sorts the keys of dictionaries
    np.testing.assert_allclose(density(rows, z), density(whole, z), rtol=1e-12)
    np.testing.assert_allclose(density(rows, z), density(other, z[[1, 2, 0]]), rtol=1e-12)
    np.testing.assert_allclose(density(rows, z, precision=False), density(rows, z), rtol=1e-5)


def test_rows_are_found_and_cut():
    target = line(predict_mean=lambda p, batch: batch["x"] @ p["weights"], predict_variance=line_variance)
    plan = target.row_plan()
    assert (plan.num_rows, plan.axes, plan.observed) == (60, (("x", 0), ("y", 0)), ("y",))
    assert {name: (s.shape, s.row_axis, s.only_observed) for name, s in target.slots.items()} == {
        "x": ((None, 2), 0, False),
        "y": ((None,), 0, True),
    }
    assert target.observed["y"].slot == "y"


def line_variance(p, batch):
    return jnp.full(batch["x"].shape[0], p["sigma"] ** 2)


def test_rows_on_a_later_axis_and_arrays_that_hold_none():
    def likelihood(p, batch):
        return stats.norm.logpdf(batch["y"], p["level"][batch["group"]] + batch["offset"] @ batch["x"], 1.0)

    data = {"x": X.T, "y": LINE, "group": cases.GROUPS, "offset": np.ones(2)}
    target = po.log_density(initial={"level": np.zeros(7)}, data=data, log_likelihood=likelihood)
    assert set(target.row_plan().axes) == {("x", 1), ("y", 0), ("group", 0)}
    assert target.slots["group"].below == 7
    assert target.slots["offset"].row_axis is None


def test_rows_that_depend_on_each_other_are_refused():
    centred = lambda p, batch: line_likelihood(p, {**batch, "y": batch["y"] - jnp.mean(batch["y"])})
    with pytest.raises(UnsupportedModelError, match="the rows of 'y' depend on each other"):
        line(log_likelihood=centred).row_plan()
    closed = lambda p, batch: stats.norm.logpdf(jnp.asarray(LINE), batch["x"] @ p["weights"], p["sigma"])
    with pytest.raises(UnsupportedModelError, match="as an argument of the model"):
        line(log_likelihood=closed).row_plan()


@pytest.mark.parametrize("batch_size", [None, 20])
def test_a_regression_is_fitted_and_predicts(batch_size):
    """Against the exact posterior of a regression with known noise."""
    likelihood = lambda p, batch: stats.norm.logpdf(batch["y"], batch["x"] @ p, 0.5)
    target = po.log_density(
        initial=jnp.zeros(2),
        data={"x": X, "y": LINE},
        log_prior=lambda p: jnp.sum(stats.norm.logpdf(p, 0, 2)),
        log_likelihood=likelihood,
        predict_mean=lambda p, batch: batch["x"] @ p,
        predict_variance=lambda p, batch: jnp.full(batch["x"].shape[0], 0.25),
        name="line",
    )
    approx = po.fit(target, batch_size=batch_size, random_seed=1, progress=False)
    covariance = np.linalg.inv(X.T @ X / 0.25 + np.eye(2) / 4)
    mean = covariance @ X.T @ LINE / 0.25
    assert approx.diagnose().trustworthy
    draws = approx.sample(4000).posterior["params"].to_numpy()[0]
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.35 * np.sqrt(np.diag(covariance)).max())
    found = approx.predict({"x": X[:5]}, draws=2000)
    np.testing.assert_allclose(found.mean["line"], X[:5] @ mean, atol=0.05)
    np.testing.assert_allclose(found.std["line"], 0.5, rtol=0.1)


@pytest.mark.parametrize("kind", ["binary", pytest.param("categorical", marks=pytest.mark.slow)])
def test_classes_are_predicted_from_probabilities(kind, tmp_path):
    if kind == "binary":
        initial, labels = jnp.zeros(2), LABELS
        probability = lambda p, batch: jax.nn.sigmoid(batch["x"] @ p)
        likelihood = lambda p, batch: stats.bernoulli.logpmf(batch["label"], probability(p, batch))
    else:
        initial, labels = jnp.zeros((2, 3)), cases.GRADES
        probability = lambda p, batch: jax.nn.softmax(batch["x"] @ p)
        rows = lambda p, batch: jnp.log(probability(p, batch))[jnp.arange(batch["label"].shape[0]), batch["label"]]
        likelihood = rows
    target = po.log_density(
        initial=initial,
        data={"x": X, "label": labels},
        log_prior=lambda p: jnp.sum(stats.norm.logpdf(p)),
        log_likelihood=likelihood,
        predict_mean=probability,
        kind=kind,
        name="label",
    )
    approx = po.fit(target, n=600, random_seed=0, progress=False)
    found = approx.predict({"x": X[:9]})
    assert found.units["label"] == "nats"
    scores = approx.predict().log_score("label", labels)
    assert scores.mean() > np.log(1 / (2 if kind == "binary" else 3)) - 0.02
    approx.save(tmp_path / "classes.posterion")
    again = po.load(tmp_path / "classes.posterion").predict({"x": X[:9]})
    np.testing.assert_allclose(again.mean["label"], found.mean["label"], rtol=1e-6)


def test_a_mean_alone_and_simulations_alone_predict():
    mean = lambda p, batch: batch["x"] @ p["weights"]
    only_mean = line(predict_mean=mean)
    assert only_mean.row_names == ("y_mean",)
    assert not only_mean.observed
    draw = lambda key, p, batch: mean(p, batch) + p["sigma"] * jax.random.normal(key, batch["x"].shape[:1])
    drawn = line(simulate=draw)
    assert not drawn.observed["y"].has_moments
    from posterion.predictive import predict

    z = np.tile([np.log(0.1), 1.0, -1.0], (500, 1))
    for target, name, spread in ((only_mean, "y_mean", 0.0), (drawn, "y", 0.1)):
        found = predict(target, z, {"x": X[:6]}, key=jax.random.key(0), x64=True)
        np.testing.assert_allclose(found.mean[name], X[:6] @ [1.0, -1.0], atol=0.02)
        np.testing.assert_allclose(found.std[name], spread, rtol=0.1, atol=1e-9)
    with pytest.raises(UnsupportedModelError, match="cannot predict: give log_density predict_mean"):
        line().new_rows({"x": X})


def test_a_second_fit_to_other_data_compiles_nothing(monkeypatch):
    target = line()
    po.fit(target, n=200, random_seed=0, progress=False)
    import posterion.compilation.cache as cache

    def refuse(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(cache.jax.stages.Lowered, "compile", refuse)
    po.fit(target, n=200, data={"y": LINE + 1}, random_seed=0, progress=False)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: po.log_density(initial=jnp.zeros(2)),
            OptionError,
            "give fn, the whole log density, or log_likelihood",
        ),
        (lambda: line(fn=line_prior), OptionError, "give it alone, or log_prior and log_likelihood without it"),
        (lambda: po.log_density(lambda p: p, initial=jnp.zeros(2)), OptionError, r"one number and has shape \(2,\)"),
        (lambda: po.log_density(lambda p: 0.0, initial={}), DataError, "holds no parameters"),
        (lambda: po.log_density(lambda p: 0.0, initial={"a": "text"}), DataError, "'a' must be an array of numbers"),
        (
            lambda: po.log_density(lambda p: 0.0, initial={"a": np.nan}),
            DataError,
            "'a' has entries that are not finite",
        ),
        (lambda: line(initial={"weights": jnp.zeros(2), "sigma": -1.0}), DataError, "'sigma' does not lie inside"),
        (lambda: line(initial={"weights": jnp.zeros(2), "sigma": 0.0}), DataError, "'sigma' does not lie inside"),
        (lambda: line(supports={"sgma": constraints.positive}), OptionError, "'sgma'; the parameters are 'sigma', 'we"),
        (lambda: line(supports={"sigma": "positive"}), OptionError, "must be one of numpyro.distributions.constraints"),
        (lambda: line(dims={"weights": ["a", "b"]}), OptionError, "must name 1 axes, not 2"),
        (lambda: line(coords={"a": [1]}, dims={"weights": ["a"]}), OptionError, "must hold 2 labels, not 1"),
        (lambda: line(kind="count"), OptionError, "kind must be"),
        (lambda: line(kind="categorical"), OptionError, r"must give \(rows, classes\) probabilities"),
        (lambda: line(data={}), OptionError, "needs data="),
        (lambda: line(data={"x": X, "y": np.array(["a"] * 60)}), DataError, "'y' holds text"),
        (lambda: line(log_likelihood=lambda p, b: 0.0), OptionError, "leave the sum over rows to the fit"),
        (lambda: line(log_prior=lambda p: p["weights"]), OptionError, r"log_prior must give one number.*\(2,\)"),
        (lambda: line(predict_mean=lambda p, b: p["weights"]), OptionError, r"predict_mean must give \(rows, ...\)"),
    ],
)
def test_what_does_not_go_together_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numpyro_is_imported_for_supports_only():
    import subprocess
    import sys

    code = (
        "import sys, posterion as po; po.log_density(lambda p: -p**2, initial=1.0); "
        "print('numpyro' in sys.modules, 'pymc' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == ["False", "False"]
