"""Data are read from mappings and JSON, and checked against the program's declarations."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends.stan.data import check, read_data, slots_of
from tests.frontends.stan.fakes import program

SLOTS = slots_of(
    program(inputs={"N": ("int", 0), "y": ("int", 1), "x": ("real", 2), "scale": ("real", 0)}), {"y": ["row"]}
)
GOOD = {"N": 2, "y": [0, 1], "x": [[1.0, 2.0], [3.0, 4.0]], "scale": 2}


def test_slots_follow_the_declarations():
    assert SLOTS["x"].shape == (None, None)
    assert (SLOTS["N"].dtype, SLOTS["x"].dtype) == ("int64", "float64")
    assert SLOTS["y"].dims == ("row",)
    for kind in ("complex", "tuple"):
        with pytest.raises(UnsupportedModelError, match=f"'z', a {kind}, as data"):
            slots_of(program(inputs={"z": (kind, 0)}), {})


def test_good_data_become_arrays():
    arrays = check(SLOTS, {**GOOD, "not in the program": "text"})
    assert list(arrays) == ["N", "y", "x", "scale"]
    assert arrays["scale"].dtype == np.float64
    assert arrays["y"].dtype == np.int64
    tables = check(SLOTS, {**GOOD, "x": pd.DataFrame(GOOD["x"]), "y": pd.Series([False, True])})
    np.testing.assert_array_equal(tables["x"], arrays["x"])
    np.testing.assert_array_equal(tables["y"], arrays["y"])
    assert check(SLOTS, {**GOOD, "x": []})["x"].shape == (0, 0)  # as CmdStan's JSON has it
    assert check(SLOTS, {**GOOD, "scale": np.inf})["scale"] == np.inf


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": [0.5, 1]}, "'y' must hold whole numbers"),
        ({"y": [0, 2**31]}, "'y' holds whole numbers beyond 32 bits"),
        ({"x": [1.0, 2.0]}, r"'x' has shape \(2,\)"),
        ({"x": [[1.0, 2.0], [3.0, np.nan]]}, "missing"),
        ({"x": [[1.0], [2.0, 3.0]]}, "different lengths"),
        ({"scale": "two"}, "text"),
    ],
)
def test_what_does_not_fit_is_named(changed, message):
    with pytest.raises(DataError, match=message):
        check(SLOTS, {**GOOD, **changed})


def test_a_missing_name_is_named():
    with pytest.raises(DataError, match="lack 'scale'"):
        check(SLOTS, {name: value for name, value in GOOD.items() if name != "scale"})


def test_json_files_are_read(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(GOOD))
    assert read_data(path) == read_data(str(path)) == GOOD
    assert read_data(GOOD) is GOOD
    assert read_data(None) == {}
    path.write_text("[1, 2]")
    with pytest.raises(DataError, match="must hold a JSON object"):
        read_data(path)
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_data(path)
    with pytest.raises(DataError, match="No such file"):
        read_data(Path("nowhere.json"))
    with pytest.raises(OptionError, match="not a int"):
        read_data(3)  # pyright: ignore[reportArgumentType]
