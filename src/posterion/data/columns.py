"""From columns of a table to the arrays of a model's inputs: numbers checked, labels coded, gaps reported by column.

The mapping is remembered with the posterior, so that new files are read as the old ones were: the same columns in the
same order, and the same code for the same label.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from posterion._optional import import_optional
from posterion.errors import DataError

Label = str | int | bool | float
ColumnsOf = Mapping[str, str | Sequence[str]]
"""By input, the column that is it, or the list of columns that are its columns."""


@dataclass(frozen=True)
class Columns:
    """Which columns make which input.

    Parameters
    ----------
    inputs
        (input, columns, whether it is one column and has one axis).
    categories
        (column, labels): the code of a label is its place.
    """

    inputs: tuple[tuple[str, tuple[str, ...], bool], ...]
    categories: tuple[tuple[str, tuple[Label, ...]], ...] = ()

    @property
    def names(self) -> list[str]:
        """All columns that are read, each once."""
        return list(dict.fromkeys(column for _, columns, _ in self.inputs for column in columns))

    @property
    def labels(self) -> dict[str, tuple[Label, ...]]:
        """Labels by column."""
        return dict(self.categories)

    def to_plain(self) -> dict[str, Any]:
        """As values JSON knows."""
        return {
            "columns": {name: columns[0] if single else list(columns) for name, columns, single in self.inputs},
            "categories": {column: list(labels) for column, labels in self.categories},
        }

    def only(self, inputs: Iterable[str]) -> "Columns":
        """The same for some inputs: outcomes need not be in files that are predicted."""
        wanted = set(inputs)
        kept = replace(self, inputs=tuple(entry for entry in self.inputs if entry[0] in wanted))
        return replace(kept, categories=tuple(c for c in self.categories if c[0] in kept.names))

    def arrays(self, table: Any, place: str) -> dict[str, np.ndarray]:
        """Arrays by input from one chunk of a table.

        Parameters
        ----------
        table
            A PyArrow table or record batch with at least the columns of `names`.
        place
            Where the chunk lies, for messages.

        Raises
        ------
        DataError
            For missing values, labels without a code, and types that are no numbers.
        """
        refuse_missing({name: table.column(name).null_count for name in self.names}, place)
        values = {name: _numbers(table.column(name), name, self.labels.get(name), place) for name in self.names}
        gaps = {name: int(np.isnan(v).sum()) for name, v in values.items() if v.dtype.kind == "f" and _may_be_nan(v)}
        refuse_missing(gaps, place)
        return {
            name: values[columns[0]] if single else _stack(columns, values) for name, columns, single in self.inputs
        }


def _may_be_nan(values: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        return not np.isfinite(np.sum(values))


def _stack(columns: tuple[str, ...], values: Mapping[str, np.ndarray]) -> np.ndarray:
    if len(columns) == 1:
        one = values[columns[0]]
        return one if one.ndim > 1 else one[:, None]
    out = np.empty((len(values[columns[0]]), len(columns)), np.result_type(*(values[c].dtype for c in columns)))
    for k, column in enumerate(columns):
        out[:, k] = values[column]
    return out


def refuse_missing(counts: Mapping[str, int], place: str) -> None:
    """An error that names the columns with missing values."""
    bad = {name: count for name, count in counts.items() if count}
    if bad:
        listed = ", ".join(f"{name!r} ({count:,})" for name, count in bad.items())
        complete = " AND ".join(f"{name} IS NOT NULL" for name in bad)
        raise DataError(
            f"missing values in {place}: {listed}. Leave these rows out or fill them in, for instance with DuckDB: "
            f"COPY (SELECT * FROM '...' WHERE {complete}) TO 'complete.parquet'"
        )


def _numbers(column: Any, name: str, labels: tuple[Label, ...] | None, place: str) -> np.ndarray:
    types = import_optional("pyarrow.types", "stream", "Tables")
    if labels is not None:
        return _codes(column, name, labels, place)
    kind = column.type
    if types.is_fixed_size_list(kind):
        whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(column), kind.list_size)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise DataError(
            f"column {name!r} holds {kind} in {place}, and numbers are needed. Convert it (dates to days, decimals to "
            "floats), or name it in categories= to have its values coded"
        )
    return _to_numpy(column)


def _to_numpy(column: Any) -> np.ndarray:
    chunked = hasattr(column, "combine_chunks")
    return column.to_numpy() if chunked else column.to_numpy(zero_copy_only=False)


def _codes(column: Any, name: str, labels: tuple[Label, ...], place: str) -> np.ndarray:
    arrow = import_optional("pyarrow", "stream", "Tables")
    compute = import_optional("pyarrow.compute", "stream", "Tables")
    kind = column.type.value_type if arrow.types.is_dictionary(column.type) else column.type
    plain = column.cast(kind) if kind is not column.type else column
    try:
        known = arrow.array(list(labels), kind)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, TypeError) as error:
        raise DataError(f"column {name!r} holds {kind} in {place}, and its labels are {labels[:3]}...") from error
    codes = compute.index_in(plain, value_set=known)
    if codes.null_count:
        strange = compute.unique(plain.filter(compute.is_null(codes))).to_pylist()
        raise DataError(
            f"column {name!r} has labels in {place} that were not there before: {_shown(strange)}. "
            f"The {len(labels)} known ones are {_shown(labels)}"
        )
    return _to_numpy(codes).astype(np.int32)


def _shown(labels: Sequence[Any]) -> str:
    return ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")


def columns_of(
    wanted: ColumnsOf | None,
    schema: Any,
    where: str,
    categories: Mapping[str, Sequence[Label]] | None,
    distinct: Callable[[str], Iterable[Any]],
) -> Columns:
    """The mapping a user asked for, with the labels of text columns looked up.

    Parameters
    ----------
    wanted
        Columns by input; None takes every column for the input of its name.
    schema
        PyArrow's, of the table.
    where
        The table's name, for messages.
    categories
        Labels by column, in the order of their codes, for columns where they are known.
    distinct
        Gives the distinct values of a column; asked for text columns only.

    Raises
    ------
    DataError
        For a column that is not there (with those that are), or one that cannot become numbers.
    """
    types = import_optional("pyarrow.types", "stream", "Tables")
    given = {name: name for name in schema.names} if wanted is None else dict(wanted)
    if not given:
        raise DataError("columns= is empty: name the columns of each input, as in columns={'x': ['age', 'income']}")
    inputs = tuple(
        (name, (chosen,) if isinstance(chosen, str) else tuple(chosen), isinstance(chosen, str))
        for name, chosen in given.items()
    )
    columns = Columns(inputs)
    absent = [name for name in dict.fromkeys([*columns.names, *(categories or {})]) if name not in schema.names]
    if absent:
        raise DataError(f"{where} has no column {absent}; its columns are {list(schema.names)}")
    found: dict[str, tuple[Label, ...]] = {}
    for name in columns.names:
        kind = schema.field(name).type
        if categories is not None and name in categories:
            found[name] = tuple(categories[name])
        elif types.is_dictionary(kind) or types.is_string(kind) or types.is_large_string(kind) or _is_view(types, kind):
            found[name] = tuple(sorted(value for value in distinct(name) if value is not None))
    return replace(columns, categories=tuple(found.items()))


def _is_view(types: Any, kind: Any) -> bool:
    return getattr(types, "is_string_view", lambda _: False)(kind)


def columns_from_plain(plain: Mapping[str, Any]) -> tuple[ColumnsOf, dict[str, list[Label]]]:
    """What `Columns.to_plain` wrote, as arguments for a new source."""
    return dict(plain["columns"]), {name: list(labels) for name, labels in plain["categories"].items()}
