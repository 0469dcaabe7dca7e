"""The layout of the flat unconstrained vector ``z``: which slice is which variable.

Everything inside the engine works on one vector ``z``; a `Layout` is the only thing that knows its names. It also
carries the dims and coords of the constrained values, so that draws come back as the model's author named them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import prod

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array


@dataclass(frozen=True)
class Variable:
    """One free variable of a model.

    Parameters
    ----------
    name
        As in the model.
    shape
        Of the unconstrained value. A simplex of K entries has K - 1 here.
    value_shape
        Of the constrained value, as the model's author sees it.
    dims
        Names of the constrained value's axes; None for an axis without a name.
    """

    name: str
    shape: tuple[int, ...]
    value_shape: tuple[int, ...]
    dims: tuple[str | None, ...] = ()

    @property
    def size(self) -> int:
        """Number of unconstrained entries."""
        return prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Names, shapes, dims and coords of all free variables, in the order they lie in ``z``.

    Parameters
    ----------
    variables
        The free variables, in order.
    derived_dims
        (name, dims) of derived quantities (deterministics).
    coords
        (dim, labels) for every dim that has labels; labels are plain Python scalars.
    """

    variables: tuple[Variable, ...]
    derived_dims: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    coords: tuple[tuple[str, tuple], ...] = field(default=())

    @cached_property
    def size(self) -> int:
        """Dimension of ``z``."""
        return sum(v.size for v in self.variables)

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Where each variable lies in ``z``."""
        ends = list(accumulate(v.size for v in self.variables))
        return {v.name: slice(e - v.size, e) for v, e in zip(self.variables, ends, strict=True)}

    @property
    def dims(self) -> dict[str, tuple[str | None, ...]]:
        """Dims of every named value, free or derived."""
        return {v.name: v.dims for v in self.variables} | dict(self.derived_dims)

    def unravel(self, z: Float[Array, " dim"]) -> dict[str, Array]:
        """Cut ``z`` into the unconstrained values of the variables."""
        return {v.name: z[self.slices[v.name]].reshape(v.shape) for v in self.variables}

    def ravel(self, values: Mapping[str, Array]) -> Float[Array, " dim"]:
        """Lay the variables' unconstrained values into one vector.

        Raises
        ------
        KeyError
            If a variable is missing.
        """
        return jnp.concatenate([jnp.ravel(values[v.name]) for v in self.variables])

    def entry_names(self) -> list[str]:
        """A name for each entry of ``z``, as in ``weights[0, 2]``."""
        names = []
        for variable in self.variables:
            if variable.shape == ():
                names.append(variable.name)
            else:
                names += [f"{variable.name}[{', '.join(map(str, i))}]" for i in np.ndindex(variable.shape)]
        return names
