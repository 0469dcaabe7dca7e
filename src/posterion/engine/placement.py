"""Where the data lie: on one device as they are, or their rows spread over the devices of a team.

An array can be spread only in equal shares, so rows are added until the devices divide their number; inside a compiled
program `gathered` cuts them off again, which moves nothing (XLA keeps the last shares shorter). The model never sees
them, so this is right for every model, whether or not its likelihood factorises over rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from posterion._typing import ArrayLike, Data
from posterion.compilation.minor_axis import Packed
from posterion.distributed import Team


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Spread:
    """An array, or one stored by `pack`, whose rows lie on several devices, with rows added that mean nothing.

    Parameters
    ----------
    padded
        The array with the rows that were added.
    num_rows
        Rows that are real.
    axis
        Along which rows run, in the order of storage.
    sharding
        How they are spread.
    """

    padded: Any  # an array or Packed; JAX also fills nodes with placeholders of its own
    num_rows: int = field(metadata={"static": True})
    axis: int = field(metadata={"static": True})
    sharding: NamedSharding = field(metadata={"static": True})

    @property
    def value(self) -> Any:
        """The real rows, still spread; only inside a compiled program."""

        def cut(array: jax.Array) -> jax.Array:
            real = jax.lax.slice_in_dim(array, 0, self.num_rows, axis=self.axis)
            return jax.lax.with_sharding_constraint(real, self.sharding)

        return _map_stored(cut, self.padded)


def place(data: Data, row_axes: Mapping[str, int | None], team: Team, *, spread: bool) -> dict[str, Any]:
    """The arrays on the devices of ``team``.

    Parameters
    ----------
    data
        Slot name to array, or one stored by `pack`.
    row_axes
        The axis of each that holds rows, in natural order; None for none.
    team
        Whose devices.
    spread
        Whether to spread rows over the devices, or keep all of them on each.
    """
    everywhere = team.everywhere
    if everywhere is None:
        return dict(data)
    placed = {}
    for name, leaf in data.items():
        axis = row_axes.get(name)
        if not spread or axis is None or leaf.ndim == 0:
            placed[name] = _map_stored(lambda array: team.put(np.asarray(array), everywhere), leaf)
            continue
        stored_axis = leaf.full_order.index(axis % leaf.ndim) if isinstance(leaf, Packed) else axis % leaf.ndim
        placed[name] = _spread(leaf, stored_axis, team)
    return placed


def gathered(data: Data) -> dict[str, Any]:
    """Data as a log joint sees them: rows that were added are gone; all else is as it was."""
    return {name: leaf.value if isinstance(leaf, Spread) else leaf for name, leaf in data.items()}


def spread_rows(leaf: ArrayLike | Packed, axis: int, team: Team) -> Any:
    """Within a compiled program: let the devices of ``team`` share the rows of a batch."""
    if team.mesh is None:
        return leaf
    stored_axis = leaf.full_order.index(axis % leaf.ndim) if isinstance(leaf, Packed) else axis % leaf.ndim
    sharding = team.along(stored_axis)
    return _map_stored(lambda array: jax.lax.with_sharding_constraint(array, sharding), leaf)


def _spread(leaf: ArrayLike | Packed, axis: int, team: Team) -> Spread:
    sharding = team.along(axis)
    assert sharding is not None  # there is a mesh  # noqa: S101

    def put(array: jax.Array) -> jax.Array:
        values = np.asarray(array)
        missing = -values.shape[axis] % team.num_devices
        if missing:  # repeats of the last row: real numbers, so that nothing non-finite can come of them
            last = np.take(values, [-1], axis=axis)
            values = np.concatenate([values, np.repeat(last, missing, axis=axis)], axis=axis)
        return team.put(values, sharding)

    stored = leaf.stored if isinstance(leaf, Packed) else leaf
    return Spread(_map_stored(put, leaf), stored.shape[axis], axis, sharding)


def _map_stored(function: Any, leaf: Any) -> Any:
    return Packed(function(leaf.stored), leaf.order) if isinstance(leaf, Packed) else function(leaf)
