"""Data for other rows than the model was fitted to: completed, checked, with every omission named."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from posterion._typing import Data
from posterion.errors import DataError
from posterion.frontends.pymc.rows import RowGroup
from posterion.target import Slot
from posterion.target.checks import check_data


def complete_rows(
    slots: Mapping[str, Slot],
    groups: Sequence[RowGroup],
    current: Callable[[], dict[str, np.ndarray]],
    data: Data,
) -> dict[str, np.ndarray]:
    """Every slot's array, with the row counts of what was passed.

    Parameters
    ----------
    slots
        The target's inputs.
    groups
        Its groups of rows.
    current
        Gives the model's own data.
    data
        What the user passed.

    Raises
    ------
    DataError
        For anything `check_data` finds, unequal row counts, a missing covariate, or another number of rows where the
        model allows none.
    """
    now = current()
    infinite = [name for name, a in now.items() if a.dtype.kind == "f" and np.isinf(a).any()]
    passed = check_data(slots, data, partial=True, may_be_infinite=infinite)
    complete = now | passed
    for group in groups:
        axes = dict(group.axes)
        inside = {name: passed[name].shape[axis] for name, axis in axes.items() if name in passed}
        if not inside:
            continue
        first, num_rows = next(iter(inside.items()))
        for name, rows in inside.items():
            if rows != num_rows:
                raise DataError(f"{first!r} has {num_rows} rows and {name!r} has {rows}: they must be the same rows.")
        if group.obstacle is not None and num_rows != group.num_rows:
            raise DataError(
                f"This model can only be evaluated on the {group.num_rows} rows it was built with ({group.obstacle}); "
                f"{num_rows} were passed."
            )
        covariates = [name for name in axes if not slots[name].only_observed]
        missing = [name for name in covariates if name not in passed]
        if missing and any(name in passed for name in covariates):
            wanted = "; ".join(f"{name!r} with shape {_wanted(slots[name], axes[name], num_rows)}" for name in missing)
            raise DataError(f"The {num_rows} rows passed are incomplete: pass {wanted} too.")
        if missing and num_rows != group.num_rows:
            raise DataError(f"Pass the inputs of these {num_rows} rows too: {', '.join(map(repr, missing))}.")
        for name, axis in axes.items():
            if name not in passed and slots[name].only_observed:
                shape = list(now[name].shape)
                if shape[axis] != num_rows or any(c in passed for c in covariates):
                    shape[axis] = num_rows
                    complete[name] = np.zeros(shape, now[name].dtype)
    return complete


def _wanted(slot: Slot, axis: int, num_rows: int) -> tuple[int | None, ...]:
    return tuple(num_rows if k == axis else n for k, n in enumerate(slot.shape))
