"""A target kept in a file: its functions compiled to StableHLO by `jax.export`, so that it predicts without its source.

Every function is exported for blocks of a few fixed numbers of rows (`posterion.predictive.blocks`), with the
batch-minor pass applied before: arguments lie as the pass stores them, results have their rows last. `LoadedTarget`
turns both round again; under the pass, those transposes cancel.

What is kept: moments, simulation, deterministics of rows, the joint terms (to score new outcomes), and `constrain` for
the free variables and those deterministics that hold no rows and need at most a megabyte of data.

StableHLO and JAX's calling convention promise months of compatibility, not decades: the arrays beside them in the file
stay readable, and can be bound to the model again.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, Key
from posterion.compilation.dependence import used_inputs
from posterion.compilation.minor_axis import Packed, batch_minor, pack
from posterion.errors import DataError, PosteriorFileError, UnsupportedModelError
from posterion.posterior.store import from_bytes, to_bytes
from posterion.predictive.blocks import SMALL_BLOCK, Block, take_block
from posterion.predictive.evaluation import Evaluation
from posterion.target import AbstractRowTarget, JointTerms, Layout, Moments, Observed, RowPlan, Slot, Variable
from posterion.target.checks import check_data

_PLATFORMS = ("cpu", "cuda", "tpu")
_KEPT_DATA_BYTES = 2**20
"""Data that deterministics need are kept up to this size; beyond it the deterministics are left out."""


# ------------------------------------------------------------------------------------------------------------- exporting


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

    Raises
    ------
    UnsupportedModelError
        If not even the moments, or a simulation, can be exported.
    """
    with jax.enable_x64(x64):
        exporter = _Exporter(target, x64, example_data)
        return exporter.arrays, exporter.description


class _Exporter:
    def __init__(self, target: AbstractRowTarget, x64: bool, data: Mapping[str, np.ndarray]) -> None:  # noqa: FBT001
        self.target, self.data = target, {name: np.asarray(data[name]) for name in target.slots}
        self.z = jnp.zeros(target.layout.size, jnp.result_type(float))
        self.key = jax.random.key_data(jax.random.key(0, impl="threefry2x32"))
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
        if not any(observed.has_moments for observed in target.observed.values()):
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
                    self._export(f"{name}/{_label(size)}", name, self._on_stored(function), (self.key, self.z, stored))
        if "moments" in self.missing or ("simulate" in self.missing and "moments" not in functions):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())
            raise UnsupportedModelError(f"the model's predictions cannot be exported ({reasons})")

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
            [dim, list(map(_label_as_json, names))] for dim, names in layout["coords"] if dim not in rows_dims
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


_THREEFRY = "threefry2x32"


def _to_last(values: Array) -> Array:
    return jnp.moveaxis(values, 0, -1) if values.ndim > 1 else values


def _to_first(values: Array) -> Array:
    return jnp.moveaxis(values, -1, 0) if values.ndim > 1 else values


def _label(size: int | None) -> str:
    return "all" if size is None else str(size)


def _length(data: Mapping[str, np.ndarray], axes: Mapping[str, int]) -> int:
    name, axis = next(iter(axes.items()))
    return data[name].shape[axis]


def _label_as_json(label: Any) -> Any:
    if isinstance(label, tuple):
        return [_label_as_json(part) for part in label]
    return label if label is None or isinstance(label, str | int | float | bool) else str(label)


# --------------------------------------------------------------------------------------------------------------- loading


class LoadedTarget(AbstractRowTarget):
    """A target rebuilt from what `export_target` kept; needs JAX, but neither the model nor its package.

    Parameters
    ----------
    arrays
        Those of the file; names that do not begin with ``target/`` are left alone.
    description
        As `export_target` gave it.

    Raises
    ------
    PosteriorFileError
        If the exported functions are too old or too new for the installed JAX, or are not for this kind of device.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        self._description = description
        self._orders = {name: tuple(order) for name, order in description["orders"].items()}
        self._kept = {
            name.removeprefix("target/data/"): values
            for name, values in arrays.items()
            if name.startswith("target/data/")
        }
        self.layout = _layout(description["layout"])
        self.slots = {name: Slot(**_tuples(slot)) for name, slot in description["slots"].items()}
        self.observed = {name: Observed(**_tuples(what)) for name, what in description["observed"].items()}
        self.num_rows = dict(description["num_rows"])
        self.row_names = tuple(description["row_names"])
        self.notes = tuple(description["notes"])
        self.block_sizes = tuple(description["block_sizes"]) or None
        self._functions = {
            name.removeprefix("target/"): _deserialise(values, description)
            for name, values in arrays.items()
            if name.startswith("target/") and not name.startswith("target/data/")
        }

    @property
    def data(self) -> dict[str, np.ndarray]:
        """What was kept of the data: inputs without rows, and what the kept deterministics need."""
        return dict(self._kept)

    def as_arrays(self, data: Data) -> dict[str, Array]:
        # Not all slots: the fitted rows are not kept.
        return {
            name: jnp.asarray(np.asarray(data[name]).astype(jax.dtypes.canonicalize_dtype(slot.dtype)))
            for name, slot in self.slots.items()
            if name in data
        }

    def _call(self, name: str, key: Array, z: Array, data: Data) -> Any:
        self._check_kept(name)
        size = None if self.block_sizes is None else self._rows_of(data)
        exported = self._functions.get(f"{name}/{_label(size)}")
        if exported is None:
            raise UnsupportedModelError(
                f"a loaded posterior evaluates blocks of {' or '.join(map(str, self.block_sizes or ()))} rows, not {size}; "
                "po.load(path, model=...) binds it to the model again"
            )
        stored = {n: jnp.transpose(a, self._orders[n]) if n in self._orders else a for n, a in data.items()}
        return jax.tree.map(_to_first, exported.call(key, z, stored))

    def _check_kept(self, name: str) -> None:
        reason = self._description["missing"].get(name)
        if reason is not None:
            raise UnsupportedModelError(
                f"the saved posterior could not keep the model's {name} ({reason}); "
                "po.load(path, model=...) binds it to the model again"
            )

    def _rows_of(self, data: Data) -> int:
        name, axis = self._description["row_plan"]["axes"][0]
        return data[name].shape[axis]

    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        return JointTerms(*self._call("joint_terms", _no_key(), z, data))

    def moments(self, z: Float[Array, " dim"], data: Data) -> dict[str, Moments]:
        if not any(what.has_moments for what in self.observed.values()):
            return {}
        return {name: Moments(*parts) for name, parts in self._call("moments", _no_key(), z, data).items()}

    def simulate(self, key: Key, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._call("simulate", jax.random.key_data(key), z, data)

    def row_values(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._call("row_values", _no_key(), z, data) if self.row_names else {}

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        self._check_kept("constrain")
        slots = self._description["constrain_slots"]
        values = self._functions["constrain"].call(z, {name: data[name] for name in slots})
        return {name: values[name] for name in self._description["constrained"]}  # JAX sorts names

    def initial_point(self, key: Key) -> np.ndarray:
        raise UnsupportedModelError("a loaded posterior cannot be fitted again; fit the model itself")

    def row_plan(self, over: str | None = None) -> RowPlan:
        if self._description["row_plan"] is None:
            raise UnsupportedModelError(
                "the rows of this model depend on each other, so it was saved for the data it was fitted to as a whole"
            )
        return RowPlan(**_tuples(self._description["row_plan"]))

    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        passed = check_data(self.slots, data, partial=True)
        shapes = {name: tuple(shape) for name, shape in self._description["shapes"].items()}
        if self._description["row_plan"] is None:
            return self._same_rows(passed, shapes)
        axes = dict(self.row_plan().axes)
        covariates = [name for name in axes if not self.slots[name].only_observed]
        lacking = [name for name in covariates if name not in passed]
        if lacking:
            raise DataError(f"pass the inputs {', '.join(map(repr, lacking))} of the rows to predict too")
        rows = {name: passed[name].shape[axis] for name, axis in axes.items() if name in passed}
        first, count = next(iter(rows.items()))
        for name, other in rows.items():
            if other != count:
                raise DataError(f"{first!r} has {count} rows and {name!r} has {other}: they must be the same rows.")
        complete = {}
        for name, slot in self.slots.items():
            if name in passed:
                complete[name] = passed[name]
            elif slot.only_observed:
                shape = list(shapes[name])
                if name in axes:
                    shape[axes[name]] = count
                complete[name] = np.zeros(shape, slot.dtype)
            else:
                complete[name] = self._kept[name]
        return complete

    def _same_rows(self, passed: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """For models whose rows depend on each other: all inputs, shaped like those of the fit."""
        complete = {}
        for name, slot in self.slots.items():
            if name in passed:
                complete[name] = passed[name]
            elif name in self._kept:
                complete[name] = self._kept[name]
            elif slot.only_observed:
                complete[name] = np.zeros(shapes[name], slot.dtype)
            else:
                raise DataError(f"pass {name!r} too: the rows of this model depend on each other")
            if complete[name].shape != shapes[name]:
                raise DataError(
                    f"{name!r} has shape {complete[name].shape}, and this model was saved for {shapes[name]} only, "
                    "because its rows depend on each other. po.load(path, model=...) binds it to the model again, "
                    "which predicts other rows"
                )
        return complete


def _no_key() -> Array:
    return jnp.zeros(2, jnp.uint32)


def _deserialise(values: np.ndarray, description: Mapping[str, Any]) -> jax.export.Exported:
    try:
        exported = jax.export.deserialize(bytearray(to_bytes(values)))
        version = exported.calling_convention_version
        lowest = jax.export.minimum_supported_calling_convention_version
        if not lowest <= version <= jax.export.maximum_supported_calling_convention_version:
            raise ValueError(f"calling convention {version}")
    except Exception as error:  # JAX raises whatever its parsers do
        raise PosteriorFileError(
            f"the predictive functions in this file were exported by JAX {description['jax']} and do not load in JAX "
            f"{jax.__version__} ({error}). The posterior itself is intact: po.load(path, model=...) binds it to the "
            "model again"
        ) from error
    if jax.default_backend() not in [_KINDS.get(platform, platform) for platform in exported.platforms]:
        raise PosteriorFileError(
            f"the predictive functions in this file are for {', '.join(exported.platforms)}, not for "
            f"{jax.default_backend()}. Set JAX_PLATFORMS=cpu, or bind the posterior to the model again by "
            "po.load(path, model=...)"
        )
    return exported


_KINDS = {"cuda": "gpu", "rocm": "gpu"}


def _layout(description: Mapping[str, Any]) -> Layout:
    return Layout(
        variables=tuple(Variable(**_tuples(variable)) for variable in description["variables"]),
        derived_dims=_as_tuple(description["derived_dims"]),
        coords=_as_tuple(description["coords"]),
    )


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass back from JSON, where tuples had become lists."""
    return {name: _as_tuple(value) for name, value in fields.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value
