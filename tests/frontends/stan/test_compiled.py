"""Two compiled programs against the same models written in JAX: densities, derivatives, values, fits, failures."""

import re
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import norm

import posterion as po
from posterion.errors import DataError, NonFiniteError, OptionError, UnsupportedModelError
from posterion.frontends.stan import build, stan
from posterion.target import AbstractTarget
from tests.frontends.stan.conftest import HERE, PAGE, SCHOOLS_DATA, mixed_data, schools_program

pytestmark = [pytest.mark.slow, pytest.mark.external]


# ---- the models in JAX
def schools_density(z, data):
    mu, log_tau, eta = z[0], z[1], z[2:]
    tau = jnp.exp(log_tau)
    prior = norm.logpdf(mu, 0, 5) + norm.logpdf(tau, 0, 5) + log_tau + norm.logpdf(eta).sum()
    return prior + norm.logpdf(jnp.asarray(data["y"], z.dtype), mu + tau * eta, jnp.asarray(data["sigma"])).sum()


def ordered(z):
    return jnp.stack([z[0], z[0] + jnp.exp(z[1])])


def bounded(z):
    return -1 + 4 * jax.nn.sigmoid(z)


def simplex(z):
    """Inverse of the isometric log ratio: the softmax of coordinates in a basis of the vectors that sum to zero."""
    basis = np.array([[1 / np.sqrt(2), 1 / np.sqrt(6)], [-1 / np.sqrt(2), 1 / np.sqrt(6)], [0, -2 / np.sqrt(6)]])
    return jax.nn.softmax(basis @ z)


def corner(z):
    """Cholesky factor of a 3 x 3 correlation matrix from canonical partial correlations."""
    a, b, c = jnp.tanh(z)
    d = jnp.sqrt(1 - b**2)
    third = [b, c * d, d * jnp.sqrt(1 - c**2)]
    return jnp.array([[1.0, 0.0, 0.0], [a, jnp.sqrt(1 - a**2), 0.0], third])


def log_volume(function, z):
    """Of a map between spaces of the same dimension, by automatic differentiation."""
    return jnp.linalg.slogdet(jax.jacfwd(function)(z).reshape(z.size, z.size))[1]


def mixed_values(z):
    """Stan lays matrices by column and arrays by entry."""
    return {
        "beta": z[0:2],
        "cut": ordered(z[2:4]),
        "sigma": jnp.exp(z[4]),
        "shift": bounded(z[5]),
        "share": simplex(z[6:8]),
        "loading": z[8:14].reshape(3, 2).T,
        "pair": z[14:20].reshape(2, 3),
        "corner": corner(z[20:23]),
        "wave": jax.lax.complex(z[23], z[24]),
        "both": jnp.concatenate([jnp.exp(z[25:26]), z[26:28]]),
    }


def mixed_density(z, data, rows=slice(None)):
    """With the likelihood of these rows only, scaled up to that of all."""
    v = mixed_values(z)
    below = np.tril_indices(3, -1)
    volumes = z[3] + z[4] + z[25] + log_volume(bounded, z[5:6])
    volumes += log_volume(lambda z: simplex(z)[:2], z[6:8]) + log_volume(lambda z: corner(z)[below], z[20:23])
    prior = [
        norm.logpdf(v["beta"], 0, 2),
        norm.logpdf(v["cut"], 0, 3),
        dist.Exponential(1).log_prob(v["sigma"]),
        dist.Dirichlet(jnp.array([2.0, 3.0, 4.0])).log_prob(v["share"]),
        norm.logpdf(v["loading"], 1, 0.5),
        norm.logpdf(v["pair"][0]),
        norm.logpdf(v["pair"][1], 5, 2),
        dist.LKJCholesky(3, 2.0).log_prob(v["corner"]),
        norm.logpdf(z[23], 1, 0.5) + norm.logpdf(z[24], 2, 0.5),
        dist.Exponential(2).log_prob(v["both"][0]),
        norm.logpdf(v["both"][1:]),
    ]
    x, grade, measured = (np.asarray(data[name])[rows] for name in ("x", "grade", "measured"))
    expected = x @ v["beta"]
    likelihood = dist.OrderedLogistic(expected, v["cut"]).log_prob(grade - 1)
    likelihood += norm.logpdf(measured, expected + v["shift"], v["sigma"])
    return volumes + sum(part.sum() for part in prior) + likelihood.sum() * (data["N"] / len(x))


def points(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, size))


CASES = {"schools": (schools_density, SCHOOLS_DATA), "mixed": (mixed_density, mixed_data())}


@pytest.fixture(params=CASES)
def case(request):
    """(target, its density in JAX)."""
    density, data = CASES[request.param]
    return request.getfixturevalue(request.param), lambda z: density(z, data)


# ---- laws
def test_density_and_derivatives_equal_those_written_in_jax(case):
    target, reference = case
    with jax.enable_x64(True):
        data = target.as_arrays(target.data)
        assert jax.tree.map(jnp.shape, data) == {"data set": ()}
        both = [
            jax.jit(lambda z, f=f: (f(z), jax.grad(f)(z), jax.hessian(f)(z)))
            for f in (lambda z: target.log_density(z, data), reference)
        ]
        for z in jnp.asarray(points(target.layout.size)):
            mine, theirs = (f(z) for f in both)
            np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-11)
            np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(mine[2], theirs[2], atol=1e-7 * np.abs(theirs[2]).max())


def test_the_vectorised_tanh_is_a_tanh(toolchain):
    """Ours, with its derivative, at all sizes: tiny, where the series takes over (0.02), and saturated."""
    code = """
    parameters { matrix[9, 2] w; }
    model { target += sum(tanh(w)) - 0.01 * sum(to_vector(w) .* to_vector(w)); }
    """
    target = stan(code, progress=False)
    sizes = np.array([1e-9, 1e-3, 0.0199999, 0.0200001, 0.3, 1.0, 3.0, 12.0, 25.0])
    with jax.enable_x64(True):
        z = jnp.concatenate([sizes, -sizes])
        # Each entry's derivative, without that of the penalty, to rounding.
        slope = jax.grad(target.log_density)(z, target.as_arrays({})) + 0.02 * z
        np.testing.assert_allclose(slope, 1 / np.cosh(z) ** 2, rtol=0, atol=5e-16)
        for size in sizes:
            one = jnp.zeros(18).at[0].set(size)
            value = target.log_density(one, target.as_arrays({})) + 0.01 * size**2
            np.testing.assert_allclose(value, np.tanh(size), rtol=1e-13, atol=1e-17)


def test_batches_are_taken_one_after_another(schools):
    with jax.enable_x64(True):
        data, z = schools.as_arrays(schools.data), jnp.asarray(points(10))
        density = lambda z, data: schools.log_density(z, data)
        each = [density(one, data) for one in z]
        np.testing.assert_array_equal(jax.vmap(density, (0, None))(z, data), each)
        np.testing.assert_array_equal(jax.vmap(jax.vmap(density, (0, None)), (0, None))(z[None], data)[0], each)
        gradients = jax.jit(jax.vmap(jax.grad(density), (0, None)))(z, data)
        np.testing.assert_array_equal(gradients, [jax.grad(density)(one, data) for one in z])
        scanned = jax.lax.scan(lambda total, one: (total + density(one, data), None), jnp.zeros(()), z)[0]
        np.testing.assert_allclose(scanned, sum(each), rtol=1e-12)


def test_single_precision_goes_through_stans_double(schools):
    z = jnp.asarray(points(10)[0], np.float32)
    value, gradient = jax.value_and_grad(lambda z: schools.log_density(z, schools.as_arrays(schools.data)))(z)
    assert value.dtype == gradient.dtype == np.float32
    with jax.enable_x64(True):
        exact = jax.grad(lambda z: schools_density(z, SCHOOLS_DATA))(z.astype(np.float64))
    np.testing.assert_allclose(gradient, exact, rtol=1e-6)


def test_values_by_name_in_their_shapes(mixed):
    with jax.enable_x64(True):
        for z in jnp.asarray(points(mixed.layout.size)):
            values, expected = mixed.constrain(z, mixed.data), mixed_values(z)
            for name, value in expected.items():
                np.testing.assert_allclose(values[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
            loading = np.asarray(expected["loading"])
            np.testing.assert_allclose(values["stack"], [loading, 10 * loading], rtol=1e-12)
            np.testing.assert_allclose(values["expected"], mixed.data["x"] @ expected["beta"], rtol=1e-12)
            np.testing.assert_allclose(values["waves"], [expected["wave"], 2 * expected["wave"]])
            i, j, k = np.indices((2, 3, 2)) + 1
            np.testing.assert_array_equal(values["counted"], 100 * i + 10 * j + k)
            assert values["counted"].dtype == np.int64
            assert set(np.unique(values["grade_rep"])) <= {1, 2, 3}
    layout = mixed.layout
    assert [v.name for v in layout.variables] == list(mixed_values(points(28)[0]))
    assert [v.size for v in layout.variables] == [2, 2, 1, 1, 2, 6, 6, 3, 2, 3]
    assert [v.value_shape for v in layout.variables] == [v.shape for v in mixed_values(points(28)[0]).values()]
    assert [name for name, _ in layout.derived_dims] == ["expected", "stack", "counted", "waves", "grade_rep"]
    assert dict(layout.coords)["both_part"] == ("both:1", "both:2.1", "both:2.2")


# ---- fits
class HandWritten(AbstractTarget):
    """Eight schools in JAX, with the layout of the program."""

    def __init__(self, layout):
        self.layout, self.slots = layout, {}

    data = {}

    def log_density(self, z, data):
        return schools_density(z, SCHOOLS_DATA)

    def constrain(self, z, data):
        return {"z": z}

    def initial_point(self, seed):
        return np.zeros(10)


@pytest.fixture(scope="module")
def approx(schools):
    return po.fit(schools, random_seed=1, progress=False)


def test_fit_agrees_with_that_of_the_model_in_jax(schools, approx):
    """From another seed, so that what agrees are the answers and not the random numbers."""
    reference = po.fit(HandWritten(schools.layout), random_seed=2, progress=False)
    assert approx.result == reference.result == "converged"
    assert abs(approx.elbo - reference.elbo) < 0.1 + 4 * np.hypot(approx.elbo_se, reference.elbo_se)
    mine, theirs = (a.sample_unconstrained(4000) for a in (approx, reference))
    spread = theirs.std(0)
    np.testing.assert_allclose(mine.mean(0) / spread, theirs.mean(0) / spread, atol=0.15)
    np.testing.assert_allclose(mine.std(0) / spread, 1, atol=0.15)
    assert any("some 3 times" in note for note in approx.record.notes)
    assert "Stan" in repr(approx)


def test_draws_carry_names_dims_and_generated_quantities(schools, approx):
    tree = approx.sample(2000)
    draws = tree["posterior"]
    assert list(draws.data_vars) == ["mu", "tau", "eta", "theta", "y_rep"]
    assert draws["theta"].dims == ("chain", "draw", "school")
    assert list(draws["school"].values) == list("ABCDEFGH")
    theta = draws["mu"] + draws["tau"] * draws["eta"]
    np.testing.assert_allclose(draws["theta"], theta, rtol=1e-12)
    assert list(tree["constant_data"].data_vars) == ["J", "y", "sigma"]
    assert tree["constant_data"]["y"].dims == ("school",)
    # y_rep ~ normal(theta, sigma), a new one for every draw
    noise = (draws["y_rep"].values - theta.values)[0] / SCHOOLS_DATA["sigma"]
    error = 4 / np.sqrt(noise.size)
    assert abs(noise.mean()) < error
    assert abs(noise.var() - 1) < error * np.sqrt(2)
    assert abs((noise[1:] * noise[:-1]).mean()) < error
    assert np.unique(noise).size == noise.size
    np.testing.assert_array_equal(approx.sample(2000)["posterior"]["y_rep"], draws["y_rep"])


def test_other_data_need_no_compilation(schools, approx, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("compiled again")

    monkeypatch.setattr(build, "_compile", fail)
    y = SCHOOLS_DATA["y"][::-1]
    made_again = stan(f"\n{schools_program()}", {**SCHOOLS_DATA, "y": y}, progress=False)
    with_data = schools.with_data({"y": y})
    assert with_data.compiled is made_again.compiled is schools.compiled
    elbo = [
        po.fit(made_again, random_seed=1, progress=False),
        po.fit(with_data, random_seed=1, progress=False),
        po.fit(schools, data={"y": y}, random_seed=1, progress=False),
    ]
    assert len({a.elbo for a in elbo}) == 1
    assert elbo[0].elbo != approx.elbo
    assert all(a.record.seconds_compiling == 0 for a in elbo)
    np.testing.assert_array_equal(elbo[2].sample(10)["constant_data"]["y"], y)
    with pytest.raises(OptionError, match="coords of 'school' must hold 3 labels, not 8"):
        schools.with_data({"J": 3, "y": [1, 2, 3], "sigma": [1, 1, 1]})
    three = schools.with_data({"J": 3, "y": [1, 2, 3], "sigma": [1, 1, 1]}, coords={"school": list("XYZ")})
    assert three.layout.size == 5
    assert three.compiled is not schools.compiled
    assert po.fit(three, n=200, progress=False).sample(5)["posterior"]["theta"].shape == (1, 5, 3)
    with pytest.raises(DataError, match=r"'eta' has the shape \(3,\), and \(8,\)"):
        po.fit(schools, data=three.data, progress=False)


def test_data_that_do_not_fit_are_refused_in_stans_words(schools):
    with pytest.raises(DataError, match=r"Stan refuses the data: .*y.*\(8\).*\(2\).*program.stan.*line 4"):
        schools.with_data({"y": [1, 2]})
    with pytest.raises(DataError, match=r"sigma\[3\] is -1"):
        schools.with_data({"sigma": [1, 1, -1, 1, 1, 1, 1, 1]})


def test_a_file_keeps_draws_and_takes_the_program_again(schools, approx, tmp_path):
    approx.save(tmp_path / "schools.posterion")
    loaded = po.load(tmp_path / "schools.posterion")
    assert loaded.elbo == approx.elbo
    original, kept = approx.sample()["posterior"], loaded.sample()["posterior"]
    assert kept.to_dataset().drop_attrs().identical(original.to_dataset().drop_attrs())
    with pytest.raises(UnsupportedModelError, match=r"1,000 draws and 1,001.*model="):
        loaded.sample(1001)
    bound = po.load(tmp_path / "schools.posterion", model=schools)
    np.testing.assert_array_equal(bound.sample(1500)["posterior"]["y_rep"], approx.sample(1500)["posterior"]["y_rep"])
    wide = po.load(tmp_path / "schools.posterion", model=schools.with_data({"sigma": [1000] * 8}))
    np.testing.assert_array_equal(wide.sample()["posterior"]["theta"], original["theta"])
    assert wide.sample()["posterior"]["y_rep"].std() > 500


def test_fits_in_threads_are_those_of_one_thread(schools):
    data = [{"y": np.roll(SCHOOLS_DATA["y"], k)} for k in range(4)]
    results = {}

    def work(name, k):
        results[name, k] = po.fit(schools, data=data[k], n=500, random_seed=k, progress=False).params

    threads = [threading.Thread(target=work, args=("threads", k)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        work("alone", k)
        for one, other in zip(*(jax.tree.leaves(results[name, k]) for name in ("threads", "alone")), strict=True):
            # Sums in Stan's mathematics begin where memory is aligned, so the last bits differ from fit to fit.
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


# ---- mini-batches
BATCH = {"rows": ["x", "grade", "measured"], "size": "N", "scale": "scale"}


@pytest.fixture(scope="module")
def batched(toolchain):
    data = {name: value for name, value in mixed_data().items() if name != "scale"}
    return stan(HERE / "mixed.stan", data, batch=BATCH, include_paths=[HERE / "include"], progress=False)


@pytest.mark.parametrize("rows", [[3, 17, 4, 0, 9], [19, 2, 8, 8, 8], [11]])
def test_some_rows_are_scaled_up_to_all(batched, rows):
    """An epoch's last batch is filled up with its last row, which counts once."""
    with jax.enable_x64(True):
        z, data = jnp.asarray(points(28)[0]), batched.as_arrays(batched.data)
        cut = {**data, "x": jnp.asarray(rows, jnp.int32)}
        mine = jax.value_and_grad(lambda z: batched.log_density(z, cut))(z)
        distinct = list(dict.fromkeys(rows))
        theirs = jax.value_and_grad(lambda z: mixed_density(z, mixed_data(), distinct))(z)
        np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-11)
        np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(batched.log_density(z, data), mixed_density(z, mixed_data()), rtol=1e-11)
        with pytest.raises(Exception, match="there is no row 20"):
            batched.log_density(z, {**data, "x": jnp.asarray([20], jnp.int32)})


def test_a_fit_in_batches_is_that_of_all_rows(batched, mixed):
    some = po.fit(batched, batch_size=6, random_seed=1, progress=False)
    assert (some.record.rows_per_step, some.record.num_rows) == (6, 20)
    whole = po.fit(mixed, random_seed=2, progress=False)
    assert abs(some.elbo - whole.elbo) < 0.3 + 4 * np.hypot(some.elbo_se, whole.elbo_se)
    mine, theirs = (a.sample_unconstrained(4000) for a in (some, whole))
    np.testing.assert_allclose(mine.mean(0), theirs.mean(0), atol=0.25 * theirs.std(0).max())
    np.testing.assert_allclose(mine.std(0) / theirs.std(0), 1, atol=0.3)
    more = {name: np.concatenate([batched.data[name]] * 3) for name in BATCH["rows"]}
    longer = po.fit(batched.with_data({"N": 60, **more}), batch_size=7, n=50, progress=False)
    assert longer.record.num_rows == 60


def test_a_batched_posterior_is_kept_like_any_other(batched, tmp_path):
    approx = po.fit(batched, batch_size=6, n=100, random_seed=1, progress=False)
    approx.save(tmp_path / "a.posterion")
    kept = po.load(tmp_path / "a.posterion").sample()["posterior"]
    for name, draws in approx.sample()["posterior"].items():
        np.testing.assert_array_equal(kept[name], draws)
        assert kept[name].dtype == draws.dtype
    bound = po.load(tmp_path / "a.posterion", model=batched)
    np.testing.assert_array_equal(
        bound.sample(50)["posterior"]["grade_rep"], approx.sample(50)["posterior"]["grade_rep"]
    )
    with pytest.raises(UnsupportedModelError, match="nothing to predict"):
        approx.predict({"x": [[0.0, 1.0]]})


def test_a_program_whose_parts_are_not_the_whole_is_refused(batched, mixed):
    with pytest.raises(UnsupportedModelError, match=r"cannot be fitted in batches.*'scale' set to N / B, average to"):
        po.fit(batched.with_data({"mean_of_rows": 1}), batch_size=5, progress=False)
    with pytest.raises(UnsupportedModelError, match="batch_size"):
        po.fit(mixed, batch_size=5, progress=False)
    with pytest.raises(OptionError, match="rows are those of 'x', 'grade', 'measured', not of 'cut'"):
        po.fit(batched, batch_size=5, batch_over="cut", progress=False)


# ---- rejections
def test_rejections_are_counted_and_not_fatal(mixed):
    """The program rejects every sigma above 0.4, which is where the data want it."""
    target = mixed.with_data({"ceiling": 0.4})
    z = target.initial_point(0)
    with jax.enable_x64(True):
        assert np.isfinite(target.log_density(jnp.asarray(z), target.data))
        z = jnp.asarray(z).at[4].set(1.0)
        value, gradient = jax.value_and_grad(lambda z: target.log_density(z, target.as_arrays(target.data)))(z)
        assert value == -np.inf
        assert np.isnan(gradient).all()
    rejections = target.rejections
    assert rejections > 0
    approx = po.fit(target, n=1000, random_seed=0, progress=False)
    assert 0 < approx.record.skipped_steps <= target.rejections - rejections
    assert f"skipped  {approx.record.skipped_steps} steps" in repr(approx)
    assert approx.sample(100)["posterior"]["sigma"].mean() < 0.4


def test_where_everything_is_rejected_the_reason_is_told(mixed):
    with pytest.raises(NonFiniteError, match=r"sigma is \d.*above the ceiling.*mixed.stan.*line \d+"):
        po.fit(mixed.with_data({"ceiling": 0}), progress=False)


def test_generated_quantities_that_fail_leave_the_rest(mixed):
    with jax.enable_x64(True):
        z = jnp.asarray(points(28)[0])
        good, bad = (t.constrain(z, t.data) for t in (mixed, mixed.with_data({"fail": 1})))
        parameters = list(mixed_values(z))
    for name in ("counted", "grade_rep"):
        assert np.all(np.asarray(bad[name]) == -(2**31))
    assert np.isnan(np.asarray(bad["waves"])).all()
    for name in (*parameters, "expected", "stack"):
        np.testing.assert_array_equal(bad[name], good[name], err_msg=name)


def test_the_page_runs(toolchain, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
            exec(compile(block, str(PAGE), "exec"), names)
    assert "verdict" in capsys.readouterr().out
    assert names["same_thing"].fitted_data["y"].tolist() == [10, 5, 0, 5, 0, 0, 10, 5]
    np.testing.assert_allclose(names["predictive_std"], np.hypot(SCHOOLS_DATA["sigma"], 4), rtol=0.15)
    assert names["predictive_std"].dims == ("school",)


def test_the_files_beside_the_tests_are_in_use(mixed):
    assert "predictor.stan" in (HERE / "mixed.stan").read_text()
    assert mixed.program.included
