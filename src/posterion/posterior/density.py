"""Targets that give only a density, in a file: their constrained values, as a function or else as draws.

A density written in JAX keeps the function that turns ``z`` into named values, exported as in
`posterion.posterior.export`. One that is code of somebody else's (a Stan program) cannot: then the file keeps a
thousand draws, the very ones that `Posterior.sample` gives by default, until the model is bound to it again.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data
from posterion.compilation.dependence import used_inputs
from posterion.errors import UnsupportedModelError
from posterion.posterior.export import label_as_json
from posterion.posterior.exported import deserialise, layout_from
from posterion.posterior.store import from_bytes
from posterion.target import AbstractTarget, Slot

if TYPE_CHECKING:
    from posterion.posterior.posterior import Posterior

KIND = "density"
"""What the description of such a target says of itself in the file."""

_KEPT_DRAWS = 1000
_KEPT_DATA_BYTES = 2**20
_KEPT_DRAWS_BYTES = 2**26
"""Values beyond these sizes are left out of the file, the largest first; free variables never are."""
_PREFIX = "target/draws/"


def export_density(posterior: "Posterior") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and description of a target that has only a density; both go into `LoadedDensity`.

    Parameters
    ----------
    posterior
        Whose target is to be kept.
    """
    target, layout = posterior.target, dataclasses.asdict(posterior.layout)
    layout["coords"] = [[dim, list(map(label_as_json, labels))] for dim, labels in layout["coords"]]
    arrays: dict[str, np.ndarray] = {}
    description = {
        "kind": KIND,
        "layout": layout,
        "notes": list(target.notes),
        "jax": jax.__version__,
        "constrained": [],
        "complex": [],
        "reason": "",
    }
    try:
        function, kept, names = _export_constrain(target, posterior.fitted_data, x64=posterior.record.x64)
    except Exception as error:  # whatever JAX has against exporting it
        description["reason"] = f"{type(error).__name__}: {error}".splitlines()[0]
        draws = _draws(posterior)
        description["complex"] = [name for name, values in draws.items() if np.iscomplexobj(values)]
        arrays |= {f"{_PREFIX}{name}": _as_reals(values) for name, values in draws.items()}
    else:
        arrays["target/constrain"] = function
        arrays |= {f"target/data/{name}": values for name, values in kept.items()}
        description["constrained"] = names
    return arrays, description


def _export_constrain(
    target: AbstractTarget, data: Data, *, x64: bool
) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """The function as bytes, the data it needs, and the names of the values it gives."""
    with jax.enable_x64(x64):
        z, inputs = jnp.zeros(target.layout.size, jnp.result_type(float)), target.as_arrays(data)
        needed = used_inputs(lambda inputs: target.constrain(z, inputs), inputs)
        small = {name for name, values in inputs.items() if values.nbytes <= _KEPT_DATA_BYTES}
        names = [name for name, uses in needed.items() if uses <= small]
        kept = {name: inputs[name] for name in frozenset().union(*(needed[name] for name in names))}

        def constrain(z: Array, kept: Data) -> dict[str, Array]:
            # Inputs that are not kept decide shapes at most.
            stand_in = {n: kept[n] if n in kept else jnp.zeros(a.shape, a.dtype) for n, a in inputs.items()}
            values = target.constrain(z, stand_in)
            return {name: values[name] for name in names}

        exported = jax.export.export(jax.jit(constrain))(z, kept)
        return from_bytes(bytes(exported.serialize())), {n: np.asarray(a) for n, a in kept.items()}, names


def _draws(posterior: "Posterior") -> dict[str, np.ndarray]:
    tree = posterior.sample(_KEPT_DRAWS)
    values = {str(name): draws.values[0] for name, draws in tree["posterior"].data_vars.items()}
    free = {variable.name for variable in posterior.layout.variables}
    derived = sorted((name for name in values if name not in free), key=lambda name: values[name].nbytes)
    while derived and sum(draws.nbytes for draws in values.values()) > _KEPT_DRAWS_BYTES:
        del values[derived.pop()]
    return values


def _as_reals(values: np.ndarray) -> np.ndarray:
    """Complex numbers, which the file format does not know, with a last axis of real and imaginary part."""
    return np.stack([np.real(values), np.imag(values)], axis=-1) if np.iscomplexobj(values) else values


class LoadedDensity(AbstractTarget):
    """What a file kept of a target that has only a density.

    Parameters
    ----------
    arrays, description
        As `export_density` gave them; arrays whose names do not begin with ``target/`` are left alone.

    Attributes
    ----------
    arrays, description
        What it was made of, so that it can be saved again.
    draws
        Kept draws by name, (draws, ...); empty if the function was kept.

    Raises
    ------
    PosteriorFileError
        If the exported function is too old or too new for the installed JAX.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        self.arrays = {name: values for name, values in arrays.items() if name.startswith("target/")}
        self.description = dict(description)
        self.layout, self.notes = layout_from(description["layout"]), tuple(description["notes"])
        parts = {name.removeprefix("target/data/"): v for name, v in self.arrays.items() if "target/data/" in name}
        self._kept, self.slots = parts, {name: Slot(str(v.dtype), v.shape) for name, v in parts.items()}
        kept = {name.removeprefix(_PREFIX): v for name, v in self.arrays.items() if name.startswith(_PREFIX)}
        pairs = frozenset(description["complex"])
        self.draws = {n: v[..., 0] + 1j * v[..., 1] if n in pairs else v for n, v in kept.items()}
        function = self.arrays.get("target/constrain")
        self._constrain = None if function is None else deserialise(function, description)

    @property
    def data(self) -> dict[str, np.ndarray]:
        return dict(self._kept)

    def some_draws(self, count: int, random_seed: int | None) -> dict[str, np.ndarray]:
        """So many of the kept draws: the first ones, or others for another seed.

        Raises
        ------
        UnsupportedModelError
            If more are asked for than there are.
        """
        there = len(next(iter(self.draws.values())))
        if count > there:
            raise UnsupportedModelError(
                f"the file keeps {there:,} draws and {count:,} were asked for: the model itself, which makes more, "
                "could not be kept. po.load(path, model=...) binds it to the posterior again"
            )
        index = np.arange(count)
        if random_seed is not None:
            index = np.random.default_rng(random_seed).permutation(there)[:count]
        order = [variable.name for variable in self.layout.variables] + [name for name, _ in self.layout.derived_dims]
        return {name: self.draws[name][index] for name in order if name in self.draws}

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        if self._constrain is None:
            raise self._lacking()
        values = self._constrain.call(z, data)
        return {name: values[name] for name in self.description["constrained"]}  # JAX sorts names

    def log_density(self, z: Float[Array, " dim"], data: Data) -> Float[Array, ""]:
        raise self._lacking()

    def initial_point(self, seed: int) -> np.ndarray:
        raise UnsupportedModelError("a loaded posterior cannot be fitted again; fit the model itself")

    def _lacking(self) -> UnsupportedModelError:
        return UnsupportedModelError(
            "the file keeps the posterior and not the model: po.load(path, model=...) binds it to the model again"
        )
