"""Sources of every kind give the same rows; what is wrong with files is said by file and column."""

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import posterion.data
from posterion.data.look import read_all, sample
from posterion.errors import DataError, OptionError

ROWS = 1000
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((ROWS, 2)).astype(np.float32)
Y = RANDOM.integers(0, 5, ROWS).astype(np.int64)
CITY = np.array(["oslo", "bern", "wien"])[RANDOM.integers(0, 3, ROWS)]
COLUMNS = {"x": ["a", "b"], "y": "y"}


def as_is(rows, place):
    return rows


def table(rows=slice(None), **others):
    return pa.table({"a": X[rows, 0], "b": X[rows, 1], "y": Y[rows], "city": CITY[rows], **others})


def parquet_file(folder):
    pq.write_table(table(), folder / "all.parquet", row_group_size=170)
    return posterion.data.parquet(folder / "all.parquet", COLUMNS)


def parquet_pattern(folder):
    for k in range(4):
        pq.write_table(table(slice(250 * k, 250 * (k + 1))), folder / f"part-{k}.parquet")
    return posterion.data.parquet(str(folder / "part-*.parquet"), COLUMNS)


def parquet_partitions(folder):
    for k in range(4):
        (folder / f"year={2000 + k}").mkdir()
        pq.write_table(table(slice(250 * k, 250 * (k + 1))), folder / f"year={2000 + k}" / "part.parquet")
    return posterion.data.parquet(folder, COLUMNS)


def arrow_file(folder):
    with pa.OSFile(str(folder / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=300)
    return posterion.data.arrow(folder / "t.arrow", COLUMNS)


def npy_files(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    return posterion.data.memory_map({"x": folder / "x.npy", "y": folder / "y.npy"})


def zarr_store(folder):
    zarr = pytest.importorskip("zarr")
    for name, values in (("x", X), ("y", Y)):
        stored = zarr.create_array(
            str(folder / f"{name}.zarr"), shape=values.shape, chunks=(300, *values.shape[1:]), dtype=values.dtype
        )
        stored[:] = values
    return posterion.data.zarr({"x": folder / "x.zarr", "y": folder / "y.zarr"})


def polars_frame(folder):
    return posterion.data.frame(pytest.importorskip("polars").from_arrow(table()), COLUMNS)


def duckdb_relation(folder):
    pytest.importorskip("duckdb")
    import duckdb

    stored = table()  # noqa: F841 - the query sees it by its name
    return posterion.data.frame(duckdb.sql("SELECT * FROM stored"), COLUMNS)


def batches(folder):
    chunks = lambda: ({"x": X[k : k + 77], "y": Y[k : k + 77]} for k in range(0, ROWS, 77))
    return posterion.data.iterator(chunks, num_rows=ROWS)


KINDS = {
    "arrays": lambda folder: posterion.data.arrays({"x": X, "y": Y}),
    "memory_map": npy_files,
    "zarr": zarr_store,
    "parquet": parquet_file,
    "parquet by pattern": parquet_pattern,
    "parquet by partitions": parquet_partitions,
    "arrow": arrow_file,
    "pandas": lambda folder: posterion.data.frame(table().to_pandas(), COLUMNS),
    "pyarrow": lambda folder: posterion.data.frame(table(), COLUMNS),
    "polars": polars_frame,
    "duckdb": duckdb_relation,
    "iterator": batches,
    "together": lambda folder: posterion.data.together(
        posterion.data.arrays({"x": X, "id": np.arange(ROWS)}),
        posterion.data.frame(table(id=np.arange(ROWS)), {"y": "y", "id": "id"}),
        key="id",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_same_rows(kind, tmp_path):
    source = KINDS[kind](tmp_path)
    assert source.num_rows == ROWS
    assert source.inputs == ("x", "y")
    rows = read_all(source, as_is)
    np.testing.assert_array_equal(rows["x"], X)
    np.testing.assert_array_equal(rows["y"], Y)
    assert f"{ROWS:,} rows" in repr(source)


def test_folders_name_columns(tmp_path):
    parquet_partitions(tmp_path)
    rows = read_all(posterion.data.parquet(tmp_path, {"year": "year"}), as_is)
    np.testing.assert_array_equal(rows["year"], np.repeat(np.arange(2000, 2004), 250))


def test_a_sample_is_of_rows_that_are_there(tmp_path):
    rows = sample(parquet_file(tmp_path), 200, 0, as_is)
    assert 150 <= len(rows["x"]) <= 250
    known = {tuple(x) for x in X}
    assert all(tuple(x) in known for x in rows["x"])
    assert len({tuple(x) for x in rows["x"]}) == len(rows["x"])


# ---- labels
def test_labels_are_coded_once_and_remembered(tmp_path):
    pq.write_table(table(), tmp_path / "train.parquet", row_group_size=100)
    source = posterion.data.parquet(tmp_path / "train.parquet", {"city": "city"})
    assert source.columns == {"columns": {"city": "city"}, "categories": {"city": ["bern", "oslo", "wien"]}}
    codes = read_all(source, as_is)["city"]
    np.testing.assert_array_equal(np.array(["bern", "oslo", "wien"])[codes], CITY)
    # A file in which one label is missing is coded as the first was.
    later = pa.table({"city": pa.array(["wien", "oslo"]).dictionary_encode()})
    again = posterion.data.frame(
        later, **{"columns": source.columns["columns"], "categories": source.columns["categories"]}
    )
    np.testing.assert_array_equal(read_all(again, as_is)["city"], [2, 1])


def test_a_label_without_a_code_is_named():
    source = posterion.data.frame(pa.table({"city": ["oslo", "rome"]}), {"city": "city"}, categories={"city": ["oslo"]})
    with pytest.raises(DataError, match=r"'city' has labels .* not there before: 'rome'"):
        read_all(source, as_is)


# ---- what is wrong with files
def test_missing_values_are_counted_by_column(tmp_path):
    bad = pa.table({"a": pa.array([1.0, None, None]), "b": pa.array([1.0, 2.0, None]), "y": [1, 2, 3]})
    pq.write_table(bad, tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"'a' \(2\), 'b' \(1\).*a IS NOT NULL AND b IS NOT NULL"):
        posterion.data.parquet(tmp_path / "bad.parquet", COLUMNS)
    posterion.data.parquet(tmp_path / "bad.parquet", {"y": "y"})  # columns that are not read do not matter
    with_nan = pa.table({"a": [1.0, float("nan")], "b": [1.0, 2.0], "y": [1, 2]})
    with pytest.raises(DataError, match=r"missing values in the table, rows 0 to 2: 'a' \(1\)"):
        read_all(posterion.data.frame(with_nan, COLUMNS), as_is)


def test_files_that_are_not_alike_are_refused(tmp_path):
    pq.write_table(table(), tmp_path / "1.parquet")
    pq.write_table(table().drop_columns(["b"]), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="has a column 'b' and .*2.parquet has not"):
        posterion.data.parquet(tmp_path, COLUMNS)
    posterion.data.parquet(tmp_path, {"y": "y"})
    pq.write_table(table().set_column(1, "b", pa.array(["text"] * ROWS)), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="column 'b' is float in .* and string in"):
        posterion.data.parquet(tmp_path, COLUMNS)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: posterion.data.parquet("no/such/file.parquet", COLUMNS), "there is no file or folder"),
        (lambda: posterion.data.parquet("no/such/*.parquet", COLUMNS), "no file matches"),
        (lambda: posterion.data.frame(table(), {"x": ["a", "z"]}), r"no column \['z'\]; its columns are \['a', 'b'"),
        (lambda: posterion.data.frame(table(), {}), "columns= is empty"),
        (lambda: posterion.data.frame([1, 2]), "is no table that speaks Arrow"),
        (lambda: posterion.data.arrays({"x": X, "y": Y[:-1]}), "'x' has 1000 rows and 'y' has 999"),
        (lambda: posterion.data.arrays({}), "at least one input"),
        (lambda: posterion.data.arrays({"x": CITY}), "numbers are needed"),
        (lambda: posterion.data.arrays({"x": np.zeros((0, 2))}), "has no rows"),
        (
            lambda: read_all(
                posterion.data.frame(pandas.DataFrame({"t": pandas.date_range("2020", periods=3)})), as_is
            ),
            "'t' holds timestamp",
        ),
    ],
)
def test_what_is_no_source_is_refused(make, says):
    with pytest.raises(DataError, match=says):
        make()


def test_a_file_that_is_no_parquet_file(tmp_path):
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        posterion.data.parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"cannot be read as a \.npy file"):
        posterion.data.memory_map({"x": tmp_path / "x.parquet"})


# ---- inputs in different places
def test_inputs_of_unequal_length_or_order_are_refused():
    x = posterion.data.arrays({"x": X, "id": np.arange(ROWS)})
    short = posterion.data.arrays({"y": Y[1:], "id": np.arange(1, ROWS)})
    with pytest.raises(DataError, match="1000 rows and 'source 2' has 999"):
        posterion.data.together(x, short, key="id")
    order = np.arange(ROWS)
    order[[600, 601]] = 601, 600
    swapped = posterion.data.arrays({"y": Y[order], "id": order})
    with pytest.raises(DataError, match="row 600 has the 'id' .*600.* in one source and .*601.* in another"):
        read_all(posterion.data.together(x, swapped, key="id"), as_is)
    with pytest.raises(DataError, match="source 2 has no input 'id'"):
        posterion.data.together(x, posterion.data.arrays({"y": Y}), key="id")
    with pytest.raises(OptionError, match="an iterator is not"):
        posterion.data.together(x, posterion.data.iterator(lambda: [], num_rows=3), key="id")


# ---- iterators
@pytest.mark.parametrize(("said", "message"), [(999, "gave 1000 rows or more"), (1001, "ended after 1000 rows")])
def test_an_iterator_with_other_rows_than_it_said(said, message):
    chunks = lambda: ({"x": X[k : k + 100]} for k in range(0, ROWS, 100))
    with pytest.raises(DataError, match=message):
        read_all(posterion.data.iterator(chunks, num_rows=said), as_is)


def test_an_iterator_that_could_be_read_only_once():
    with pytest.raises(OptionError, match="fresh iterator for every epoch"):
        posterion.data.iterator(iter([{"x": X}]), num_rows=ROWS)
