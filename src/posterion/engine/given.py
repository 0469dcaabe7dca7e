"""The rows a fit was given: as values in memory, or as a source that is streamed.

Three things may be passed: nothing (the model's own data), other values for the same rows, or a source, whose rows take
the place of the model's, however many they are. A model can therefore be built on a small sample and be fitted to
everything.
"""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from posterion.data.arrays import ArraySource
from posterion.data.look import drift, read_all, refuse_too_large, sample
from posterion.data.source import AbstractSource
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.target import AbstractRowTarget, AbstractTarget, RowPlan
from posterion.target.checks import check_array, check_data, to_slot

SAMPLE_ROWS = 1 << 16
"""Rows that the starting point, its curvature and other things that need no more are found from."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a fit is made with.

    Parameters
    ----------
    target
        What is approximated; with a source, a copy that counts the source's rows.
    values
        By slot, checked; of a streamed source a sample of its rows.
    plan
        How to cut batches of rows; None for all rows at once.
    rows_per_step
        Batch size, None for all rows at once.
    source
        Where the rows come from if they are not all in `values`.
    columns
        Which columns make which input, in plain values, for files to come.
    notes
        Sentences for the user.
    warning
        A sentence that should not be overlooked; empty for none.
    """

    target: AbstractTarget
    values: dict[str, np.ndarray]
    plan: RowPlan | None = None
    rows_per_step: int | None = None
    source: AbstractSource | None = None
    columns: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    warning: str = ""


def prepare_data(
    target: AbstractTarget,
    data: Mapping[str, Any] | AbstractSource | None,
    *,
    batch_size: int | None,
    over: str | None,
    steps: bool,
    seed: int,
) -> Given:
    """Check and complete the data of a fit.

    Parameters
    ----------
    target
        What is approximated.
    data
        Values by slot, a source of rows, or None for the model's own.
    batch_size
        Rows per step; None for all.
    over
        The dim or observed variable whose rows are batched.
    steps
        Whether the method takes steps on batches, so that rows can be streamed.
    seed
        Of the sample of a streamed source.

    Raises
    ------
    DataError
        For data that do not fit the model.
    OptionError
        For inputs the model does not have, or batches larger than the data.
    UnsupportedModelError
        If the model has no independent rows and they are needed.
    """
    if isinstance(data, AbstractSource):
        return _from_source(target, data, batch_size, over, steps=steps, seed=seed)
    values = {**target.data, **_replaced(target, data)}
    check_data(target.slots, values)
    if batch_size is None:
        return Given(target, values)
    plan = _row_target(target).row_plan(over)
    slot, axis = plan.axes[0]
    rows = values[slot].shape[axis]
    _check_batch(batch_size, rows)
    return Given(target, values, replace(plan, num_rows=rows), batch_size)


def _row_target(target: AbstractTarget) -> AbstractRowTarget:
    if not isinstance(target, AbstractRowTarget):
        raise UnsupportedModelError(
            "batch_size needs a likelihood that factorises over rows, and this target only has a density"
        )
    return target


def _check_batch(batch_size: int, rows: int) -> None:
    if batch_size > rows:
        raise OptionError(
            f"batch_size={batch_size} is larger than the {rows} rows of the data; leave it out to use all"
        )


def _replaced(target: AbstractTarget, data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Other values for the rows the model was built on."""
    if not data:
        return {}
    unknown = sorted(set(data) - set(target.slots))
    if unknown:
        raise OptionError(f"the model has no input {unknown}; its inputs are {sorted(target.slots)}")
    found = {name: np.asarray(value) for name, value in data.items()}
    for name, axis in ((name, target.slots[name].row_axis) for name in found):
        if axis is None or found[name].ndim <= axis:
            continue
        rows, expected = found[name].shape[axis], target.data[name].shape[axis]
        if rows != expected:  # the target counts its own rows: others would be weighted as if they were as many
            raise DataError(
                f"{name!r} has {rows} rows and the model was built on {expected}. A dict replaces values row by row; "
                "for other rows pass all inputs that have rows as a source: data=posterion.data.arrays({...})"
            )
    return found


# ---- sources
def _from_source(
    target: AbstractTarget, source: AbstractSource, batch_size: int | None, over: str | None, *, steps: bool, seed: int
) -> Given:
    if not isinstance(target, AbstractRowTarget):
        raise UnsupportedModelError(
            "a source gives rows, and this target only has a density: its rows are not known. Pass values in a dict"
        )
    plan = target.row_plan(over)
    axes = dict(plan.axes)
    _check_inputs(target, source, axes)
    rows = source.num_rows
    if batch_size is not None:
        _check_batch(batch_size, rows)
    prepare = partial(prepare_rows, target, axes)
    streamed, notes = None, []
    whole = source.in_memory if isinstance(source, ArraySource) else None
    if whole is not None:
        found = prepare(whole, "")
    elif batch_size is None or not steps or rows * source.bytes_per_row <= source.memory_limit:
        refuse_too_large(source, _physical_memory() // 2, "a fit of all rows at once" if steps else "this method")
        found = read_all(source, prepare)
    else:
        found, streamed = sample(source, SAMPLE_ROWS, seed, prepare), source
        notes.append(f"{rows:,} rows streamed, {rows * source.bytes_per_row / 1e6:,.0f} MB as arrays")
    for name in plan.observed:
        expected = {target.num_rows.get(name, rows), plan.num_rows}
        if len(expected) > 1:  # the model speaks of a larger population
            said = target.num_rows[name]
            notes.append(f"{name!r}: the {rows:,} rows of the data count, not the {said:,} the model speaks of")
    values = {**target.data, **{name: np.moveaxis(array, 0, axes[name]) for name, array in found.items()}}
    return Given(
        target=_counting(target, dict.fromkeys(plan.observed, rows)),
        values=values,
        plan=replace(plan, num_rows=rows) if batch_size is not None else None,
        rows_per_step=batch_size,
        source=streamed,
        columns=source.columns,
        notes=tuple(notes),
        warning=drift(source) if streamed is not None else "",
    )


def _counting(target: AbstractRowTarget, rows: Mapping[str, int]) -> AbstractRowTarget:
    """The same target, with other rows behind its observed variables: each row of the data then weighs one.

    The copy has programs of its own, since some contain the numbers; it is kept for the next fit of as many rows.
    """
    counts = {**target.num_rows, **rows}
    if counts == dict(target.num_rows):
        return target
    name = ("counting", tuple(counts.items()))
    if name not in target.compiled:
        other = copy.copy(target)
        vars(other).pop("compiled", None)
        other.num_rows = MappingProxyType(counts)
        target.compiled[name] = other
    return target.compiled[name]


def _check_inputs(target: AbstractRowTarget, source: AbstractSource, axes: Mapping[str, int]) -> None:
    strange = [name for name in source.inputs if name not in axes]
    missing = [name for name in axes if name not in source.inputs]
    if not strange and not missing:
        return
    hint = ""
    if strange and not any(name in target.slots for name in strange):
        hint = ". Name the columns of each input: columns={" + ", ".join(f"{name!r}: ..." for name in axes) + "}"
    elif strange:
        hint = f". {strange} have no rows of their own in the model and keep its values"
    raise DataError(f"the rows of the model are in {list(axes)}, and the source gives {list(source.inputs)}{hint}")


def prepare_rows(
    target: AbstractRowTarget, axes: Mapping[str, int], rows: Mapping[str, np.ndarray], place: str
) -> dict[str, np.ndarray]:
    """Rows of a source, rows first, checked against the target's slots; errors say where the rows lie."""
    out = {}
    for name, array in rows.items():
        slot = target.slots[name]
        try:
            checked = check_array(name, slot, to_slot(slot, array))
        except DataError as error:
            raise DataError(f"{place}: {error}" if place else str(error)) from error
        out[name] = np.moveaxis(checked, axes[name], 0) if axes[name] else checked
    return out


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not known on this system: 8 GB
        return 8 * 2**30
