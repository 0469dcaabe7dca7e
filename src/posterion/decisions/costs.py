"""Actions: the one of least posterior expected cost, and what is lost by not knowing more.

With probabilities p(y | x) and costs c(a, y), the best action is argmin_a E_y[c(a, y)]. Its expected regret is how much
dearer it is than acting with knowledge of y. What part of that comes from not knowing the parameters z, and could be
bought off with more data, needs the draws: E_z[c(a, z)] - E_z[min_a' c(a', z)], the expected value of perfect
information about z [1]_.

References
----------
.. [1] Raiffa and Schlaifer (1961), Applied statistical decision theory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray

from posterion.decisions._checks import as_classes
from posterion.errors import DataError, OptionError


def decide(
    probabilities: Any, costs: Any, *, actions: Sequence[Any] | None = None, from_draws: bool = False
) -> xarray.Dataset:
    """Choose for every row the action of least expected cost, from probabilities of classes and a matrix of costs.

    Parameters
    ----------
    probabilities
        (rows,) of label 1 or (rows, classes); with ``from_draws`` the same with an axis of posterior draws before it,
        as ``prediction.sample(of="mean")[name]`` gives them.
    costs
        Of each action, if each label comes true: (actions, classes), for all rows, or (rows, actions, classes).
        Negative ones are gains. A labelled array with the dim ``action`` names the actions.
    actions
        Names of the actions; None for those of the costs, or 0, 1, ...
    from_draws
        Whether the probabilities are draws.

    Returns
    -------
    xarray.Dataset
        Per ``row``: ``action`` (its name), ``expected_cost``, ``regret`` (expected, against knowing the outcome) and,
        from draws, ``regret_of_ignorance`` (the part that more data could save); ``cost`` per ``row`` and ``choice``.
    """
    p = as_classes(probabilities, leading=int(from_draws))
    p_draws = p if from_draws else p[None]
    matrix = np.asarray(costs, np.float64)
    rows, classes = p.shape[-2:]
    if matrix.ndim not in (2, 3) or matrix.shape[-1] != classes or (matrix.ndim == 3 and len(matrix) != rows):
        raise DataError(
            f"costs must be shaped (actions, {classes}) or ({rows}, actions, {classes}); found {matrix.shape}"
        )
    if not np.all(np.isfinite(matrix)):
        raise DataError("costs must be finite numbers; forbid an action by a very large cost")
    every = np.broadcast_to(matrix, (rows, *matrix.shape[-2:]))
    names = _action_names(costs, actions, every.shape[1])
    mean = p_draws.mean(axis=0)
    expected = np.einsum("rac,rc->ra", every, mean)
    informed = np.sum(every.min(axis=1) * mean, axis=1)
    ignorance = None
    if from_draws:
        best_each = np.mean([np.einsum("rac,rc->ra", every, one).min(axis=1) for one in p_draws], axis=0)
        ignorance = expected.min(axis=1) - best_each
    return _decision(expected, informed, names, ignorance)


def decide_by(
    draws: Any, actions: Sequence[Any] | np.ndarray, cost: Callable[[Any, np.ndarray], Any]
) -> xarray.Dataset:
    """Choose for every row the action of least expected cost, from predictive draws and a function of cost.

    Parameters
    ----------
    draws
        Of the outcome, (draws, rows), as ``prediction.sample()[name]`` gives them.
    actions
        What can be done: names, or numbers such as the amounts one can order.
    cost
        ``cost(action, outcomes)``, with outcomes (draws, rows), gives the cost of each.

    Returns
    -------
    xarray.Dataset
        As of `decide`, without ``regret_of_ignorance``.
    """
    y = np.asarray(draws, np.float64)
    if y.ndim != 2 or y.size == 0:
        raise DataError(f"draws must be shaped (draws, rows); found {y.shape}")
    if len(actions) == 0:
        raise OptionError("there must be at least one action")
    total, least = [], np.full(y.shape, np.inf)
    for action in actions:
        each = np.broadcast_to(np.asarray(cost(action, y), np.float64), y.shape)
        if not np.all(np.isfinite(each)):
            raise DataError(f"the cost of action {action!r} must be finite for every outcome")
        total.append(each.mean(axis=0))
        least = np.minimum(least, each)
    return _decision(np.stack(total, axis=1), least.mean(axis=0), list(actions), None)


def _decision(
    expected: np.ndarray, informed: np.ndarray, names: list[Any], ignorance: np.ndarray | None
) -> xarray.Dataset:
    best = np.argmin(expected, axis=1)
    least = np.take_along_axis(expected, best[:, None], axis=1)[:, 0]
    found = {
        "action": ("row", np.asarray(names)[best]),
        "expected_cost": ("row", least),
        "regret": ("row", np.maximum(least - informed, 0.0)),
        "cost": (("row", "choice"), expected),
    }
    if ignorance is not None:
        found["regret_of_ignorance"] = ("row", np.maximum(ignorance, 0.0))
    return xarray.Dataset(found, coords={"choice": np.asarray(names)})


def _action_names(costs: Any, actions: Sequence[Any] | None, number: int) -> list[Any]:
    if actions is None and isinstance(costs, xarray.DataArray) and "action" in costs.coords:
        actions = costs.coords["action"].values.tolist()
    names = list(range(number)) if actions is None else list(actions)
    if len(names) != number:
        raise OptionError(f"there are {number} actions in the costs and {len(names)} names")
    return names
