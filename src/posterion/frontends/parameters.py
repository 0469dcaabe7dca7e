"""Parameters given as any nesting of arrays: names from their paths, unconstrained by NumPyro's constraints."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, PyTree
from posterion.compilation.cache import Program
from posterion.errors import DataError, OptionError
from posterion.target import Layout, Variable


class Parameters:
    """A pytree of parameters and how it lies in the flat vector ``z``.

    Parameters
    ----------
    initial
        Values to start from, on the parameters' own scale; shapes and nesting are taken from it.
    supports
        By path, a constraint of ``numpyro.distributions.constraints``; all others are real numbers.
    dims, coords
        Names of axes by path, and labels along them.

    Attributes
    ----------
    layout
        One variable per leaf, named by its path: ``layers.0.weight``.

    Raises
    ------
    DataError
        If a leaf is not an array of finite numbers, or not inside its support.
    OptionError
        If ``supports`` or ``dims`` name something else than a leaf, or dims or coords do not fit.
    """

    def __init__(
        self,
        initial: PyTree,
        supports: Mapping[str, Any] | None = None,
        dims: Mapping[str, Sequence[str | None]] | None = None,
        coords: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        leaves, self._tree = jax.tree_util.tree_flatten_with_path(initial)
        if not leaves:
            raise DataError("initial holds no parameters: give a pytree of arrays, such as {'weights': jnp.zeros(3)}")
        names = [jax.tree_util.keystr(path, simple=True, separator=".") or "params" for path, _ in leaves]
        self._initial = {name: _as_floats(name, leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
        self._check_names("supports", supports or {})
        self._check_names("dims", dims or {})
        self._transforms = _transforms(supports or {})
        self.layout = self._make_layout(dict(dims or {}), dict(coords or {}))
        if not np.all(np.isfinite(self.start)):
            outside = [n for n, at in self.layout.slices.items() if not np.all(np.isfinite(self.start[at]))]
            raise DataError(
                f"the initial value of {', '.join(map(repr, outside))} does not lie inside its support "
                f"({', '.join(type(supports[n]).__name__.strip('_') for n in outside)})"  # type: ignore[index]
            )

    def _check_names(self, what: str, given: Mapping[str, Any]) -> None:
        unknown = [name for name in given if name not in self._initial]
        if unknown:
            known = ", ".join(map(repr, self._initial))
            raise OptionError(f"{what} names {', '.join(map(repr, unknown))}; the parameters are {known}")

    def _make_layout(self, dims: dict[str, Sequence[str | None]], coords: dict[str, Sequence[Any]]) -> Layout:
        variables, lengths = [], {}
        for name, value in self._initial.items():
            named = tuple(dims.get(name, ()))
            if named and len(named) != value.ndim:
                raise OptionError(f"dims of {name!r} must name {value.ndim} axes, not {len(named)}: {list(named)}")
            lengths |= {dim: n for dim, n in zip(named, value.shape, strict=False) if dim is not None}
            shape = value.shape
            if name in self._transforms:
                shape = tuple(self._transforms[name].inverse_shape(shape))
            variables.append(Variable(name, shape, value.shape, named))
        for dim, labels in coords.items():
            if lengths.get(dim, len(labels)) != len(labels):
                raise OptionError(f"coords of {dim!r} must hold {lengths[dim]} labels, not {len(labels)}")
        labels = tuple((dim, tuple(np.asarray(values).tolist())) for dim, values in coords.items())
        return Layout(tuple(variables), coords=labels)

    @cached_property
    def start(self) -> Float[np.ndarray, " dim"]:
        """The initial values in unconstrained space."""
        values = dict(self._initial)
        if self._transforms:
            inverse = Program(lambda given: {name: self._transforms[name].inv(v) for name, v in given.items()})
            with jax.enable_x64(True):
                values |= jax.device_get(inverse({name: values[name] for name in self._transforms}))
        return np.concatenate([np.ravel(np.asarray(value, np.float64)) for value in values.values()])

    def values(self, z: Float[Array, " dim"]) -> dict[str, Array]:
        """The parameters on their own scale, by name."""
        free = self.layout.unravel(z)
        return {name: self._transforms[name](v) if name in self._transforms else v for name, v in free.items()}

    def tree(self, values: Mapping[str, Array]) -> PyTree:
        """Named values as the pytree that the user's functions take."""
        return jax.tree_util.tree_unflatten(self._tree, [values[name] for name in self._initial])

    def log_volume(self, z: Float[Array, " dim"], values: Mapping[str, Array]) -> Float[Array, ""]:
        """Log |d theta / d z|."""
        free, total = self.layout.unravel(z), jnp.zeros((), z.dtype)
        for name, transform in self._transforms.items():
            total = total + jnp.sum(transform.log_abs_det_jacobian(free[name], values[name]))
        return total


def _as_floats(name: str, leaf: Any) -> np.ndarray:
    try:
        value = np.asarray(leaf)
        if value.dtype.kind not in "iuf" and not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"it holds {value.dtype}")
        value = value.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the initial value of {name!r} must be an array of numbers: {error}") from error
    if not np.all(np.isfinite(value)):
        raise DataError(f"the initial value of {name!r} has entries that are not finite numbers")
    return value


def _transforms(supports: Mapping[str, Any]) -> dict[str, Any]:
    if not supports:
        return {}  # without NumPyro, which takes a second to import
    from numpyro.distributions import biject_to, constraints

    transforms = {}
    for name, support in supports.items():
        if not isinstance(support, constraints.Constraint):
            raise OptionError(
                f"the support of {name!r} must be one of numpyro.distributions.constraints, such as "
                f"constraints.positive, not {support!r}"
            )
        try:
            transforms[name] = biject_to(support)
        except NotImplementedError as error:
            raise OptionError(f"NumPyro has no map from unconstrained space onto the support of {name!r}") from error
    return transforms
