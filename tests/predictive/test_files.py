"""Predictions of files: the same numbers as in memory, one part per row group, restartable, shared among machines."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import posterion
from posterion.errors import DataError, OptionError

ROWS = 500
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((ROWS, 2))
CITY = np.array(["bern", "oslo"])[RANDOM.integers(0, 2, ROWS)]
Y = X @ np.array([1.0, -1.0]) + (CITY == "oslo") + RANDOM.standard_normal(ROWS)
COLUMNS = {"x": ["a", "b"], "city": "city", "y": ["y"]}


def table(rows=slice(None)):
    return pa.table({"b": X[rows, 1], "a": X[rows, 0], "city": CITY[rows], "y": Y[rows]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def posterior(folder):
    pq.write_table(table(), folder / "train.parquet", row_group_size=100)
    model = posterion.log_density(
        initial={"w": np.zeros(2), "c": np.zeros(2)},
        data={"x": X[:20], "city": np.zeros(20, int), "y": Y[:20]},
        log_prior=lambda p: -0.5 * (jnp.sum(p["w"] ** 2) + jnp.sum(p["c"] ** 2)),
        log_likelihood=lambda p, d: -0.5 * (d["y"] - d["x"] @ p["w"] - p["c"][d["city"]]) ** 2,
        predict_mean=lambda p, d: d["x"] @ p["w"] + p["c"][d["city"]],
        predict_variance=lambda p, d: jnp.ones(d["x"].shape[0]),
    )
    source = posterion.data.parquet(folder / "train.parquet", COLUMNS)
    return posterion.fit(model, "laplace", data=source, random_seed=0, progress=False)


@pytest.fixture(scope="module")
def new(folder):
    """Files without outcomes, of which one lacks a label that was there before."""
    for k, rows in enumerate((slice(0, 230), slice(230, 500))):
        pq.write_table(table(rows).drop_columns(["y"]), folder / f"new-{k}.parquet", row_group_size=100)
    return str(folder / "new-*.parquet")


@pytest.fixture(scope="module")
def expected(posterior):
    return posterior.predict({"x": X, "city": (CITY == "oslo").astype(int)}, draws=50)


def test_files_give_what_arrays_give(posterior, new, expected, tmp_path):
    prediction = posterior.predict(new, draws=50)
    assert prediction.num_rows == ROWS
    parts = prediction.to_parquet(tmp_path / "out")
    assert [part.name for part in parts] == [f"part-{k:06d}.parquet" for k in range(6)]
    assert [pq.read_metadata(part).num_rows for part in parts] == [100, 100, 30, 100, 100, 70]
    whole = pq.read_table([*parts])
    np.testing.assert_array_equal(whole["row"].to_numpy(), np.arange(ROWS))
    np.testing.assert_allclose(whole["y_mean"].to_numpy(), expected.mean["y"], rtol=1e-12)
    np.testing.assert_allclose(whole["y_std"].to_numpy(), expected.std["y"], rtol=1e-12)
    np.testing.assert_allclose(prediction.in_memory().mean["y"], expected.mean["y"], rtol=1e-12)


def test_a_second_run_makes_only_what_is_missing(posterior, new, tmp_path):
    prediction = posterior.predict(new, draws=50)
    parts = prediction.to_parquet(tmp_path)
    before = {part: (part.read_bytes(), part.stat().st_mtime_ns) for part in parts}
    parts[2].unlink()
    (tmp_path / ".part-000004.parquet.1234.tmp").write_bytes(b"half of it")  # what a killed run leaves
    seen = []
    assert prediction.to_parquet(tmp_path, progress=lambda done, rows: seen.append(done)) == parts
    assert seen == [230]  # one part was made, the third
    assert parts[2].read_bytes() == before[parts[2]][0]
    assert all(part.stat().st_mtime_ns == before[part][1] for part in parts if part != parts[2])


def test_machines_share_the_parts(posterior, new, tmp_path):
    prediction = posterior.predict(new, draws=50)
    shares = [prediction.to_parquet(tmp_path / "shared", shard=(rank, 4)) for rank in range(4)]
    assert [len(share) for share in shares] == [2, 2, 1, 1]
    alone = prediction.to_parquet(tmp_path / "alone")
    together = sorted(part for share in shares for part in share)
    assert [part.read_bytes() for part in together] == [part.read_bytes() for part in alone]
    with pytest.raises(OptionError, match="shard must be"):
        prediction.to_parquet(tmp_path / "shared", shard=(4, 4))


def test_a_folder_of_something_else_is_left_alone(posterior, new, tmp_path):
    posterior.predict(new, draws=50).to_parquet(tmp_path)
    with pytest.raises(OptionError, match="posterior, draws differ"):
        posterior.predict(new, draws=60).to_parquet(tmp_path)
    with pytest.raises(OptionError, match="names differ"):
        posterior.predict(new, draws=50).to_parquet(tmp_path, names=["y"])
    (tmp_path / "_posterion.json").unlink()
    with pytest.raises(OptionError, match="files of something else"):
        posterior.predict(new, draws=50).to_parquet(tmp_path)


def test_a_saved_posterior_remembers_columns_and_codes(posterior, new, expected, tmp_path):
    posterior.save(tmp_path / "p.posterion")
    loaded = posterion.load(tmp_path / "p.posterion")
    found = loaded.predict(new, draws=50).in_memory()
    np.testing.assert_allclose(found.mean["y"], expected.mean["y"], rtol=1e-10)


def test_iterators_and_sources_of_other_kinds(posterior, expected):
    codes = (CITY == "oslo").astype(int)
    chunks = lambda: ({"x": X[k : k + 150], "city": codes[k : k + 150]} for k in range(0, ROWS, 150))
    found = posterior.predict(posterion.data.iterator(chunks, num_rows=ROWS), draws=50)
    means = np.concatenate([prediction.mean["y"] for _, prediction in found.chunks()])
    np.testing.assert_allclose(means, expected.mean["y"], rtol=1e-12)
    whole = posterior.predict(posterion.data.arrays({"x": X, "city": codes, "y": Y}), draws=50)
    np.testing.assert_allclose(whole.in_memory().mean["y"], expected.mean["y"], rtol=1e-12)


def test_what_is_wrong_with_rows_is_said_with_their_place(posterior, tmp_path):
    strange = pa.table({"a": [0.0, np.inf], "b": [0.0, 0.0], "city": ["bern", "oslo"]})
    pq.write_table(strange, tmp_path / "bad.parquet", row_group_size=1)
    found = posterior.predict(tmp_path / "bad.parquet", draws=50)
    with pytest.raises(DataError, match="bad.parquet, row group 1: .*infinite"):
        found.to_parquet(tmp_path / "out")
    assert (tmp_path / "out" / "part-000000.parquet").exists()
    pq.write_table(strange.set_column(2, "city", pa.array(["bern", "rome"])), tmp_path / "new.parquet")
    with pytest.raises(DataError, match="not there before: 'rome'"):
        posterior.predict(tmp_path / "new.parquet", draws=50).in_memory()
    with pytest.raises(DataError, match=r"no column \['city'\]"):
        pq.write_table(strange.drop_columns(["city"]), tmp_path / "less.parquet")
        posterior.predict(tmp_path / "less.parquet", draws=50)
