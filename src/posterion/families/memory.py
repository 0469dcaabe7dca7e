"""How much memory a family's parameters take, asked before any is allocated."""

import os
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from posterion.errors import OptionError
from posterion.families.base import AbstractFamily
from posterion.target.layout import Layout

_COPIES = 6
"""Parameters, gradient, two moments of the optimiser, and the new ones of those beside the old."""


def bytes_needed(family: AbstractFamily, layout: Layout) -> int:
    """Bytes that fitting the family takes for its parameters, in the precision in force; nothing is allocated."""
    return _bytes_needed(family, layout, np.dtype(jnp.result_type(float)))


@lru_cache(maxsize=64)
def _bytes_needed(family: AbstractFamily, layout: Layout, dtype: np.dtype) -> int:
    """Kept: tracing takes as long as some hundred steps of a small model."""
    location = jax.ShapeDtypeStruct((layout.size,), dtype)
    shapes = jax.eval_shape(lambda z: family.init(layout, z, jax.random.key(0)), location)
    return _COPIES * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def bytes_available() -> int | None:
    """Memory this machine has to give now; None where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # all there is, on systems that do not tell what is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def check_memory(family: AbstractFamily, layout: Layout) -> None:
    """Refuse a family that is too large, before it is allocated.

    Raises
    ------
    OptionError
        With the number of bytes, and a smaller family.
    """
    needed, available = bytes_needed(family, layout), bytes_available()
    if available is not None and needed > available:
        raise OptionError(
            f"fitting {family!r} to {layout.size:,} parameters takes {needed:,} bytes ({needed / 1e9:,.1f} GB) and "
            f"{available:,} bytes ({available / 1e9:,.1f} GB) are free; use LowRank(rank=10) or MeanField()"
        )
