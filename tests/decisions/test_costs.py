"""Actions and regrets against sums worked out by hand and by simulation."""

import numpy as np
import pytest
import xarray

from posterion.decisions import decide, decide_by
from posterion.errors import DataError, OptionError

COSTS = xarray.DataArray([[0.0, 10.0], [1.0, 1.0]], dims=("action", "label"), coords={"action": ["wait", "treat"]})


def test_the_cheapest_action_and_what_knowing_would_save():
    found = decide([0.05, 0.5], COSTS)
    assert found.action.values.tolist() == ["wait", "treat"]
    np.testing.assert_allclose(found.expected_cost, [0.5, 1.0])
    np.testing.assert_allclose(found.cost, [[0.5, 1.0], [5.0, 1.0]])
    # Knowing the label: nothing for 0, one for 1.
    np.testing.assert_allclose(found.regret, [0.5 - 0.05, 1.0 - 0.5])
    assert "regret_of_ignorance" not in found


def test_costs_may_differ_between_rows():
    costs = np.stack([COSTS.values, COSTS.values * [[1, 1], [20, 20]]])
    found = decide([0.5, 0.5], costs, actions=["wait", "treat"])
    assert found.action.values.tolist() == ["treat", "wait"]


def test_ignorance_is_what_the_draws_disagree_about():
    agreeing, torn = np.full(1_000, 0.5), np.tile([0.0, 1.0], 500)
    found = decide(np.column_stack([agreeing, torn]), COSTS, from_draws=True)
    assert found.action.values.tolist() == ["treat", "treat"]
    np.testing.assert_allclose(found.regret_of_ignorance, [0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(found.regret, [0.5, 0.5])


def test_regret_of_ignorance_never_exceeds_regret():
    rng = np.random.default_rng(0)
    found = decide(rng.dirichlet([1, 1, 1], size=(100, 20)), rng.uniform(size=(4, 3)), from_draws=True)
    assert np.all(found.regret_of_ignorance <= found.regret + 1e-12)
    assert np.all(found.regret_of_ignorance >= 0)


def test_the_newsvendor_orders_the_critical_quantile():
    rng = np.random.default_rng(1)
    demand = rng.gamma(5.0, 10.0, size=(4_000, 2)) * [1.0, 2.0]
    orders = np.arange(0, 500, 1.0)
    short, left = 3.0, 1.0
    found = decide_by(demand, orders, lambda a, y: short * np.maximum(y - a, 0) + left * np.maximum(a - y, 0))
    np.testing.assert_allclose(found.action, np.quantile(demand, short / (short + left), axis=0), atol=0.51)
    assert np.all(found.regret > 0)
    # Knowing the demand one would order the next whole number: short or left over by a quarter on average.
    np.testing.assert_allclose(found.regret, found.expected_cost, atol=0.5)


def test_what_is_not_a_cost_is_refused():
    with pytest.raises(DataError, match="costs must be shaped .actions, 2."):
        decide([0.5], [[1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match="finite"):
        decide([0.5], [[np.inf, 0.0]])
    with pytest.raises(OptionError, match="2 actions in the costs and 1 names"):
        decide([0.5], [[1.0, 0.0], [0.0, 1.0]], actions=["wait"])
    with pytest.raises(OptionError, match="at least one action"):
        decide_by(np.zeros((2, 2)), [], lambda a, y: y)
