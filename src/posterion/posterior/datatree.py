"""Posterior draws as ArviZ's DataTree: (chain, draw) first, with the dims and coords the model's author gave.

The draws of an approximation are independent, so there is one chain. ArviZ's convergence numbers (R-hat, effective
sample size) therefore always look perfect here and say nothing about the approximation: `Posterior.diagnose` does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data
from posterion.compilation.cache import Program
from posterion.target import AbstractRowTarget, AbstractTarget, Layout

if TYPE_CHECKING:
    import xarray

_DRAWS_PER_CHUNK = 256
_MANY_DRAWS, _DRAWS_PER_LARGE_CHUNK = 4096, 1024
"""A call costs 0.2 ms, which many small ones would make most of the time; of few draws, large ones would waste most."""
_CHUNK_BYTES = 64 * 2**20


def constrained_draws(
    target: AbstractTarget,
    z: Float[np.ndarray, "draws dim"],
    data: Data,
    *,
    x64: bool,
    names: Collection[str] | None = None,
) -> dict[str, np.ndarray]:
    """All free variables on their own scale and all deterministics, for every draw.

    Parameters
    ----------
    target
        The model.
    z
        Posterior draws in unconstrained space.
    data
        What deterministics depend on, by slot.
    x64
        Whether to compute in double precision.
    names
        The values wanted, None for all. A deterministic of many rows needs draws x rows numbers.

    Returns
    -------
    dict
        (draws, ...) by name.
    """
    wanted = None if names is None else frozenset(names)
    with jax.enable_x64(x64):
        arrays = target.as_arrays(data)
        z = np.asarray(z, jax.dtypes.canonicalize_dtype(np.float64))
        one = _constrain_one(target, wanted)
        program = target.compiled.setdefault(
            ("constrain", wanted), Program(lambda z, data: jax.lax.map(lambda each: one(each, data), z))
        )
        shapes = jax.eval_shape(one, z[0], arrays)
        order = {name: place for place, name in enumerate([v.name for v in target.layout.variables])}
        shapes = dict(sorted(shapes.items(), key=lambda item: order.get(item[0], len(order))))  # JAX sorts by name
        bytes_per_draw = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
        most = _DRAWS_PER_CHUNK if len(z) <= _MANY_DRAWS else _DRAWS_PER_LARGE_CHUNK
        size = max(1, min(most, len(z), _CHUNK_BYTES // max(bytes_per_draw, 1)))
        out = {name: np.empty((len(z), *leaf.shape), leaf.dtype) for name, leaf in shapes.items()}
        for start in range(0, len(z), size):
            index = np.minimum(np.arange(start, start + size), len(z) - 1)  # the last chunk repeats the last draw
            for name, values in jax.device_get(program(z[index], arrays)).items():
                out[name][start : start + size] = values[: len(z) - start]
    return out


def _constrain_one(target: AbstractTarget, wanted: frozenset[str] | None) -> Callable:
    def one(z: Array, data: Data) -> dict[str, Array]:
        values = target.constrain(z, data)
        return {name: value for name, value in values.items() if wanted is None or name in wanted}

    return one


def to_datatree(
    values: Mapping[str, np.ndarray],
    layout: Layout,
    *,
    observed_data: Mapping[str, np.ndarray] | None = None,
    constant_data: Mapping[str, np.ndarray] | None = None,
    sample_stats: Mapping[str, np.ndarray] | None = None,
    dims: Mapping[str, Sequence[str | None]] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> "xarray.DataTree":
    """ArviZ's DataTree of posterior draws, laid out like PyMC's.

    Parameters
    ----------
    values
        (draws, ...) by name, as from `constrained_draws`.
    layout
        Names the dims and coords of the values. Coords whose length does not fit are left out.
    observed_data, constant_data
        Data by name; see `data_groups`.
    sample_stats
        (draws,) by name, such as log densities.
    dims
        Dims of names the layout does not know, such as those of data.
    attrs
        For every group, beside ArviZ's own.

    Returns
    -------
    xarray.DataTree
        Groups ``posterior``, and those of ``sample_stats``, ``observed_data``, ``constant_data`` that are not empty.
    """
    from xarray import DataTree

    names = {**layout.dims, **(dims or {})}
    chains = lambda draws: {name: np.asarray(value)[None] for name, value in draws.items()}
    groups = {"posterior": _dataset(chains(values), names, layout, ("chain", "draw"), attrs)}
    if sample_stats:
        groups["sample_stats"] = _dataset(chains(sample_stats), names, layout, ("chain", "draw"), attrs)
    for group, data in (("observed_data", observed_data), ("constant_data", constant_data)):
        if data:
            groups[group] = _dataset({n: np.asarray(v) for n, v in data.items()}, names, layout, (), attrs)
    return DataTree.from_dict(groups)


def data_groups(
    target: AbstractTarget, data: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, tuple[str | None, ...]]]:
    """Data as PyMC groups them: (observed_data by observed variable, constant_data by slot, dims by name)."""
    dims = {name: slot.dims for name, slot in target.slots.items()}
    observed: dict[str, np.ndarray] = {}
    if isinstance(target, AbstractRowTarget):
        for name, what in target.observed.items():
            if what.slot is not None and what.slot in data:
                observed[name] = data[what.slot]
                dims[name] = what.dims or dims[what.slot]
    inputs = set(target.slots) - {what.slot for what in getattr(target, "observed", {}).values()}
    constant = {name: data[name] for name in target.slots if name in data and name in inputs}
    return observed, constant, dims


def _dataset(
    values: Mapping[str, np.ndarray],
    dims: Mapping[str, Sequence[str | None]],
    layout: Layout,
    sample_dims: tuple[str, ...],
    attrs: Mapping[str, Any] | None,
) -> "xarray.Dataset":
    from arviz_base import dict_to_dataset

    labels = {dim: np.asarray(names) for dim, names in layout.coords}
    lengths: dict[str, int] = {}
    fitting: dict[Any, Any] = {}
    for name, array in values.items():
        shape = array.shape[len(sample_dims) :]
        own = [*dims.get(name, ()), *[None] * len(shape)][: len(shape)]
        # One dim name with two lengths would be filled up with missing values: the second keeps its axis unnamed.
        fitting[name] = [
            dim if dim is None or lengths.setdefault(dim, length) == length else None
            for dim, length in zip(own, shape, strict=True)
        ]
    coords: dict[Any, Any] = {dim: found for dim, found in labels.items() if lengths.get(dim) == len(found)}
    return dict_to_dataset(
        dict(values), coords=coords, dims=fitting, sample_dims=list(sample_dims), attrs=dict(attrs or {})
    )
