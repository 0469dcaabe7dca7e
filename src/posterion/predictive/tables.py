"""Predictions as tables: DataFrame, Parquet, xarray's DataTree, and the small HTML a notebook shows."""

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from posterion._optional import import_optional
from posterion.target import Layout, Observed

if TYPE_CHECKING:
    import xarray

PREVIEW_ROWS = 8


def columns(statistics: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One column per number: ``{variable}_{statistic}``, with indices behind it where a row holds several."""
    table: dict[str, np.ndarray] = {}
    for variable in statistics["mean"]:
        for statistic, by_name in statistics.items():
            if variable not in by_name:
                continue
            values = by_name[variable]
            for index in np.ndindex(values.shape[1:]):
                suffix = f"[{', '.join(map(str, index))}]" if index else ""
                table[f"{variable}_{statistic}{suffix}"] = values[(slice(None), *index)]
    return table


def write_parquet(path: Any, table: Mapping[str, np.ndarray], row_labels: np.ndarray | None) -> None:
    """Write columns to a Parquet file, row labels first."""
    arrow = import_optional("pyarrow", "stream", "Parquet files")
    parquet = import_optional("pyarrow.parquet", "stream", "Parquet files")
    labels = {} if row_labels is None else {"row": row_labels}
    parquet.write_table(arrow.table(labels | dict(table)), path)


def to_datatree(
    statistics: Mapping[str, Mapping[str, np.ndarray]],
    *,
    layout: Layout,
    observed: Mapping[str, Observed],
    row_labels: np.ndarray | None,
    inputs: Mapping[str, tuple[np.ndarray, tuple[str | None, ...]]],
    draws: Mapping[str, np.ndarray] | None,
) -> "xarray.DataTree":
    """A group per statistic, ``predictions`` with draws if there are any, ``predictions_constant_data`` with inputs."""
    from xarray import DataTree

    groups = {statistic: _dataset(by_name, layout, observed, row_labels) for statistic, by_name in statistics.items()}
    if draws is not None:
        chains = {name: values[None] for name, values in draws.items()}
        groups["predictions"] = _dataset(chains, layout, observed, row_labels, sample_dims=("chain", "draw"))
    if inputs:
        values = {name: array for name, (array, _) in inputs.items()}
        dims = {name: names for name, (_, names) in inputs.items()}
        groups["predictions_constant_data"] = _dataset(values, layout, observed, row_labels, dims=dims)
    return DataTree.from_dict(groups)


def _dataset(
    values: Mapping[str, np.ndarray],
    layout: Layout,
    observed: Mapping[str, Observed],
    row_labels: np.ndarray | None,
    *,
    sample_dims: tuple[str, ...] = (),
    dims: Mapping[str, tuple[str | None, ...]] | None = None,
) -> "xarray.Dataset":
    import xarray

    labels = dict(layout.coords)
    row_dims = {what.dims[0] for what in observed.values() if what.dims} or {"row"}
    arrays, lengths = {}, {}
    for name, array in values.items():
        own = dims[name] if dims is not None else _dims_of(name, layout, observed)
        rest = array.shape[len(sample_dims) :]
        own = [*own, *[None] * (len(rest) - len(own))][: len(rest)]
        if own and own[0] is None and dims is None:
            own[0] = "row"
        named = []
        for axis, (dim, length) in enumerate(zip(own, rest, strict=True)):
            dim = dim or f"{name}_dim_{axis}"
            # Variables with other rows than the first one's get a dim of their own.
            named.append(dim if lengths.setdefault(dim, length) == length else f"{name}_{dim}")
        coords = {}
        for dim, length in zip(named, rest, strict=True):
            if dim in row_dims:  # never the labels of the rows the model was fitted to
                if row_labels is not None and len(row_labels) == length:
                    coords[dim] = row_labels
            elif dim in labels and len(labels[dim]) == length:
                coords[dim] = np.asarray(labels[dim])
        arrays[name] = xarray.DataArray(array, dims=[*sample_dims, *named], coords=coords)
    return xarray.Dataset(arrays)


def _dims_of(name: str, layout: Layout, observed: Mapping[str, Observed]) -> tuple[str | None, ...]:
    return observed[name].dims if name in observed else layout.dims.get(name, ())


def to_html(heading: str, table: Mapping[str, np.ndarray], row_labels: np.ndarray | None, num_rows: int) -> str:
    """The first rows as an HTML table."""
    shown = min(PREVIEW_ROWS, num_rows)
    names = [name for name, values in table.items() if len(values) == num_rows][:12]
    labels = np.arange(num_rows) if row_labels is None else row_labels
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *names])
    body = "".join(
        f"<tr><th>{html.escape(str(labels[i]))}</th>" + "".join(f"<td>{table[n][i]:.4g}</td>" for n in names) + "</tr>"
        for i in range(shown)
    )
    more = f"<p>and {num_rows - shown:,} more rows</p>" if num_rows > shown else ""
    return f"<p>{html.escape(heading)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
