"""Rows of models that are Python functions: which array axes hold them, and what follows when there is one row more.

Shared by the front ends whose models are functions of their data (NumPyro, plain JAX). A function is asked for the
shapes of its results with one row more; arrays that have to grow together belong to the same rows, and whatever grew
follows them. Before rows are cut into batches, `check_rows` compares numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import jax
import numpy as np

from posterion._typing import Array, Data
from posterion.compilation.cache import Program
from posterion.errors import DataError, PosterionError, UnsupportedModelError
from posterion.target import RowPlan, Slot
from posterion.target.checks import check_data

ShapeMap = Mapping[str, tuple[int, ...]]

_MAX_TRIES = 24
_MAX_CHECKED_ROWS = 512
_ROW_ERRORS = (TypeError, ValueError, AssertionError, IndexError, NotImplementedError)
"""What JAX and models raise on shapes that do not fit each other."""


@dataclass(frozen=True)
class Shapes:
    """Shapes of a function's results: terms of the log density, derived values, free variables."""

    terms: ShapeMap
    derived: ShapeMap = field(default_factory=dict)
    free: ShapeMap = field(default_factory=dict)


@dataclass(frozen=True)
class RowGroup:
    """Array axes that must have the same length, and what follows them.

    Parameters
    ----------
    num_rows
        Length in the data at hand.
    dim
        Name of these rows, or None.
    terms
        (name, axis) of the terms of the log density with one entry per row.
    axes
        (array, axis) of every array that holds these rows.
    derived
        Derived values with these rows on their first axis.
    local
        Free variables with one entry per row.
    plates
        NumPyro plates of these rows.
    obstacle
        Why another number of rows is not possible, or None.
    """

    num_rows: int
    dim: str | None
    terms: tuple[tuple[str, int], ...]
    axes: tuple[tuple[str, int], ...] = ()
    derived: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    plates: tuple[str, ...] = ()
    obstacle: str | None = None

    @property
    def names(self) -> set[str]:
        """What may be given as ``over`` to mean these rows."""
        return {name for name, _ in self.terms} | set(self.plates) | ({self.dim} if self.dim else set())

    def count(self, data: Data) -> int:
        """Rows in other data."""
        return data[self.axes[0][0]].shape[self.axes[0][1]] if self.axes else self.num_rows


Grow = Callable[[Mapping[str, tuple[int, ...]], RowGroup, int], Shapes]
"""``(shapes of the arrays, group, its number of rows)`` to the shapes of the results; raises where they do not fit."""


def find_group(home: Shapes, arrays: ShapeMap, seed: RowGroup, grow: Grow) -> RowGroup:
    """The group of rows that a term of the log density belongs to.

    Parameters
    ----------
    home
        Shapes for the data at hand.
    arrays
        Shapes of the arrays.
    seed
        The rows of one or more terms, with their plates if they have any; without axes.
    grow
        Gives the shapes for other arrays.

    Returns
    -------
    RowGroup
        With an obstacle if no arrays could be found that hold these rows.
    """
    obstacle = None
    for cut in _candidates(arrays, seed.num_rows):
        found = _try(home, arrays, replace(seed, axes=cut), grow)
        if isinstance(found, RowGroup):
            return _smallest(home, arrays, found, grow) if found.local else found
        obstacle = obstacle or found
    return replace(seed, obstacle=obstacle or "no argument holds these rows")


def _candidates(arrays: ShapeMap, num_rows: int) -> Iterator[tuple[tuple[str, int], ...]]:
    first = [(name, 0) for name, shape in arrays.items() if shape and shape[0] == num_rows]
    later = [
        (name, shape.index(num_rows))
        for name, shape in arrays.items()
        if num_rows > 1 and num_rows in shape[1:] and shape[0] != num_rows
    ]
    tried = 0
    for pool in (first, first + later) if later else (first,):
        for size in range(len(pool), 0, -1):
            for cut in combinations(pool, size):
                tried += 1
                if tried > _MAX_TRIES:
                    return
                yield cut


def _smallest(home: Shapes, arrays: ShapeMap, group: RowGroup, grow: Grow) -> RowGroup:
    """Without the arrays that need not grow: they may hold something else that happens to have as many entries."""
    for axis in group.axes:
        if len(group.axes) > 1:
            fewer = _try(home, arrays, replace(group, axes=tuple(a for a in group.axes if a != axis)), grow)
            group = fewer if isinstance(fewer, RowGroup) else group
    return group


def _try(home: Shapes, arrays: ShapeMap, group: RowGroup, grow: Grow) -> RowGroup | str:
    longer = dict(arrays)
    for name, axis in group.axes:
        shape = list(longer[name])
        shape[axis] += 1
        longer[name] = tuple(shape)
    try:
        grown = grow(longer, group, group.num_rows + 1)
    except (PosterionError, *_ROW_ERRORS) as error:
        return first_line(error)
    terms = tuple((n, axis) for n, s in home.terms.items() if (axis := _grew(s, grown.terms.get(n))) is not None)
    if not set(group.terms) <= set(terms):
        return "with one row more its likelihood keeps its shape"
    derived = tuple(name for name, shape in home.derived.items() if _grew(shape, grown.derived.get(name)) == 0)
    local = tuple(name for name, shape in home.free.items() if grown.free.get(name) != shape)
    return replace(group, terms=terms, derived=derived, local=local)


def _grew(before: tuple[int, ...], after: tuple[int, ...] | None) -> int | None:
    """The one axis along which a shape is one longer, or None."""
    if after is None or len(before) != len(after):
        return None
    different = [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    return different[0] if len(different) == 1 and after[different[0]] == before[different[0]] + 1 else None


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


# ---- batches
def choose_group(groups: Sequence[RowGroup], over: str | None) -> RowGroup:
    """The rows to cut into batches.

    Raises
    ------
    UnsupportedModelError
        If there are none, or several and ``over`` names none of them.
    """
    if not groups:
        raise UnsupportedModelError(
            "the likelihood does not factorise over rows, so it cannot be fitted in batches. Fit without batch_size."
        )
    choices = ", ".join(map(repr, sorted({name for group in groups for name in group.names})))
    chosen = [group for group in groups if over is None or over in group.names]
    if not chosen:
        raise UnsupportedModelError(f"no rows run over {over!r}; the choices are {choices}")
    if len(chosen) > 1:
        lengths = ", ".join(str(group.num_rows) for group in chosen)
        raise UnsupportedModelError(
            f"the model has {len(chosen)} kinds of rows ({lengths} of them): say which to cut into batches, "
            f"batch_over= one of {choices}"
        )
    return chosen[0]


def plan_of(group: RowGroup) -> RowPlan:
    """How to cut a group's rows, if they can be cut.

    Raises
    ------
    UnsupportedModelError
        If a free variable has one entry per row, or something else is tied to their number.
    """
    if group.local:
        raise UnsupportedModelError(
            f"{', '.join(map(repr, group.local))} has one entry per row, and all of them would have to be fitted with "
            "every batch. Fit without batch_size, or write the model so that rows share their parameters."
        )
    if group.obstacle is not None:
        raise UnsupportedModelError(
            f"the model's rows cannot be cut into batches: {group.obstacle}. Pass every array that has one entry per "
            "row as an argument of the model, or fit without batch_size."
        )
    return RowPlan(group.num_rows, group.axes, tuple(name for name, _ in group.terms))


def check_rows(
    terms: Callable[[Array, Data], Mapping[str, Array]], group: RowGroup, z: np.ndarray, data: Mapping[str, np.ndarray]
) -> None:
    """Compare the terms of some rows, evaluated alone, with the same rows' terms among the others.

    Parameters
    ----------
    terms
        All terms of the log density by name: one value per row for those of the group, rows first, and scalars.
    group
        The rows to cut.
    z
        A point in general position.
    data
        All arrays.

    Raises
    ------
    UnsupportedModelError
        If a row's term depends on other rows, or anything else changes with the rows.
    """
    generator, axes = np.random.default_rng(0), dict(group.axes)
    whole = np.sort(generator.permutation(group.num_rows)[:_MAX_CHECKED_ROWS])
    some = np.sort(generator.permutation(len(whole))[: max(1, len(whole) // 2)])
    take = lambda rows: {n: np.take(a, rows, axis=axes[n]) if n in axes else a for n, a in data.items()}
    program = Program(lambda z, all_rows, some_rows: (terms(z, all_rows), terms(z, some_rows)))
    with jax.enable_x64(True):
        try:
            full, part = jax.device_get(program(z, take(whole), take(whole[some])))
        except (PosterionError, *_ROW_ERRORS) as error:
            raise UnsupportedModelError(
                f"the model cannot be evaluated on {len(some)} of the {group.num_rows} rows, so it cannot be fitted "
                f"in batches: {first_line(error)}. Fit without batch_size."
            ) from error
    for name, term in full.items():
        follows = name in dict(group.terms)
        if not np.allclose(term[some] if follows else term, part[name], rtol=1e-6, atol=1e-8, equal_nan=True):
            raise UnsupportedModelError(_changed(name, group, follows=follows))


def _changed(name: str, group: RowGroup, *, follows: bool) -> str:
    if follows:
        return (
            f"the rows of {name!r} depend on each other: some rows alone have other log densities than among the "
            "others (a mean, a scaling, a sort or a running sum over the rows inside the model, a batch "
            "normalisation?). Compute it before the model, or fit without batch_size."
        )
    return (
        f"{name!r} changes with the {group.num_rows} rows without being a likelihood of each of them (a sum over rows, "
        "a prior made of data, a Gaussian process, a time series?), so batches would be wrong. Fit without batch_size."
    )


# ---- new rows
def complete_rows(
    slots: Mapping[str, Slot],
    groups: Sequence[RowGroup],
    current: Mapping[str, np.ndarray],
    data: Data,
    neutral: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Every slot's array for rows to predict, with the row counts of what was passed.

    Parameters
    ----------
    slots
        The target's inputs.
    groups
        Its groups of rows.
    current
        The data it was fitted to.
    data
        What the user passed.
    neutral
        Slots that only weigh or mask rows: ones where they were not passed.

    Raises
    ------
    DataError
        For anything `check_data` finds, unequal row counts, a missing covariate, or another number of rows where the
        model allows none.
    """
    for group in groups:
        _check_obstacle(group, data)
    infinite = [name for name, a in current.items() if a.dtype.kind == "f" and np.isinf(a).any()]
    passed = check_data(slots, data, partial=True, may_be_infinite=infinite)
    complete = dict(current) | passed
    for group in groups:
        axes = dict(group.axes)
        counts = {name: passed[name].shape[axis] for name, axis in axes.items() if name in passed}
        if not counts:
            continue
        first, num_rows = next(iter(counts.items()))
        for name, rows in counts.items():
            if rows != num_rows:
                raise DataError(f"{first!r} has {num_rows} rows and {name!r} has {rows}: they must be the same rows.")
        covariates = [name for name in axes if not slots[name].only_observed and name not in neutral]
        missing = [name for name in covariates if name not in passed]
        if missing and (len(missing) < len(covariates) or num_rows != group.num_rows):
            wanted = "; ".join(f"{name!r} with shape {_wanted(slots[name], axes[name], num_rows)}" for name in missing)
            raise DataError(f"The {num_rows} rows passed are incomplete: pass {wanted} too.")
        others = num_rows != group.num_rows or any(name in passed for name in covariates)
        for name, axis in axes.items():
            if others and name not in passed and name not in covariates:
                shape = list(current[name].shape)
                shape[axis] = num_rows
                complete[name] = np.full(shape, name in neutral, current[name].dtype)
    return complete


def _check_obstacle(group: RowGroup, data: Data) -> None:
    for name, axis in group.axes if group.obstacle is not None else ():
        shape = np.shape(data[name]) if name in data else ()
        if len(shape) > axis and shape[axis] != group.num_rows:
            raise DataError(
                f"this model can only be evaluated on the {group.num_rows} rows it was fitted to, and {name!r} has "
                f"{shape[axis]}: {group.obstacle}. Pass every array that has one entry per row as an argument of the "
                "model."
            )


def _wanted(slot: Slot, axis: int, num_rows: int) -> tuple[int | None, ...]:
    return tuple(num_rows if k == axis else n for k, n in enumerate(slot.shape))
