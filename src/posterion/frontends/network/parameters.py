"""The free variables of a network: its weights and their scales, and what its likelihoods learn, in one vector."""

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpyro.distributions import Distribution, ExpandedDistribution, Independent, Normal, biject_to, constraints

from posterion._typing import Array
from posterion.compilation.cache import Program
from posterion.errors import OptionError, UnsupportedModelError
from posterion.frontends.network.priors import AbstractWeightPrior, Free, LearnedScalePrior, prior_of
from posterion.frontends.network.weights import Weight, Weights
from posterion.target import Layout, Variable

_MANY = 1 << 13


class FreeVariables:
    """The variables a fit moves, their priors, and the weights as a function of them.

    Parameters
    ----------
    weights
        The network.
    prior
        As `posterion.network` takes it.
    learned
        (name, prior) of what the likelihoods learn.

    Attributes
    ----------
    layout
        Names and shapes.
    hyperparameters
        Variables that the weights are no function of.
    """

    def __init__(self, weights: Weights, prior: Any, learned: Sequence[tuple[str, Distribution]]) -> None:
        self._weights = weights
        chosen = _priors(weights.leaves, prior)
        self._recipes = {leaf.path: chosen[leaf.path].recipe(leaf) for leaf in weights.leaves}
        free = [variable for recipe in self._recipes.values() for variable in recipe.free]
        free += [Free(name, lambda _, d=d: d, None) for name, d in learned]
        if not free:
            raise OptionError("every weight is fixed and the likelihood learns nothing: there is nothing to fit")
        self._free = {variable.name: variable for variable in free}
        if len(self._free) != len(free):
            raise OptionError("two variables of the network have the same name; rename an outcome or a layer")
        self._transforms: dict[str, Any] = {}
        with jax.enable_x64(True):
            own, free_of = self._starting_values()
        self.layout = Layout(
            tuple(Variable(name, np.shape(free_of[name]), np.shape(own[name])) for name in self._free),
            derived_dims=tuple((path, ()) for path, recipe in self._recipes.items() if recipe.make is not None),
        )
        self.start = np.concatenate([np.ravel(free_of[name]) for name in self._free]).astype(np.float64)
        self.hyperparameters = self._without_weights()
        self._fixed = {leaf.path: leaf.value for leaf in weights.leaves if not self._recipes[leaf.path].free}
        self._own = own

    def _starting_values(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """On their own scale and in unconstrained space; finds the supports, each variable after those before it."""

        def start() -> tuple[dict[str, Array], dict[str, Array]]:
            own: dict[str, Array] = {}
            free: dict[str, Array] = {}
            for name, variable in self._free.items():
                distribution = variable.distribution(own)
                transform = _transform(name, distribution)
                value = _middle(distribution, transform) if variable.start is None else jnp.asarray(variable.start)
                own[name] = free[name] = jnp.broadcast_to(value, distribution.shape()).astype(float)
                if not _is_real(distribution.support):
                    self._transforms[name] = transform
                    free[name] = transform.inv(own[name])
            return own, free

        return jax.device_get(Program(start)())

    def _without_weights(self) -> tuple[str, ...]:
        """Those that appear in no `Recipe.make` and are no weights themselves."""
        used = set()
        for path, recipe in self._recipes.items():
            if recipe.make is not None:
                used |= {variable.name for variable in recipe.free}
            elif recipe.free:
                used.add(recipe.free[-1].name)
                assert recipe.free[-1].name == path  # the weights themselves  # noqa: S101
        return tuple(name for name in self._free if name not in used)

    @cached_property
    def normal_given_others(self) -> tuple[str, ...]:
        """Variables whose prior is normal given the others, and on which no other's depends."""
        read: set[str] = set()
        normal: list[str] = []

        def look(own: dict[str, Array]) -> dict[str, Array]:
            values = _Noting(own, read)
            for name, variable in self._free.items():
                if _normal_of(variable.distribution(values)) is not None and name not in self._transforms:
                    normal.append(name)
            return own

        with jax.enable_x64(True):
            jax.eval_shape(look, self._own)
        return tuple(name for name in normal if name not in read)

    def starting_point(self, seed: int) -> Float[np.ndarray, " dim"]:
        """Where a fit starts: what the network holds, or what its own function draws."""
        start = self.start.copy()
        if self._weights.draw is None:
            return start
        drawn = self._weights.draw(seed)
        for leaf in self._weights.leaves:
            last = self._recipes[leaf.path].free[-1:]
            if last and last[0].start is not None and last[0].name not in self._transforms:
                # A raw variable is the weights in units of a scale, which is the same for all starts.
                unit = np.abs(last[0].start).max() / np.abs(leaf.value).max() if np.any(leaf.value) else 1.0
                start[self.layout.slices[last[0].name]] = np.ravel(drawn[leaf.path]) * unit
        return start

    def values(self, free: Mapping[str, Array]) -> dict[str, Array]:
        """All free variables on their own scale, and weights that follow from them; ``free`` as `unravel` gives it."""
        values = self._own_scale(free)
        made = {path: recipe.make(values) for path, recipe in self._recipes.items() if recipe.make is not None}
        return values | made

    def weights(self, values: Mapping[str, Array], dtype: Any) -> dict[str, Array]:
        """The network's arrays by path."""
        return {
            path: jnp.asarray(self._fixed[path], dtype) if path in self._fixed else values[path]
            for path in self._recipes
        }

    def unravel(self, z: Float[Array, " dim"]) -> dict[str, Array]:
        """The unconstrained variables. Many are split, not sliced: the gradients of slices would be added up whole."""
        if z.size < _MANY:
            return self.layout.unravel(z)
        variables = self.layout.variables
        pieces = jax.lax.split(z, [v.size for v in variables])
        return {v.name: piece.reshape(v.shape) for v, piece in zip(variables, pieces, strict=True)}

    def _own_scale(self, free: Mapping[str, Array]) -> dict[str, Array]:
        return {name: self._transforms[name](v) if name in self._transforms else v for name, v in free.items()}

    def log_prior(
        self, free: Mapping[str, Array], dtype: Any, variances: Mapping[str, Array] = MappingProxyType({})
    ) -> Float[Array, ""]:
        """Log density of all variables, with log |d theta / d z|; ``free`` as `unravel` gives it.

        In expectation over those with ``variances`` (some of `normal_given_others`), whose means are in ``free``.
        """
        values = self._own_scale(free)
        total = jnp.zeros((), dtype)
        for name, variable in self._free.items():
            distribution = variable.distribution(values)
            total = total + _log_density(distribution, values[name]).astype(dtype)
            if name in self._transforms:
                volume = self._transforms[name].log_abs_det_jacobian(free[name], values[name])
                total = total + jnp.sum(volume).astype(dtype)
            if name in variances:
                total = total - 0.5 * _scaled_sum(distribution, variances[name].reshape(values[name].shape)).astype(
                    dtype
                )
        return total


class _Noting(Mapping[str, Array]):
    """Values that note which of them are read."""

    def __init__(self, values: Mapping[str, Array], read: set[str]) -> None:
        self._values, self._read = values, read

    def __getitem__(self, name: str) -> Array:
        self._read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _normal_of(distribution: Distribution) -> Normal | None:
    """The normal that a distribution is, once for every entry or broadcast to them; None if it is none."""
    while isinstance(distribution, ExpandedDistribution | Independent):
        distribution = distribution.base_dist
    return distribution if type(distribution) is Normal else None


def _scaled_sum(distribution: Distribution, variances: Array) -> Float[Array, ""]:
    """Of variances in units of a normal distribution's."""
    normal = _normal_of(distribution)
    assert normal is not None  # one of `normal_given_others`  # noqa: S101
    sd = jnp.asarray(normal.scale)
    return jnp.sum(variances) / sd**2 if not sd.ndim else jnp.sum(variances / sd**2)


def _log_density(distribution: Distribution, value: Array) -> Float[Array, ""]:
    """Of all entries. Of normals that are all the same in one pass: NumPyro makes an array of each parameter first."""
    if isinstance(distribution, ExpandedDistribution) and type(base := distribution.base_dist) is Normal:
        mean, sd = jnp.asarray(base.loc), jnp.asarray(base.scale)
        if not mean.ndim and not sd.ndim:
            log_volume = value.size * (jnp.log(sd) + 0.5 * math.log(2 * math.pi))
            return -0.5 * jnp.sum((value - mean) ** 2) / sd**2 - log_volume
    return jnp.sum(distribution.log_prob(value))


def _transform(name: str, distribution: Distribution) -> Any:
    try:
        return biject_to(distribution.support)
    except NotImplementedError as error:
        raise UnsupportedModelError(
            f"NumPyro has no map from unconstrained space onto the support of {name!r}"
        ) from error


def _is_real(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real


def _middle(distribution: Distribution, transform: Any) -> Array:
    """The median of a log-normal and the like: the image of the middle of unconstrained space, or the mean."""
    shape = distribution.shape()
    zero = transform(jnp.zeros(transform.inverse_shape(shape)))
    try:
        mean = jnp.broadcast_to(jnp.asarray(distribution.mean), shape)
    except (NotImplementedError, AttributeError, TypeError, ValueError):
        return zero
    return jnp.where(jnp.all(jnp.isfinite(transform.inv(mean))), mean, zero)


def _priors(leaves: Sequence[Weight], given: Any) -> dict[str, AbstractWeightPrior]:
    """The prior of each array of weights.

    Raises
    ------
    OptionError
        If a pattern fits no array.
    """
    if given is None:
        return dict.fromkeys((leaf.path for leaf in leaves), LearnedScalePrior())
    if not isinstance(given, Mapping):
        return dict.fromkeys((leaf.path for leaf in leaves), prior_of(given))
    patterns = {pattern: prior_of(prior) for pattern, prior in given.items()}
    paths = [leaf.path for leaf in leaves]
    idle = [p for p in patterns if not any(fnmatchcase(path, p) or path.startswith(f"{p}.") for path in paths)]
    if idle:
        raise OptionError(
            f"prior names {', '.join(map(repr, idle))}, which is no array of weights; there are "
            f"{', '.join(map(repr, paths))} (patterns such as 'layers.0.*' or '*.bias' are fine)"
        )
    rest = LearnedScalePrior()
    return {
        path: next((prior for p, prior in patterns.items() if fnmatchcase(path, p) or path.startswith(f"{p}.")), rest)
        for path in paths
    }
