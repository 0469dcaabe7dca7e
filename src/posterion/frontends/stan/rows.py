"""Mini-batches of a Stan program that takes its rows, their number and a scale of their likelihood as data.

Stan gives one number, the whole log density, so a program has to do its part: it multiplies the likelihood of its rows
by data that its author declares, and counts them by others. Then a step opens the program with some of the rows, as if
they were all, with the scale N / B. Whether the program keeps to that is checked before the first batch is cut: parts
of the data, each scaled up, must average to the whole.
"""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, ArrayLike, Data, Key
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends.stan.library import Batching
from posterion.frontends.stan.program import Program
from posterion.frontends.stan.target import StanTarget
from posterion.target import AbstractRowTarget, JointTerms, Moments, RowPlan

_ALL = "all rows"
_KEYS = ("rows", "size", "scale")
_TOLERANCE = 1e-8


def read_batching(batch: Mapping[str, Any], program: Program) -> Batching:
    """What a user says of a program's rows, checked against its declarations.

    Raises
    ------
    OptionError
        If a name is missing, unknown, or of the wrong kind.
    """
    if sorted(batch) != sorted(_KEYS):
        raise OptionError(f"batch must name {', '.join(map(repr, _KEYS))}, not {', '.join(map(repr, batch))}")
    rows = (batch["rows"],) if isinstance(batch["rows"], str) else tuple(batch["rows"])
    for name in (*rows, batch["size"], batch["scale"]):
        if name not in program.inputs:
            raise OptionError(
                f"batch names {name!r}, and {program.name} has no such data; it has {', '.join(program.inputs)}"
            )
    if not rows or any(program.inputs[name].dimensions == 0 for name in rows):
        raise OptionError(f"batch needs the data whose first axis is rows, at least one, and 'rows' is {list(rows)}")
    for key, kind in (("size", "int"), ("scale", "real")):
        declared = program.inputs[batch[key]]
        if (declared.type, declared.dimensions) != (kind, 0):
            raise OptionError(f"batch[{key!r}] must be a single {kind} of {program.name}'s data; {batch[key]!r} is not")
    return Batching(rows, batch["size"], batch["scale"])


def check_rows(data: Mapping[str, Any], batching: Batching) -> dict[str, Any]:
    """The data with a scale of one, after checking that rows are as many as they are said to be.

    Raises
    ------
    DataError
        If they are not, or the scale is given and is not one.
    """
    data = {batching.scale: 1.0, **data}
    if data[batching.scale] != 1.0:
        raise DataError(f"{batching.scale!r} is set for each batch, and must be 1 (or left out) for all rows")
    for name in batching.rows:
        found, said = np.shape(data.get(name, ()))[:1], data.get(batching.size)
        if said is not None and found != (said,):
            raise DataError(f"{name!r} has {found[0] if found else 'no'} rows, and {batching.size!r} says {said}")
    return data


class StanRowTarget(AbstractRowTarget):
    """A Stan program with data whose rows can be taken in batches.

    Parameters
    ----------
    whole
        The program with all its rows, and what it says of them.
    """

    def __init__(self, whole: StanTarget) -> None:
        assert whole.batching is not None  # its maker has seen to that  # noqa: S101
        self.whole, self._batching = whole, whole.batching
        self.layout, self.notes = whole.layout, whole.notes
        self.slots = {
            name: dataclasses.replace(slot, row_axis=0) if name in self._batching.rows else slot
            for name, slot in whole.slots.items()
        }
        self.observed, self.num_rows = {}, {}

    def with_data(self, data: Mapping[str, Any], *, coords: Mapping[str, Any] | None = None) -> "StanRowTarget":
        """As `StanTarget.with_data`."""
        everything = check_rows({**self.data, **data}, self._batching)
        return StanRowTarget(self.whole.with_data(everything, coords=coords))

    @property
    def data(self) -> dict[str, np.ndarray]:
        return self.whole.data

    @property
    def rejections(self) -> int:
        """As `StanTarget.rejections`; what was rejected of a batch counts, too."""
        return self.whole.rejections

    @cached_property
    def compiled(self) -> dict:
        return {"is_network": False}

    def on_host(self, data: Data) -> dict[str, ArrayLike]:
        """The number of the data set, the rows by number (under the name of the first that has rows), and all rows."""
        arrays = self.whole.on_host(check_rows(data, self._batching))
        count = np.shape(data[self._batching.rows[0]])[0]
        return {**arrays, self._batching.rows[0]: np.arange(count, dtype=np.int32), _ALL: np.zeros(count, bool)}

    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        """Everything as one term, which is why the program has to scale: the engine finds nothing that it could."""
        if _ALL not in data:
            data = self.as_arrays(data)
        rows = data[self._batching.rows[0]]
        if rows.shape == data[_ALL].shape:
            return JointTerms(self.whole.log_density(z, data), {})
        return JointTerms(self.whole.row_density(z, rows, data), {})

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self.whole.constrain(z, data)

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        return self.whole.named_terms(z, data)

    def initial_point(self, seed: int) -> np.ndarray:
        return self.whole.initial_point(seed)

    def row_plan(self, over: str | None = None) -> RowPlan:
        if over is not None and over not in self._batching.rows:
            raise OptionError(f"the rows are those of {', '.join(map(repr, self._batching.rows))}, not of {over!r}")
        return self._plan

    @cached_property
    def _plan(self) -> RowPlan:
        first = self._batching.rows[0]
        count = len(self.data[first])
        order = np.random.default_rng(0).permutation(count).astype(np.int32)
        parts = [part for part in np.split(order, [count // 2, count // 2 + count // 3]) if part.size]
        with jax.enable_x64(True):
            noise = np.random.default_rng(1).standard_normal(self.layout.size)
            z, data = jnp.asarray(self.initial_point(0) + 0.1 * noise), self.whole.as_arrays(self.data)
            all_rows = float(self.whole.log_density(z, data))
            values = [float(self.whole.row_density(z, jnp.asarray(part), data)) for part in parts]
        average = float(np.dot([part.size / count for part in parts], values))
        if not abs(average - all_rows) <= _TOLERANCE * max(1.0, *map(abs, values)):
            scale = self._batching.scale
            raise UnsupportedModelError(
                f"{self.whole.program.name} cannot be fitted in batches: the log density of all its rows is "
                f"{all_rows:.6g}, and its parts, each with {scale!r} set to N / B, average to {average:.6g}. Multiply "
                f"the log likelihood of the rows by {scale!r}, and nothing else; and let no row depend on another"
            )
        return RowPlan(count, ((first, 0),), ())

    # ---- what a density alone cannot give
    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        raise UnsupportedModelError(
            "a Stan program gives only a density: what it predicts are its generated quantities, which "
            "Posterior.sample has"
        )

    def moments(self, z: Float[Array, " dim"], data: Data) -> dict[str, Moments]:
        return {}

    def simulate(self, key: Key, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return {}

    def row_values(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return {}
