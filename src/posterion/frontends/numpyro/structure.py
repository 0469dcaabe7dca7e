"""What a model is made of, for data of given shapes: sites, shapes, plates. Traced only, nothing is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion.errors import UnsupportedModelError
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.moments import Kind, inner, kind_of, moments_of
from posterion.frontends.numpyro.run import (
    Plate,
    Run,
    Setting,
    elementwise,
    feasible,
    is_factor,
    is_imputed,
    is_latent,
    run,
    transform_of,
)

Plates = tuple[tuple[str, int], ...]
"""(plate, axis) for every plate a site stands in; the axis counts from the front."""


@dataclass(frozen=True)
class Latent:
    """A continuous site the model leaves open; shapes in unconstrained space and of its value."""

    free_shape: tuple[int, ...]
    shape: tuple[int, ...]
    plates: Plates


@dataclass(frozen=True)
class Discrete:
    """A discrete site the model leaves open: its distribution's name, and how many values an entry can take."""

    distribution: str
    count: int
    shape: tuple[int, ...]
    plates: Plates


@dataclass(frozen=True)
class Term:
    """An observed site, or a factor.

    Parameters
    ----------
    shape
        Of its log density, entry by entry.
    event
        Shape of one entry's value.
    plates
        Where it stands.
    is_factor
        Whether it only adds to the log density and predicts nothing.
    kind, categories
        See `posterion.target.Observed`.
    has_moments
        Whether the distribution knows its mean and variance.
    weight
        How often every entry counts by ``handlers.scale``, where that is one number.
    """

    shape: tuple[int, ...]
    event: tuple[int, ...]
    plates: Plates
    is_factor: bool
    kind: Kind = "numeric"
    categories: int = 0
    has_moments: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class Structure:
    """All of a model's sites, in the order in which it meets them.

    Parameters
    ----------
    latents, terms
        By name.
    derived
        Shape and plates of deterministic sites.
    plates
        By name.
    params
        Parameters of modules without any array left that has no prior, for `Setting.params`.
    undecided
        Parameters with arrays, as `jax.ShapeDtypeStruct`: what they are worth shows in what the model does with them.
    discrete
        Discrete sites the model leaves open.
    state
        Names of mutable sites: the state of a batch normalisation, counters of random numbers.
    """

    latents: Mapping[str, Latent]
    terms: Mapping[str, Term]
    derived: Mapping[str, tuple[tuple[int, ...], Plates]]
    plates: Mapping[str, Plate]
    params: Mapping[str, Any]
    undecided: Mapping[str, Any]
    discrete: Mapping[str, Discrete]
    state: tuple[str, ...]


def describe(call: Call, shapes: Mapping[str, Any], setting: Setting) -> Structure:
    """The structure of a model.

    Parameters
    ----------
    call
        The model and its arguments.
    shapes
        A `jax.ShapeDtypeStruct` for each array that is data; the others keep their values.
    setting
        See `Setting`.

    Raises
    ------
    UnsupportedModelError
        If a site cannot be taken over; the message names it.
    """
    found: list[Structure] = []

    def trace(data: Mapping[str, Any]) -> None:
        # The key is for discrete sites only, which have to be passed to be counted.
        found.append(_read(run(call, data, feasible, setting, key=jax.random.key(0))))

    jax.eval_shape(trace, dict(shapes))
    return found[0]


def _read(traced: Run) -> Structure:
    samples = traced.of_type("sample")
    latents, terms, discrete = {}, {}, {}
    for name, site in samples.items():
        if is_latent(site) and site["fn"].support.is_discrete:
            discrete[name] = _discrete(name, site)
        elif is_latent(site):
            _check_latent(name, site, samples)
            latents[name] = _latent(site)
        else:
            terms[name] = _term(name, site, traced)
    derived = {
        n: (jnp.shape(s["value"]), _plates(s, jnp.ndim(s["value"]))) for n, s in traced.of_type("deterministic").items()
    }
    state = tuple(traced.of_type("mutable"))
    params, undecided = _module_params(traced, state)
    return Structure(latents, terms, derived, traced.plates, params, undecided, discrete, state)


def _latent(site: Mapping[str, Any]) -> Latent:
    shape = jnp.shape(site["value"])
    plates = _plates(site, len(shape) - site["fn"].event_dim)
    return Latent(tuple(transform_of(site).inverse_shape(shape)), shape, plates)


def _discrete(name: str, site: Mapping[str, Any]) -> Discrete:
    distribution, shape = type(inner(site["fn"])).__name__, jnp.shape(site["value"])
    if not site["fn"].has_enumerate_support or site["fn"].event_shape:
        raise UnsupportedModelError(
            f"{name!r} is a discrete unknown ({distribution}) whose values cannot be listed, so that it cannot be "
            "summed out, and it has no gradient. Replace it by a continuous one, or sample this model with NumPyro's "
            "DiscreteHMCGibbs."
        )
    count = len(site["fn"].enumerate_support(expand=False))
    return Discrete(distribution, count, shape, _plates(site, len(shape)))


def _term(name: str, site: Mapping[str, Any], traced: Run) -> Term:
    shape = jnp.shape(traced.log_density(name))
    if is_factor(site):
        return Term(shape, (), _plates(site, len(shape)), is_factor=True)
    kind, categories = kind_of(site["fn"])
    scale = traced.scale(site)
    value_shape = (*shape, *elementwise(site["fn"]).event_shape)
    return Term(
        shape,
        tuple(elementwise(site["fn"]).event_shape),
        _plates(site, len(shape)),
        is_factor=False,
        kind=kind,
        categories=categories,
        has_moments=moments_of(site, value_shape) is not None,
        weight=float(scale) if isinstance(scale, int | float | np.generic) else 1.0,
    )


def _plates(site: Mapping[str, Any], num_axes: int) -> Plates:
    frames = [(frame.name, num_axes + frame.dim) for frame in site.get("cond_indep_stack", ())]
    return tuple(sorted(((name, axis) for name, axis in frames if axis >= 0), key=lambda frame: frame[1]))


def _check_latent(name: str, site: Mapping[str, Any], samples: Mapping[str, Any]) -> None:
    masked = getattr(site["fn"], "_mask", True)
    if not isinstance(masked, bool) and not is_imputed(name, samples):
        raise UnsupportedModelError(
            f"{name!r} is masked: entries that a mask switches off have no density, and so no posterior. "
            "Mask the observed sites only, or leave the unused entries their prior."
        )


def _module_params(traced: Run, state: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    settled, undecided = {}, {}
    for name, site in traced.of_type("param").items():
        has_state = name.removesuffix("$params") + "$state" in state
        if jax.tree.leaves(site["value"]):
            undecided[name] = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), site["value"]
            )
        elif site["value"] is not None and not has_state:  # Flax makes parameters and state together, or neither
            settled[name] = site["value"]
    return settled, undecided
