"""Data from outside: what is wrong with them is named."""

import numpy as np
import pandas as pd
import pytest

from posterion.errors import DataError
from posterion.target import Slot
from posterion.target.checks import check_array, check_data

SLOTS = {
    "x": Slot("float64", (None, 3), ("row", "column"), row_axis=0),
    "group": Slot("int64", (None,), ("row",), row_axis=0, below=4),
    "flag": Slot("bool", (None,), ("row",), row_axis=0),
    "weights": Slot("float64", (3,)),
    "rate": Slot("float64", ()),
}
GOOD = {"x": np.ones((2, 3)), "group": [0, 3], "flag": [True, False], "weights": [1.0, 2.0, 3.0], "rate": 0.5}


def test_good_data_pass_in_the_order_of_the_slots():
    arrays = check_data(SLOTS, dict(reversed(GOOD.items())))
    assert list(arrays) == list(SLOTS)
    assert arrays["x"] is GOOD["x"]  # not copied
    assert arrays["group"].dtype == np.int64
    assert arrays["rate"].shape == ()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("y", 1, r"No input is named 'y'\. The inputs are: 'x', 'group', 'flag', 'weights', 'rate'"),
        ("x", np.ones((2, 4)), r"'x' has shape \(2, 4\) and needs \(rows, 3\)"),
        ("x", np.ones((5, 3)), "'x' has 5 entries along 'row' and 'group' has 2"),
        ("x", np.ones(3), r"'x' has 1 axes and needs 2.*single row"),
        ("weights", [1.0, 2.0], r"'weights' has shape \(2,\) and needs \(3,\)"),
        ("weights", [1.0, np.nan, np.inf], r"'weights' has 2 infinite or missing \(1 NaN\) values, the first in row 1"),
        (
            "x",
            np.array([[1, 1, np.nan], [np.nan, 1, np.nan]]),
            r"3 missing \(NaN\) values in columns 0, 2, the first in row 0",
        ),
        ("group", [0, 4], r"'group' is an index into 4 entries \(0 to 3\) and holds 4"),
        ("group", [0, -5], "holds -5"),
        ("group", [0.0, 1.5], r"whole numbers \(int64\) and holds .*1\.5"),
        ("group", [0.0, np.nan], "missing"),
        ("group", ["a", "b"], "'group' holds text"),
        ("flag", [0.0, 2.0], "must hold whole numbers"),
        ("weights", [1, 2, 3j], "complex"),
        ("weights", np.array(["2026-01-01"] * 3, "datetime64[D]"), "dates"),
        ("weights", [object(), 1, 2], "not numbers"),
        ("x", [[1, 2, 3], [4, 5]], "different lengths"),
        ("x", np.zeros((0, 3)), "'x' has no rows"),
    ],
)
def test_bad_data_are_named(name, value, sentence):
    with pytest.raises(DataError, match=sentence):
        check_data(SLOTS, GOOD | {name: value})


def test_a_missing_slot_is_named_unless_some_suffice():
    some = {"x": GOOD["x"]}
    with pytest.raises(DataError, match="lack 'group', 'flag', 'weights', 'rate'"):
        check_data(SLOTS, some)
    assert list(check_data(SLOTS, some, partial=True)) == ["x"]


def test_tables():
    table = pd.DataFrame({"a": [1.0, 2], "b": [True, False], "c": [3, 4]})
    np.testing.assert_array_equal(check_array("x", SLOTS["x"], table), [[1, 1, 3], [2, 0, 4]])
    with pytest.raises(DataError, match="columns that are not numbers: 'b', 'c'"):
        check_array("x", SLOTS["x"], table.assign(b=["u", "v"], c=pd.to_datetime(["2026-01-01", "2026-01-02"])))
    # pandas' own missing values become NaN, which is named as such
    with pytest.raises(DataError, match=r"1 missing \(NaN\) value in column 0"):
        check_array("x", SLOTS["x"], table.assign(a=[None, 2.0]))
    nullable = pd.Series([1, None, 3], dtype="Int64")
    with pytest.raises(DataError, match="missing"):
        check_array("weights", SLOTS["weights"], nullable)


def test_infinity_where_it_means_something():
    array = check_array("weights", SLOTS["weights"], [0.0, np.inf, -np.inf], may_be_infinite=True)
    assert np.isinf(array).sum() == 2
    with pytest.raises(DataError, match="missing"):
        check_array("weights", SLOTS["weights"], [0.0, np.inf, np.nan], may_be_infinite=True)


def test_other_kinds_of_number_are_converted():
    assert check_array("flag", SLOTS["flag"], [0.0, 1.0]).dtype == bool
    assert check_array("group", SLOTS["group"], np.array([0, 3], "uint8")).dtype == np.int64
    assert check_array("x", SLOTS["x"], np.ones((2, 3), int)).dtype.kind in "if"
