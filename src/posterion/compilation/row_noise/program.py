"""A function of one row that can be evaluated with noise for every row, and the noise."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import partial_eval

from posterion._typing import Array, Key
from posterion.compilation.minor_axis import jaxprs
from posterion.compilation.row_noise.running import Parts, Runner, draw_of
from posterion.compilation.row_noise.uses import Finder, Origin, Span, Way

_WINDOW = 1 << 16
_MOST = 1 << 18
"""Normals in one window of a pool."""
POOL = _MOST + _WINDOW
"""Normals that are drawn once for all steps: fresh ones would take longer than the step of a network of 50 units. A
step takes as many as its rows need from a random place on, of which there are 65,536, with a random sign; where it
needs more than there are, further rows begin at other places."""


class RowProgram:
    """A function of ``z`` and one row that can be evaluated with noise for every row.

    Parameters
    ----------
    function
        ``(z, row) -> arrays by name``, of one row: no value in it has more than one row.
    z, row
        Shapes and types of its arguments.

    Attributes
    ----------
    uses
        Of weights that are drawn row by row, by the number of their equation.
    """

    def __init__(
        self, function: Callable[[Any, Any], Mapping[str, Any]], z: jax.ShapeDtypeStruct, row: Mapping[str, Any]
    ) -> None:
        leaves, self._tree = jax.tree.flatten(dict(row))
        self.names: tuple[str, ...] = ()

        def flat(z: Array, *leaves: Array) -> list[Array]:
            found = function(z, jax.tree.unflatten(self._tree, leaves))
            self.names = tuple(found)
            return list(found.values())

        jaxpr, self._constants = jaxprs.trace(flat, z, *leaves)
        # What is not needed (the prior, for one) must not count as a use of the weights.
        self._jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
        self._dtype = z.dtype
        finder = Finder()
        whole = Origin(frozenset(((0, z.shape[0]),)), span=(0, z.shape[0]), flat=True)
        results = finder.walk(
            self._jaxpr, [Origin() for _ in self._constants], [whole, *[Origin(rows=True)] * len(leaves)]
        )
        for result in results:
            finder.shares(result)
        self._scaled = finder.scaled
        self.uses = finder.alone()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Pieces of ``z`` that are drawn row by row."""
        return tuple(use.span for use in self.uses.values())

    def noise(self, key: Key, rows: int, sign: Array, pool: Array) -> list[list[Array]]:
        """Of so many rows, for each use; ``sign`` -1 gives the mirror image of what 1 gives.

        ``pool`` holds `POOL` standard normals.
        """
        shapes = [(use.way, shape) for use in self.uses.values() for shape in use.shapes]
        found = _normals(key, rows, [prod(shape) for _, shape in shapes], sign, pool.astype(self._dtype))
        parts = iter(
            (jnp.where(part < 0, -1, 1).astype(part.dtype) if way is Way.FLIPOUT else part).reshape(rows, *shape)
            for (way, shape), part in zip(shapes, found, strict=True)
        )
        return [[next(parts) for _ in use.shapes] for use in self.uses.values()]

    def __call__(self, z: Parts, row: Mapping[str, Any], noise: Sequence[Sequence[Array]]) -> dict[str, Any]:
        """The function of one row, with its own noise."""
        uses = {number: (use, own) for (number, use), own in zip(self.uses.items(), noise, strict=True)}
        found = Runner(self._scaled, uses).walk(self._jaxpr, self._constants, [z, *jax.tree.leaves(dict(row))])
        return {name: draw_of(value) for name, value in zip(self.names, found, strict=True)}


def _normals(key: Key, rows: int, sizes: Sequence[int], sign: Array, pool: Array) -> list[Array]:
    """(rows, size) normals of each size; those of one row come from one window, and so are independent."""
    each = max(1, sum(sizes))
    at_once = min(rows, _MOST // each)
    if not at_once:
        return jnp.split(sign * jax.random.normal(key, (rows, each), pool.dtype), np.cumsum(sizes)[:-1], axis=1)
    counts = [min(at_once, rows - first) for first in range(0, rows, at_once)]
    where, which = jax.random.split(key)
    offsets = jax.random.randint(where, (len(counts),), 0, _WINDOW)
    signs = sign.astype(pool.dtype) * jax.random.rademacher(which, (len(counts),), pool.dtype)
    windows = []
    for k, some in enumerate(counts):
        starts = accumulate((some * size for size in sizes[:-1]), initial=0)
        windows.append(
            [
                signs[k] * lax.dynamic_slice(pool, (offsets[k] + start,), (some * size,)).reshape(some, size)
                for start, size in zip(starts, sizes, strict=True)
            ]
        )
    return windows[0] if len(windows) == 1 else [jnp.concatenate(parts) for parts in zip(*windows, strict=True)]
