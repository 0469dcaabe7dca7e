"""A target loaded from a file: its functions, as `posterion.posterior.export` compiled them, need only JAX.

StableHLO and JAX's calling convention promise months of compatibility, not decades: the arrays beside them in the file
stay readable, and can be bound to the model again.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, ArrayLike, Data, Key
from posterion.errors import DataError, PosteriorFileError, UnsupportedModelError
from posterion.posterior.store import to_bytes
from posterion.target import AbstractRowTarget, JointTerms, Layout, Moments, Observed, RowPlan, Slot, Variable
from posterion.target.checks import check_data

_KINDS = {"cuda": "gpu", "rocm": "gpu"}
"""What JAX calls the backend of a platform that functions are exported for."""


def label(size: int | None) -> str:
    """The part of an exported function's name that says for how many rows it is; None for all of them at once."""
    return "all" if size is None else str(size)


class LoadedTarget(AbstractRowTarget):
    """A target rebuilt from what `export_target` kept; needs JAX, but neither the model nor its package.

    Parameters
    ----------
    arrays
        Those of the file; names that do not begin with ``target/`` are left alone.
    description
        As `export_target` gave it.

    Attributes
    ----------
    arrays, description
        What it was rebuilt from, so that it can be saved again.

    Raises
    ------
    PosteriorFileError
        If the exported functions are too old or too new for the installed JAX, or are not for this kind of device.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        self.arrays = {name: values for name, values in arrays.items() if name.startswith("target/")}
        self.description = dict(description)
        self._orders = {name: tuple(order) for name, order in description["orders"].items()}
        self._kept = {
            name.removeprefix("target/data/"): values
            for name, values in self.arrays.items()
            if name.startswith("target/data/")
        }
        self.layout = layout_from(description["layout"])
        self.slots = {name: Slot(**_tuples(slot)) for name, slot in description["slots"].items()}
        self.observed = {name: Observed(**_tuples(what)) for name, what in description["observed"].items()}
        self.num_rows = dict(description["num_rows"])
        self.row_names = tuple(description["row_names"])
        self.notes = tuple(description["notes"])
        self.block_sizes = tuple(description["block_sizes"]) or None
        self._functions = {
            name.removeprefix("target/"): deserialise(values, description)
            for name, values in self.arrays.items()
            if not name.startswith("target/data/")
        }

    @property
    def data(self) -> dict[str, np.ndarray]:
        """What was kept of the data: inputs without rows, and what the kept deterministics need."""
        return dict(self._kept)

    def on_host(self, data: Data) -> dict[str, ArrayLike]:
        # Not all slots: the fitted rows are not kept.
        return {
            name: np.asarray(data[name]).astype(jax.dtypes.canonicalize_dtype(slot.dtype))
            for name, slot in self.slots.items()
            if name in data
        }

    def _call(self, name: str, key: Array, z: Array, data: Data) -> Any:
        self._check_kept(name)
        size = None if self.block_sizes is None else self._rows_of(data)
        exported = self._functions.get(f"{name}/{label(size)}")
        if exported is None:
            sizes = " or ".join(map(str, self.block_sizes or ()))
            raise UnsupportedModelError(
                f"a loaded posterior evaluates blocks of {sizes} rows, not {size}; "
                "po.load(path, model=...) binds it to the model again"
            )
        stored = {n: jnp.transpose(a, self._orders[n]) if n in self._orders else a for n, a in data.items()}
        return jax.tree.map(_to_first, exported.call(key, z, stored))

    def _check_kept(self, name: str) -> None:
        reason = self.description["missing"].get(name)
        if reason is not None:
            raise UnsupportedModelError(
                f"the saved posterior could not keep the model's {name} ({reason}); "
                "po.load(path, model=...) binds it to the model again"
            )

    def _rows_of(self, data: Data) -> int:
        name, axis = self.description["row_plan"]["axes"][0]
        return data[name].shape[axis]

    def _fitted_rows(self) -> int:
        name, axis = self.description["row_plan"]["axes"][0]
        return self.description["shapes"][name][axis]

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
        slots = self.description["constrain_slots"]
        values = self._functions["constrain"].call(z, {name: data[name] for name in slots})
        return {name: values[name] for name in self.description["constrained"]}  # JAX sorts names

    def initial_point(self, seed: int) -> np.ndarray:
        raise UnsupportedModelError("a loaded posterior cannot be fitted again; fit the model itself")

    def row_plan(self, over: str | None = None) -> RowPlan:
        if self.description["row_plan"] is None:
            raise UnsupportedModelError(
                "the rows of this model depend on each other, so it was saved for the data it was fitted to as a whole"
            )
        return RowPlan(**_tuples(self.description["row_plan"]))

    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        passed = check_data(self.slots, data, partial=True)
        shapes = {name: tuple(shape) for name, shape in self.description["shapes"].items()}
        if self.description["row_plan"] is None:
            return self._same_rows(passed, shapes)
        axes = dict(self.row_plan().axes)
        covariates = [name for name in axes if not self.slots[name].only_observed]
        lacking = [name for name in covariates if name not in passed]
        if lacking:
            raise DataError(f"pass the inputs {', '.join(map(repr, lacking))} of the rows to predict too")
        rows = {name: passed[name].shape[axis] for name, axis in axes.items() if name in passed}
        # Without covariates every row is like any other: as many as were passed, or as there were in the fit.
        first, count = next(iter(rows.items()), ("the fit", self._fitted_rows()))
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


def _to_first(values: Array) -> Array:
    return jnp.moveaxis(values, -1, 0) if values.ndim > 1 else values


def _no_key() -> Array:
    return jnp.zeros(2, jnp.uint32)


def deserialise(values: np.ndarray, description: Mapping[str, Any]) -> jax.export.Exported:
    """An exported function from its bytes, or an error that says why it does not load here."""
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


def layout_from(description: Mapping[str, Any]) -> Layout:
    """The layout that was kept as JSON."""
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
