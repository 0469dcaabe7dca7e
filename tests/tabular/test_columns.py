"""What columns are taken for, and new rows held against them."""

import numpy as np
import pandas as pd
import pytest

from posterion.errors import DataError
from posterion.tabular.columns import Schema, as_numbers, check_rows, infer_schema, kind_of

N = 60
FRAME = pd.DataFrame(
    {
        "patient": np.arange(1001, 1001 + N),
        "age": np.concatenate([[20.0, 80.0], np.random.default_rng(1).integers(20, 81, N - 2)]),
        "marker": np.random.default_rng(0).normal(size=N),
        "sex": ["female", "male"] * (N // 2),
        "smoker": ["yes", "no", None] * (N // 3),
        "treated": [True, False] * (N // 2),
        "visit": pd.date_range("2020-01-01", periods=N, freq="7D").astype(str),
        "remark": [f"came in at {k} with a cough" for k in range(N)],
        "clinic": ["Ward 7"] * N,
        "empty": [None] * N,
    }
)


def test_whole_numbers_too_long_for_floats_are_identifiers():
    ((name, reason),) = infer_schema(FRAME[["age"]].assign(long=2**60 + 7 * np.arange(N))).dropped
    assert name == "long" and "beyond 2^53" in reason


def test_kinds_and_what_is_left_out():
    schema = infer_schema(FRAME, leave_out=["treated"])
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds == {"age": "number", "marker": "number", "sex": "category", "smoker": "boolean", "visit": "date"}
    assert {name: reason.split(":")[0] for name, reason in schema.dropped} == {
        "patient": "numbers the rows (an identifier)",
        "remark": "is different in nearly every row (an identifier or free text)",
        "clinic": "is constant ('Ward 7' in every row)",
        "empty": "has no values",
    }
    age = schema.columns[0]
    assert (age.low, age.high, age.whole, age.missing) == (20.0, 80.0, True, 0)
    assert schema.columns[3].missing == N // 3


def test_schema_survives_json():
    import json

    schema = infer_schema(FRAME)
    plain = json.loads(json.dumps(schema.to_plain()))
    again = Schema.from_plain(plain)
    assert [c for c in again.columns if c.kind == "number"] == [c for c in schema.columns if c.kind == "number"]
    assert again.dropped == schema.dropped
    assert again.names == schema.names


def test_a_table_without_a_usable_column_is_refused():
    with pytest.raises(DataError, match="'a' is constant"):
        infer_schema(pd.DataFrame({"a": [1, 1, 1]}))


def test_infinite_numbers_are_counted():
    with pytest.raises(DataError, match="'x' has 2 infinite values"):
        infer_schema(pd.DataFrame({"x": [1.0, np.inf, -np.inf]}))


def test_rows_that_fit_come_out_as_numbers_and_labels():
    schema = infer_schema(FRAME)
    new = pd.DataFrame(
        {
            "smoker": ["TRUE", "0"],
            "sex": [" male ", None],
            "age": ["41", np.nan],
            "marker": [0, 1],
            "visit": ["2021-01-01", None],
            "treated": [1, 0],
        }
    )
    checked = check_rows(new, schema).frame
    assert checked.columns.tolist() == schema.names
    assert checked["sex"].tolist() == ["male", None]
    np.testing.assert_array_equal(checked["age"], [41.0, np.nan])
    np.testing.assert_array_equal(checked["smoker"], [1.0, 0.0])
    np.testing.assert_allclose(checked["visit"].iloc[0], 51.0, atol=0.01)


def test_new_labels_and_far_values_are_noted():
    schema = infer_schema(FRAME)
    new = FRAME.iloc[:2].assign(sex=["divers", "male"], age=[20, 900])
    notes = " ".join(check_rows(new, schema).notes)
    assert "labels that training did not: 'divers'" in notes
    assert "'age' has 1 value far outside" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": ["old", 30]}, "column 'age', row 1: found 'old', expected a number"),
        ({"smoker": ["yes", "sometimes"]}, "column 'smoker', row 2: found 'sometimes', expected yes or no"),
        ({"visit": ["2020-01-01", "soon"]}, "column 'visit', row 2: found 'soon', expected a date"),
        ({"marker": [0.0, np.inf]}, "column 'marker', row 2"),
    ],
)
def test_cells_that_do_not_fit_are_named(change, message):
    schema = infer_schema(FRAME)
    with pytest.raises(DataError, match=message):
        check_rows(FRAME.iloc[:2].assign(**change), schema)


def test_dates_are_read_where_they_can_be_in_one_way_only():
    days = ["31.3.2020", "2020-03-31", "2020/3/31", "31.03.2020 06:00"]
    years = as_numbers(pd.Series(days), "date")
    np.testing.assert_allclose(years[:3], 50.246, atol=1e-3)
    np.testing.assert_allclose(years[3] - years[0], 0.25 / 365.25)
    assert {kind_of(pd.Series([day])) for day in days} == {"date"}
    assert kind_of(pd.Series(["03/04/2020"])) == "category"


def test_cells_are_shown_as_a_person_writes_them():
    schema = infer_schema(FRAME)
    columns, checked = {column.name: column for column in schema.columns}, check_rows(FRAME, schema).frame
    shown = {name: columns[name].written(checked[name].iloc[2]) for name in ("age", "smoker", "sex", "visit")}
    assert shown == {"age": f"{FRAME['age'][2]:g}", "smoker": "", "sex": "female", "visit": "2020-01-15"}
    assert columns["smoker"].written(checked["smoker"].iloc[0]) == "yes"
    assert columns["visit"].describe() == "2020-01-01 to 2021-02-17"


@pytest.mark.parametrize(
    ("cell", "what_to_do"),
    [
        ("{}.50 €", "write them as 1234.5"),
        ("1,{}", "write them as 1234.5"),
        ("03/04/2{}", "write them as 2020-03-31"),
        ("P-{}", None),
        ("0{}", None),
    ],
)
def test_numbers_and_dates_that_cannot_be_read_are_not_left_out_in_silence(cell, what_to_do):
    cells = [cell.format(k) + ("" if cell != "0{}" else "A") for k in range(100, 200)]
    ((_, reason),) = infer_schema(FRAME.iloc[[0] * 50 + [1] * 50].assign(cost=cells)).dropped[-1:]
    assert "identifier or free text" in reason
    assert ("write them" in reason) == (what_to_do is not None)
    assert what_to_do is None or what_to_do in reason


def test_absent_columns_are_named():
    schema = infer_schema(FRAME)
    with pytest.raises(DataError, match=r"lack the columns \['marker'\]"):
        check_rows(FRAME.drop(columns="marker"), schema)


@pytest.mark.parametrize("cells", [[True], [2020.5], ["yes"], [1]])
def test_a_part_of_a_table_without_dates_where_dates_belong_is_named(cells):
    """pandas decides anew for every part of a file what its columns are: truth values, numbers, nothing."""
    schema = infer_schema(FRAME)
    with pytest.raises(DataError, match="column 'visit', row 1: found .*, expected a date"):
        check_rows(FRAME.iloc[:1].assign(visit=cells), schema)
    assert np.isnan(check_rows(FRAME.iloc[:1].assign(visit=[np.nan]), schema).frame["visit"].iloc[0])
