"""Exporting a target's functions to StableHLO by `jax.export`, so that a saved posterior predicts without its source.

Every function is exported for blocks of a few fixed numbers of rows (`posterion.predictive.blocks`), with the
batch-minor pass applied before: arguments lie as the pass stores them, results have their rows last.
`posterion.posterior.exported.LoadedTarget` turns both round again; under the pass, those transposes cancel.

What is kept: moments, simulation, deterministics of rows, the joint terms (to score new outcomes), and `constrain` for
the free variables and those deterministics that hold no rows and need at most a megabyte of data.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Data
from posterion.compilation.dependence import used_inputs
from posterion.compilation.minor_axis import Packed, batch_minor, pack
from posterion.posterior.exported import label
from posterion.posterior.store import from_bytes
from posterion.predictive.blocks import SMALL_BLOCK, Block, take_block
from posterion.predictive.evaluation import Evaluation
from posterion.target import AbstractRowTarget

_PLATFORMS = ("cpu", "cuda", "tpu")
_KEPT_DATA_BYTES = 2**20
"""Data that deterministics need are kept up to this size; beyond it the deterministics are left out."""
_THREEFRY = "threefry2x32"


def export_target(
    target: AbstractRowTarget, *, x64: bool, example_data: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Everything needed to predict without the model: arrays to store, and a description to store as JSON.

    Parameters
    ----------
    target
        The live target.
    x64
        The precision of the fit; the exported functions compute in it too.
    example_data
        The data it was fitted to, by slot: shapes are taken from them, and values of what holds no rows.

    Returns
    -------
    tuple
        Arrays (exported functions as bytes), with names that begin with ``target/``; and their description. Both go
        into `LoadedTarget`.

    Notes
    -----
    A function that cannot be exported (an operation on the host, a distribution that cannot be simulated) is left out;
    the description says why, and so does `LoadedTarget` when it is asked for.
    """
    with jax.enable_x64(x64):
        exporter = _Exporter(target, x64, example_data)
        return exporter.arrays, exporter.description


class _Exporter:
    def __init__(self, target: AbstractRowTarget, x64: bool, data: Mapping[str, np.ndarray]) -> None:  # noqa: FBT001
        self.target, self.data = target, {name: np.asarray(data[name]) for name in target.slots}
        self.z = jnp.zeros(target.layout.size, jnp.result_type(float))
        self.key = jax.random.key_data(jax.random.key(0, impl=_THREEFRY))
        evaluation = Evaluation(target, np.zeros((1, target.layout.size)), self.data, key=jax.random.key(0), x64=x64)
        self.axes = evaluation.axes
        self.blocks = sorted({SMALL_BLOCK, evaluation.largest_size()}) if self.axes else [None]
        self.arrays: dict[str, np.ndarray] = {}
        self.missing: dict[str, str] = {}
        self.orders: dict[str, list[int]] = {}
        self._export_rows()
        constrained, kept = self._export_constrain()
        whole = [name for name in target.slots if name not in self.axes and not target.slots[name].only_observed]
        for name in {*kept, *(whole if self.axes else ())}:
            self.arrays[f"target/data/{name}"] = self.data[name]
        self.description = self._describe(constrained, sorted(kept), evaluation.observed_slots())

    def _export_rows(self) -> None:
        target = self.target
        functions: dict[str, Callable] = {
            "moments": lambda key, z, data: {n: tuple(m) for n, m in target.moments(z, data).items()},
            "simulate": lambda key, z, data: target.simulate(jax.random.wrap_key_data(key, impl=_THREEFRY), z, data),
            "joint_terms": lambda key, z, data: tuple(target.joint_terms(z, data)),
        }
        if not target.observed:
            functions.clear()
        elif not any(observed.has_moments for observed in target.observed.values()):
            del functions["moments"]
        if target.row_names:
            functions["row_values"] = lambda key, z, data: target.row_values(z, data)
        for size in self.blocks:
            block = None if size is None else Block(0, min(size, _length(self.data, self.axes)), size)
            data = self.data if block is None else take_block(self.data, self.axes, block)
            packed = pack(target.as_arrays(data), self.axes or None)
            self.orders = {name: list(leaf.order) for name, leaf in packed.items() if isinstance(leaf, Packed)}
            stored = {name: leaf.stored if isinstance(leaf, Packed) else leaf for name, leaf in packed.items()}
            for name, function in functions.items():
                if name not in self.missing:
                    self._export(f"{name}/{label(size)}", name, self._on_stored(function), (self.key, self.z, stored))

    def _on_stored(self, function: Callable) -> Callable:
        """``function`` on data as they are stored, with the rows of its results last."""
        orders = {name: tuple(order) for name, order in self.orders.items()}
        minor = batch_minor(lambda key, z, data: jax.tree.map(_to_last, function(key, z, data)))

        def on_stored(key: Array, z: Array, stored: Data) -> Any:
            data = {name: Packed(leaf, orders[name]) if name in orders else leaf for name, leaf in stored.items()}
            return minor(key, z, data)

        return on_stored

    def _export_constrain(self) -> tuple[list[str], frozenset[str]]:
        """Names of the constrained values that are kept, and the slots they need."""
        target, arrays = self.target, self.target.as_arrays(self.data)
        needed = used_inputs(lambda data: target.constrain(self.z, data), arrays)
        small = {name for name, values in self.data.items() if values.nbytes <= _KEPT_DATA_BYTES}
        rowless = [name for name in needed if name not in target.row_names and needed[name] <= small]
        slots = frozenset().union(*(needed[name] for name in rowless))

        def constrain(z: Array, kept: Data) -> dict[str, Array]:
            # Slots that are not kept decide shapes at most: zeros stand in for them and are removed as dead code.
            data = {n: kept[n] if n in kept else jnp.zeros(a.shape, a.dtype) for n, a in arrays_like.items()}
            values = target.constrain(z, data)
            return {name: values[name] for name in rowless}

        arrays_like = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in arrays.items()}
        self._export("constrain", "constrain", constrain, (self.z, {name: arrays[name] for name in slots}))
        return rowless, slots

    def _export(self, place: str, name: str, function: Callable, arguments: tuple) -> None:
        jitted = jax.jit(function)
        try:
            try:
                exported = jax.export.export(jitted, platforms=_PLATFORMS)(*arguments)
            except Exception:  # an operation without a form for some platform
                exported = jax.export.export(jitted, platforms=(jax.default_backend(),))(*arguments)
            self.arrays[f"target/{place}"] = from_bytes(bytes(exported.serialize()))
        except Exception as error:  # whatever a front end or an operation has against it: the other functions remain
            self.missing[name] = f"{type(error).__name__}: {error}".splitlines()[0]

    def _describe(self, constrained: list[str], kept: list[str], observed_slots: dict[str, str]) -> dict[str, Any]:
        target = self.target
        plan = target.row_plan() if self.axes else None
        rows_dims = {
            slot.dims[slot.row_axis] for slot in target.slots.values() if slot.row_axis is not None and slot.dims
        }
        rows_dims |= {what.dims[0] for what in target.observed.values() if what.dims}
        layout = dataclasses.asdict(target.layout)
        # The fitted rows are not kept, so neither are their labels.
        layout["coords"] = [
            [dim, list(map(label_as_json, names))] for dim, names in layout["coords"] if dim not in rows_dims
        ]
        return {
            "layout": layout,
            "slots": {name: dataclasses.asdict(slot) for name, slot in target.slots.items()},
            "observed": {
                name: dataclasses.asdict(dataclasses.replace(what, slot=observed_slots.get(name)))
                for name, what in target.observed.items()
            },
            "num_rows": dict(target.num_rows),
            "row_names": list(target.row_names),
            "notes": list(target.notes),
            "block_sizes": [size for size in self.blocks if size is not None],
            "shapes": {name: list(values.shape) for name, values in self.data.items()},
            "row_plan": None if plan is None else dataclasses.asdict(plan),
            "orders": self.orders,
            "constrained": constrained,
            "constrain_slots": kept,
            "missing": self.missing,
            "jax": jax.__version__,
        }


def _to_last(values: Array) -> Array:
    return jnp.moveaxis(values, 0, -1) if values.ndim > 1 else values


def _length(data: Mapping[str, np.ndarray], axes: Mapping[str, int]) -> int:
    name, axis = next(iter(axes.items()))
    return data[name].shape[axis]


def label_as_json(label: Any) -> Any:
    """A coordinate's label as JSON has it."""
    if isinstance(label, tuple):
        return [label_as_json(part) for part in label]
    return label if label is None or isinstance(label, str | int | float | bool) else str(label)
