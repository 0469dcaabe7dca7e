"""Fits of sources: a model built on a few rows is fitted to all of them, in memory or streamed, rightly weighted."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import posterion
from posterion import engine
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.objectives.bounds import log_joint

ROWS, DIM = 4100, 3
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((ROWS, DIM)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
Y = X @ np.array([1.0, -0.5, 0.2]) + RANDOM.standard_normal(ROWS)
PRECISION = X.T @ X + np.eye(DIM)
"""Of the exact posterior: unit noise, standard normal priors."""
MEAN = np.linalg.solve(PRECISION, X.T @ Y)
BEST_SD = 1 / np.sqrt(np.diag(PRECISION))
"""Standard deviations of the best mean-field Gaussian."""
EVIDENCE = -0.5 * (ROWS * np.log(2 * np.pi) + np.linalg.slogdet(PRECISION)[1] + Y @ Y - MEAN @ PRECISION @ MEAN)
LOSS = 0.5 * (np.log(np.diag(PRECISION)).sum() - np.linalg.slogdet(PRECISION)[1])
"""Nats the best mean-field Gaussian lies below the evidence."""


def model(rows=40):
    """Linear regression, built on the first few rows."""
    return posterion.log_density(
        initial={"w": np.zeros(DIM)},
        data={"x": X[:rows], "y": Y[:rows]},
        log_prior=lambda p: -0.5 * jnp.sum(p["w"] ** 2) - 0.5 * DIM * jnp.log(2 * jnp.pi),
        log_likelihood=lambda p, d: -0.5 * (d["y"] - d["x"] @ p["w"]) ** 2 - 0.5 * jnp.log(2 * jnp.pi),
        predict_mean=lambda p, d: d["x"] @ p["w"],
        predict_variance=lambda p, d: jnp.ones(d["x"].shape[0]),
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": Y}), path, row_group_size=1000)
    return path


def source(file, **options):
    return posterion.data.parquet(file, {"x": ["a", "b", "c"], "y": ["y"]}, **options)


def on_disk(folder, x=X, y=Y):
    """The rows as memory maps, streamed."""
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return posterion.data.memory_map({"x": folder / "x.npy", "y": folder / "y.npy"}, memory_limit=0)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    rows = on_disk(tmp_path_factory.mktemp("npy"))
    return posterion.fit(model(), data=rows, batch_size=1025, n=1500, random_seed=3, progress=False)


def agrees(posterior, *, location=0.6, spread=0.3):
    """Means within 0.6 posterior standard deviations and those within 30 %: what 1,500 steps on quarters of the rows
    leave. Rows that count wrongly are off by a factor of ten."""
    draws = posterior.sample_unconstrained(4000)
    assert np.all(np.abs(draws.mean(axis=0) - MEAN) < location * BEST_SD)
    np.testing.assert_allclose(draws.std(axis=0), BEST_SD, rtol=spread)


def test_a_stream_gives_the_posterior_of_all_rows(streamed):
    agrees(streamed)
    assert streamed.record.num_rows == ROWS
    assert any("rows streamed" in note for note in streamed.record.notes)


def test_the_elbo_of_a_stream_is_that_of_all_rows(streamed):
    best = EVIDENCE - LOSS
    assert abs(streamed.elbo - best) < 4 * streamed.elbo_se + 0.5  # half a nat is what these few steps leave
    assert streamed.elbo_se < 2.5  # rows do not scatter it: one batch of 3 rows alone varies by 2,000 nats


def test_the_verdict_of_a_stream_says_that_it_has_no_khat(streamed):
    verdict = streamed.diagnose()
    assert np.isnan(verdict.khat)
    assert any("k-hat was not computed" in reason for reason in verdict.reasons)
    with pytest.raises(DataError, match="not at hand"):
        streamed.predict()


def test_the_same_rows_in_memory_give_the_same(file):
    resident = posterion.fit(model(), data=source(file), batch_size=1025, n=1500, random_seed=3, progress=False)
    agrees(resident)
    assert resident.record.num_rows == ROWS
    assert resident.record.columns == {"columns": {"x": ["a", "b", "c"], "y": ["y"]}, "categories": {}}
    assert np.isfinite(resident.diagnose().khat)


def test_all_rows_of_a_source_at_once():
    whole = posterion.fit(model(), data=posterion.data.arrays({"x": X, "y": Y}), n=2000, random_seed=0, progress=False)
    agrees(whole, location=0.1, spread=0.1)
    assert abs(whole.elbo - (EVIDENCE - LOSS)) < 4 * whole.elbo_se + 0.1


def test_direct_methods_read_a_source_whole(file):
    found = posterion.fit(model(), "laplace", data=source(file, memory_limit=0), random_seed=0, progress=False)
    np.testing.assert_allclose(found.sample_unconstrained(20_000).mean(axis=0), MEAN, atol=5 * BEST_SD.max() / 140)


@pytest.mark.parametrize("batch_size", [512, 1000, 4100])
def test_the_mean_of_an_epoch_is_the_value_for_all_rows(file, batch_size):
    target = model()
    with jax.enable_x64(True):
        given = engine.prepare_data(
            target, source(file, memory_limit=0), batch_size=batch_size, over=None, steps=True, seed=0
        )
        task = engine.Task(given, 0)
        stream, z = task.stream, jnp.asarray([0.9, -0.4, 0.3])
        value = jax.jit(
            lambda index: log_joint(given.target, given.plan.observed)(z, stream.select(stream.data, index))
        )
        values, weights = [], []
        for step in range(stream.steps_per_epoch):
            rows, counts = stream.window(step, 1, 4)
            values.append(float(value(jax.tree.map(lambda a: a[0], (rows, counts)))))
            weights.append(counts[0])
        task.rows.rest()
        prior = float(-0.5 * z @ z - 0.5 * DIM * np.log(2 * np.pi))
        whole = prior + float(np.sum(-0.5 * (Y - X @ np.asarray(z)) ** 2 - 0.5 * np.log(2 * np.pi)))
    assert sum(weights) == ROWS
    np.testing.assert_allclose(np.average(values, weights=weights), whole, rtol=1e-10)


@pytest.mark.slow
def test_the_order_of_rows_changes_nothing_but_noise(tmp_path, streamed):
    order = np.random.default_rng(1).permutation(ROWS)
    permuted = on_disk(tmp_path, X[order], Y[order])
    other = posterion.fit(
        model(),
        data=permuted,
        batch_size=1025,
        n=1500,
        random_seed=3,
        progress=False,
    )
    agrees(other)
    assert abs(other.elbo - streamed.elbo) < 4 * np.hypot(other.elbo_se, streamed.elbo_se) + 0.5


@pytest.mark.slow
def test_stops_by_itself_on_a_stream(tmp_path):
    found = posterion.fit(
        model(),
        data=on_disk(tmp_path),
        batch_size=1025,
        stop=posterion.Rounds(first=500),
        random_seed=0,
        progress=False,
    )
    assert found.result == "converged"
    agrees(found, location=1.0, spread=0.4)


def test_large_arrays_are_compared_batch_by_batch(monkeypatch):
    monkeypatch.setattr(engine.rows, "SAMPLE_ROWS", 1000)
    monkeypatch.setattr(engine.rows, "_RESIDENT_BYTES", 0)
    found = posterion.fit(
        model(), data=posterion.data.arrays({"x": X, "y": Y}), batch_size=1025, n=1500, random_seed=0, progress=False
    )
    agrees(found)
    assert np.isfinite(found.diagnose().khat)  # the rows are in memory: every draw meets all of them


def test_wide_rows_are_many_at_fewer_rows(monkeypatch):
    """Images, say: what stands for all rows is bounded by its numbers, so that activations fit into memory."""
    monkeypatch.setattr(engine.rows, "_SAMPLE_NUMBERS", 2000 * (X.shape[1] + 1))
    streams = []
    whole = engine.rows.RowStreams.__init__
    monkeypatch.setattr(
        engine.rows.RowStreams, "__init__", lambda self, *rest: (whole(self, *rest), streams.append(self))[0]
    )
    found = posterion.fit(model(ROWS), batch_size=1025, n=1500, random_seed=0, progress=False)
    assert streams[0].by_batches
    assert streams[0].num_sampled == 2000
    assert streams[0].comparison_batches(1024).batch_size <= 2000
    agrees(found)


# ---- what does not fit
@pytest.mark.parametrize(
    ("make", "options", "error", "says"),
    [
        (lambda f: posterion.data.arrays({"x": X}), {}, DataError, r"rows of the model are in \['x', 'y'\]"),
        (lambda f: posterion.data.parquet(f), {}, DataError, "Name the columns of each input"),
        (lambda f: source(f), {"batch_size": 5000}, OptionError, "larger than the 4100 rows"),
        (lambda f: posterion.data.arrays({"x": X[:, :2], "y": Y}), {}, DataError, "has shape"),
        (lambda f: posterion.data.arrays({"x": X, "y": np.where(Y > 3, np.inf, Y)}), {}, DataError, "infinite"),
    ],
)
def test_sources_that_do_not_fit_the_model(file, make, options, error, says):
    with pytest.raises(error, match=says):
        posterion.fit(model(), data=make(file), progress=False, **options)


def test_a_dict_of_other_rows_is_pointed_to_sources():
    with pytest.raises(DataError, match=r"posterion\.data\.arrays"):
        posterion.fit(model(), data={"x": X, "y": Y}, progress=False)


def test_a_density_without_rows_takes_no_source(file):
    target = posterion.log_density(lambda p: -0.5 * jnp.sum(p["w"] ** 2), initial={"w": np.zeros(2)})
    with pytest.raises(UnsupportedModelError, match="only has a density"):
        posterion.fit(target, data=source(file), progress=False)


# ---- models of other packages
def pymc_model(x, y):
    pm = pytest.importorskip("pymc")
    with pm.Model() as model:
        inputs = pm.Data("x", x, dims=("row", "column"))
        w = pm.Normal("w", 0, 1, shape=DIM)
        pm.Normal("out", inputs @ w, 1, observed=pm.Data("y", y, dims="row"), dims="row")
    return model, {}


def numpyro_model(x, y):
    import numpyro
    from numpyro import distributions as dist

    def model(x, y):
        w = numpyro.sample("w", dist.Normal(jnp.zeros(DIM), 1).to_event(1))
        with numpyro.plate("row", x.shape[0]):
            numpyro.sample("out", dist.Normal(x @ w, 1), obs=y)

    return model, {"model_args": (x, y)}


@pytest.mark.slow
@pytest.mark.parametrize("make", [pymc_model, numpyro_model])
def test_models_of_other_packages_built_on_a_few_rows(make, tmp_path):
    built, arguments = make(X[:50], Y[:50])
    found = posterion.fit(
        built, data=on_disk(tmp_path), batch_size=1025, n=1500, random_seed=0, progress=False, **arguments
    )
    agrees(found)
    assert found.record.num_rows == ROWS
    rows = posterion.data.arrays({"x": X[:300]})
    np.testing.assert_allclose(
        found.predict(rows, draws=100).in_memory().mean["out"],
        X[:300] @ found.sample_unconstrained(4000).mean(axis=0),
        atol=0.05,
    )
