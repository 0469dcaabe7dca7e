"""The layout of a program's variables, with the names a user gives their axes."""

import numpy as np
import pytest

from posterion.errors import OptionError, UnsupportedModelError
from posterion.frontends.stan.labels import make_layout
from posterion.frontends.stan.library import Output
from tests.frontends.stan.fakes import program

PROGRAM = program(
    inputs={"x": ("real", 2)},
    parameters={"mu": ("real", 0), "w": ("real", 2), "share": ("real", 1), "v": ("real", 1), "both": ("tuple", 0)},
    generated={"waves": ("complex", 1)},
)
OUTPUTS = (
    Output("mu", 1, 1, ()),
    Output("w", 6, 6, (2, 3)),
    Output("share", 2, 3, (3,)),
    Output("v", 4, 4, (4,)),
    Output("both", 2, 2, (2,)),
    Output("waves", 0, 4, (2, 2)),
)
NAMES = [f"n{k}" for k in range(20)]


def layout(dims=(), coords=()):
    return make_layout(PROGRAM, OUTPUTS, lambda: NAMES, dict(dims), dict(coords))


def test_shapes_of_values_and_of_free_entries():
    found = layout()
    assert [v.shape for v in found.variables] == [(), (6,), (2,), (4,), (2,)]
    assert [v.value_shape for v in found.variables] == [(), (2, 3), (3,), (4,), (2,)]
    assert found.size == 15
    assert found.derived_dims == (("waves", ()),)
    assert found.dims["both"] == ("both_part",)
    assert dict(found.coords) == {"both_part": ("n14", "n15")}


def test_names_are_given_by_the_user():
    labels = np.array(["2020-01-01", "2020-02-01"], "datetime64[D]")
    found = layout(
        {"w": ["month", None], "waves": ["frequency"], "x": ["row", None]}, {"month": labels, "frequency": (1, 2)}
    )
    assert found.dims["w"] == ("month", None)
    assert found.dims["waves"] == ("frequency",)
    assert dict(found.coords)["month"] == ("2020-01-01", "2020-02-01")
    assert dict(found.coords)["frequency"] == (1, 2)


@pytest.mark.parametrize(
    ("dims", "coords", "message"),
    [
        ({"nothing": ["a"]}, {}, "dims names 'nothing', which model.stan does not have; it has x, mu, w"),
        ({"w": ["a"]}, {}, "dims of 'w' must name 2 axes, not 1"),
        ({"w": ["a", "b"]}, {"b": [1, 2]}, "coords of 'b' must hold 3 labels, not 2"),
    ],
)
def test_what_does_not_fit_is_named(dims, coords, message):
    with pytest.raises(OptionError, match=message):
        layout(dims, coords)


def test_a_program_without_parameters_is_refused():
    with pytest.raises(UnsupportedModelError, match="model.stan has no parameters"):
        make_layout(PROGRAM, OUTPUTS[-1:], lambda: NAMES, {}, {})
