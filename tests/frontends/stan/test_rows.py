"""What a user says of a program's rows is checked against its declarations and its data."""

import pytest

from posterion.errors import DataError, OptionError
from posterion.frontends.stan.library import Batching
from posterion.frontends.stan.rows import check_rows, read_batching
from tests.frontends.stan.fakes import program

PROGRAM = program(
    inputs={"N": ("int", 0), "x": ("real", 2), "y": ("int", 1), "scale": ("real", 0), "groups": ("int", 1)}
)
GOOD = {"rows": ["x", "y"], "size": "N", "scale": "scale"}
BATCHING = Batching(("x", "y"), "N", "scale")


def test_names_are_read():
    assert read_batching(GOOD, PROGRAM) == BATCHING
    assert read_batching({**GOOD, "rows": "y"}, PROGRAM).rows == ("y",)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"rows": ["x"], "size": "N"}, "batch must name 'rows', 'size', 'scale', not 'rows', 'size'"),
        ({**GOOD, "rows": ["x", "z"]}, "batch names 'z', and model.stan has no such data; it has N, x, y"),
        ({**GOOD, "rows": []}, "at least one"),
        ({**GOOD, "rows": ["x", "N"]}, "whose first axis is rows"),
        ({**GOOD, "size": "groups"}, r"batch\['size'\] must be a single int"),
        ({**GOOD, "size": "scale"}, r"batch\['size'\] must be a single int"),
        ({**GOOD, "scale": "N"}, r"batch\['scale'\] must be a single real"),
    ],
)
def test_what_does_not_fit_the_program_is_named(batch, message):
    with pytest.raises(OptionError, match=message):
        read_batching(batch, PROGRAM)


def test_data_get_a_scale_of_one_and_are_counted():
    data = {"N": 2, "x": [[1.0], [2.0]], "y": [1, 2], "groups": [1]}
    assert check_rows(data, BATCHING) == {**data, "scale": 1.0}
    with pytest.raises(DataError, match="'scale' is set for each batch, and must be 1"):
        check_rows({**data, "scale": 2.0}, BATCHING)
    with pytest.raises(DataError, match="'y' has 3 rows, and 'N' says 2"):
        check_rows({**data, "y": [1, 2, 3]}, BATCHING)
    with pytest.raises(DataError, match="'x' has no rows, and 'N' says 2"):
        check_rows({**data, "x": 1.0}, BATCHING)
