"""`StanTarget`: a compiled Stan program with data, as the engine sees it.

The program is opaque: it has one log density, no rows. Its data are named inputs like those of any other model, but
what reaches compiled functions is the number of a data set that the program holds (`library.DataSet`); `on_host`
turns the one into the other. Values in the program (transformed data, sizes) follow from the data once, when they are
opened.
"""

import hashlib
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from posterion._typing import Array, ArrayLike, Data
from posterion.errors import DataError
from posterion.frontends.stan.data import check, slots_of
from posterion.frontends.stan.labels import Dims, make_layout
from posterion.frontends.stan.library import Batching, DataSet, Library
from posterion.frontends.stan.program import Program
from posterion.target import AbstractTarget

_NUMBER = "data set"
_SPEED = (
    "a Stan program runs as host code, one draw after another, and cannot be compiled together with the fit: a step "
    "takes some 3 times as long as for the same model in JAX"
)
_TRIES = 100
_REACH = 2.0  # Stan's own random starting values are uniform on (-2, 2) in unconstrained space
_NOT_COMPUTED = np.iinfo(np.int32).min  # what Stan itself leaves in an integer that was not computed


class _Programs(dict):
    """Programs compiled by the engine, which several targets hold together (a plain dict cannot be held weakly)."""


class StanTarget(AbstractTarget):
    """A Stan program with data.

    Parameters
    ----------
    program
        What stanc says of it.
    library
        It, compiled and loaded.
    data
        By name; names it does not know are left out.
    dims, coords
        Names of axes by variable, and labels by dim.
    batching
        How the program takes some of its rows; None if it does not. `posterion.frontends.stan.rows` makes use of it.

    Raises
    ------
    DataError
        If the data do not fit the program.
    """

    def __init__(
        self,
        program: Program,
        library: Library,
        data: Mapping[str, Any],
        dims: Dims | None = None,
        coords: Mapping[str, Any] | None = None,
        batching: Batching | None = None,
    ) -> None:
        self.program, self._library, self._lock = program, library, threading.Lock()
        self.batching = batching
        self._dims, self._coords = dict(dims or {}), dict(coords or {})
        self.slots = slots_of(program, self._dims)
        self._data = check(self.slots, data)
        self._opened: dict[bytes, DataSet] = {}
        self._own = self._open(self._data)
        self.layout = make_layout(program, self._own.outputs, self._own.output_names, self._dims, self._coords)
        self.notes = (_SPEED,)

    def with_data(self, data: Mapping[str, Any], *, coords: Mapping[str, Any] | None = None) -> "StanTarget":
        """The same program with other data; nothing is compiled.

        A posterior that was fitted to this target and saved can be loaded for the new one, if their parameters have the
        same shapes: ``po.load(path, model=...)``. Generated quantities then follow the new data.

        Parameters
        ----------
        data
            Values by name; those that are not given stay. The shapes of parameters may follow.
        coords
            New labels by dim; those that are not given stay.
        """
        everything = {**self._data, **data}
        labels = {**self._coords, **(coords or {})}
        return StanTarget(self.program, self._library, everything, self._dims, labels, self.batching)

    @property
    def data(self) -> dict[str, np.ndarray]:
        return dict(self._data)

    @property
    def rejections(self) -> int:
        """How often Stan has rejected a point (or failed at one) so far, with any data this target was given."""
        return sum(data_set.rejections for data_set in [*self._opened.values()])

    @cached_property
    def compiled(self) -> dict:
        """Shared by all targets of the program whose variables have the same shapes."""
        with self._lock:
            kept = self._library.shared.get(self._own.outputs)
            if kept is None:
                kept = self._library.shared[self._own.outputs] = _Programs()
                kept["is_network"] = False  # not to be seen from outside; Stan computes in double precision anyway
            return kept

    def on_host(self, data: Data) -> dict[str, ArrayLike]:
        """The number of the data set: opened if these data are new, under the number they have if they are not.

        Raises
        ------
        DataError
            If Stan refuses the data, or the parameters would have other shapes.
        """
        if all(data[name] is value for name, value in self._data.items()):
            return {_NUMBER: np.asarray(self._own.number, np.int32)}
        arrays = check(self.slots, data)
        data_set = self._open(arrays)
        if data_set.outputs != self._own.outputs:
            parts = zip(data_set.outputs, self._own.outputs, strict=True)
            new, old = next((new, old) for new, old in parts if new != old)
            raise DataError(
                f"with these data {new.name!r} has the shape {new.shape}, and {old.shape} with those the target was "
                "made of: make a new one by with_data(...) or posterion.stan(...)"
            )
        return {_NUMBER: np.asarray(data_set.number, np.int32)}

    def log_density(self, z: Float[Array, " dim"], data: Data) -> Float[Array, ""]:
        return self._library.log_density(self._number(data), z)

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        """Parameters, transformed parameters and generated quantities.

        What a draw's generated quantities are is decided by the draw alone. Where the program fails while computing
        them, they are not a number (the smallest 32-bit integer, as in Stan, where they are integers).
        """
        flat = self._library.write_array(self._number(data), z, self._own.num_values)
        values, start = {}, 0
        for output in self._own.outputs:
            part, start = flat[start : start + output.num_values], start + output.num_values
            values[output.name] = self._shaped(output.name, part, output.shape)
        return values

    def initial_point(self, seed: int) -> np.ndarray:
        """Zero in unconstrained space, or if Stan rejects that, a random point as Stan itself would start from."""
        zero, random = np.zeros(self.layout.size), np.random.default_rng(seed)
        z = zero
        for _ in range(_TRIES):
            value, gradient, _ = self._own.evaluate(z)
            if np.isfinite(value) and np.isfinite(gradient).all():
                return z
            z = random.uniform(-_REACH, _REACH, zero.shape)
        return zero

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        number = int(self._number(data))
        data_set = next(known for known in [*self._opened.values()] if known.number == number)
        value, _, reason = data_set.evaluate(np.asarray(z, np.float64))
        name = f"log density, where Stan says: {reason}" if reason else "log density"
        return {name: jnp.asarray(value, z.dtype)}

    def row_density(self, z: Float[Array, " dim"], rows: Int[Array, " rows"], data: Data) -> Float[Array, ""]:
        """The density with the likelihood of these rows only, scaled up to that of all."""
        return self._library.row_density(self._number(data), rows, z)

    # ---- pieces
    def _number(self, data: Data) -> Array:
        return data[_NUMBER] if _NUMBER in data else self.as_arrays(data)[_NUMBER]

    def _open(self, arrays: Mapping[str, np.ndarray]) -> DataSet:
        """Data sets live as long as the target: somebody may hold programs and numbers."""
        whole = hashlib.sha256()
        for name, array in arrays.items():
            whole.update(f"{name} {array.dtype} {array.shape} ".encode() + np.asarray(array).tobytes())
        digest = whole.digest()
        with self._lock:
            if digest not in self._opened:
                self._opened[digest] = self._library.open(arrays, self.batching)
            return self._opened[digest]

    def _shaped(self, name: str, part: Array, shape: tuple[int, ...]) -> Array:
        """Numbers as they are written, the first index running fastest, as a value of the declared kind."""
        kind = self.program.outputs[name].type
        if kind == "complex":  # real and imaginary part next to each other
            pairs = part.reshape(-1, 2)
            part, shape = jax.lax.complex(pairs[:, 0], pairs[:, 1]), shape[:-1]
        elif kind == "int":
            whole = jnp.where(jnp.isfinite(part), part, _NOT_COMPUTED)
            part = whole.astype(jax.dtypes.canonicalize_dtype(np.int64))
        return part.reshape(shape[::-1]).transpose() if len(shape) > 1 else part.reshape(shape)
