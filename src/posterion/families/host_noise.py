"""A family's noise made by NumPy, for evaluating an ELBO: independent draws, or quasi-random ones.

Quasi-random draws (scrambled Sobol points through the normal quantile) give the mean of a smooth function a far smaller
error than as many independent ones, so two fits are compared on them; an ELBO that is reported with a standard error
needs independent ones. Made on the host, because a JAX operation outside a compiled program costs a compilation.
"""

from functools import lru_cache

import jax
import numpy as np

from posterion._typing import PyTree
from posterion.families.base import AbstractFamily
from posterion.target.layout import Layout


def host_noise(family: AbstractFamily, layout: Layout, seed: int | None, num_draws: int, *, quasi: bool) -> PyTree:
    """Standard normals of the form of ``family.noise``, in the precision that is in force.

    Parameters
    ----------
    family, layout
        Whose noise.
    seed
        Of the draws; None for zeros, where a program is only compiled for their form.
    num_draws
        A power of two where ``quasi``.
    quasi
        Whether to draw scrambled Sobol points (up to SciPy's 21,201 dimensions; independent beyond).
    """
    from scipy.special import ndtri  # SciPy takes longer to import than all of Posterion
    from scipy.stats import qmc

    forms, tree = _form(family, layout, bool(jax.config.jax_enable_x64))
    sizes = [int(np.prod(shape)) for shape, _ in forms]
    dimension, random = sum(sizes), np.random.default_rng(seed)
    if seed is None:
        normal = np.zeros((num_draws, dimension))
    elif quasi and 0 < dimension <= qmc.Sobol.MAXDIM:
        uniform = qmc.Sobol(dimension, scramble=True, rng=random).random(num_draws)
        normal = ndtri(np.clip(uniform, 1e-10, 1 - 1e-10))
    else:
        normal = random.standard_normal((num_draws, dimension))
    cuts = np.split(normal, np.cumsum(sizes)[:-1], axis=1)
    filled = [cut.reshape(num_draws, *shape).astype(dtype) for cut, (shape, dtype) in zip(cuts, forms, strict=True)]
    return jax.tree.unflatten(tree, filled)


def values_per_draw(family: AbstractFamily, layout: Layout) -> int:
    """Random numbers that one draw takes."""
    forms, _ = _form(family, layout, bool(jax.config.jax_enable_x64))
    return sum(int(np.prod(shape)) for shape, _ in forms)


@lru_cache(maxsize=64)
def _form(family: AbstractFamily, layout: Layout, x64: bool) -> tuple:  # noqa: FBT001
    """Shapes and types of the noise of one draw, and how they nest."""
    shapes = jax.eval_shape(lambda: family.noise(layout, jax.random.key(0), 1))  # the key too is only traced
    leaves, tree = jax.tree.flatten(shapes)
    return tuple((leaf.shape[1:], np.dtype(leaf.dtype)) for leaf in leaves), tree
