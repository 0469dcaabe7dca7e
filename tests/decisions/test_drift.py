"""Alarms where something changed, and none beyond the allowed share where nothing did."""

import numpy as np
import pandas as pd
import pytest

from posterion.decisions import drift
from posterion.errors import DataError


def table(seed, rows=300, shift=0.0, correlation=0.8, kinds=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=rows)
    second = correlation * first + np.sqrt(1 - correlation**2) * rng.normal(size=rows)
    return pd.DataFrame({"age": first + shift, "size": second, "kind": rng.choice(list(kinds), size=rows)})


def test_no_drift_is_seldom_called_drift():
    alarms = sum(not drift(table(s), table(1000 + s), risk=0.05).entitled for s in range(20))
    # Two tests at 5 % each, and the rule for rows outside at three standard errors: at most 11 % of 20.
    assert alarms <= 20 * 0.11 + 3 * np.sqrt(20 * 0.11 * 0.89)
    found = drift(table(0), table(1))
    assert found.entitled and "look like the training rows" in str(found)
    assert found.columns.kind.values.tolist() == ["number", "number", "category"]


def test_a_moved_column_is_named():
    found = drift(table(0), table(1, shift=1.0))
    assert not found.entitled
    assert found.reasons[0].startswith("age is different")
    assert found.columns.p_value.sel(column="age") < 1e-6 < found.columns.p_value.sel(column="size")
    assert found.columns.distance.sel(column="age") == pytest.approx(0.38, abs=0.1)  # 2 Phi(1/2) - 1


def test_a_changed_correlation_is_seen_only_by_the_joint_test():
    found = drift(table(0), table(1, correlation=-0.8))
    assert found.columns.p_value.min() > 0.01
    assert found.joint_p_value < 0.01 and not found.entitled
    assert "all columns together" in found.reasons[0]


def test_new_categories_and_values_beyond_all_seen_are_counted():
    new = table(1)
    new.loc[:29, "kind"] = "d"
    new.loc[30:59, "size"] = 99.0
    found = drift(table(0), new)
    assert found.columns.outside.sel(column="kind") == pytest.approx(0.1)
    assert found.outside_rows == pytest.approx(0.2, abs=0.02)
    assert any("outside of all training values" in reason for reason in found.reasons)


def test_missing_values_are_counted_and_do_no_harm():
    new = table(1)
    new.loc[:149, "age"] = np.nan
    found = drift(table(0), new)
    assert found.columns.missing.values.tolist() == [0.5, 0, 0]
    assert found.joint_p_value < 0.01
    assert drift(table(0)[["age"]], pd.DataFrame({"age": [np.nan, np.nan]})).columns.missing.item() == 1


def test_a_small_difference_of_many_rows_is_called_small():
    rng = np.random.default_rng(3)
    found = drift(rng.normal(size=(200_000, 1)), rng.normal(0.03, size=(200_000, 1)))
    assert found.columns.p_value.item() < 0.01
    assert "a small difference" in found.reasons[0]


def test_other_columns_are_refused():
    with pytest.raises(DataError, match=r"training has \['age', 'size', 'kind'\], the new rows \['age'\]"):
        drift(table(0), table(1)[["age"]])
    with pytest.raises(DataError, match="at least one column and one row"):
        drift(table(0).iloc[:0], table(1))
