"""Running a NumPyro model under our handlers: its random sites with their distributions, values and scales.

Nothing here is compiled or executed: models run while JAX traces them. A site's log density is taken from its own
distribution at the value that the unconstrained vector decides, with log |d theta / d z| of the support as the model
has it there, so that supports may depend on other variables.

Plates always hold all rows that were passed. Where a model subsamples by itself, its draw of rows and the scaling that
goes with it are taken out: batches are drawn, and scaled, by the engine.
"""

import math
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from numpyro import handlers
from numpyro.distributions import Distribution, Independent, MaskedDistribution, Unit, biject_to, constraints
from numpyro.distributions.util import sum_rightmost
from numpyro.primitives import Messenger

from posterion._typing import Array, Data, Key
from posterion.errors import DataError, UnsupportedModelError
from posterion.frontends.numpyro.call import Call

_ONE_AT_A_TIME = threading.RLock()
"""NumPyro keeps its active handlers in one list for all threads, and programs are compiled in several."""

LOG_DET = "_{}_log_det"
"""Name of the site that holds a latent site's log |d theta / d z|, as NumPyro itself calls it."""


@dataclass(frozen=True)
class Plate:
    """A plate as the model has it (``size``, ``subsample``) and as it was run (``length``)."""

    size: int
    subsample: int | None
    length: int


@dataclass(frozen=True)
class Setting:
    """How a model is run, apart from its data and its latent values.

    Parameters
    ----------
    params
        Values of ``numpyro.param`` sites that belong to modules.
    words
        Raw key for ``numpyro.prng_key``; None for the one that NumPyro takes outside of SVI.
    lengths
        Rows of plates that hold another number of them than the model says.
    populations
        Plates of which the data hold only a sample: ``subsample_size`` rows that stand for ``size`` of them.
    row_counts
        Lengths of the arrays, as long as it is not known which plates are populations: those are plates whose
        ``subsample_size`` is the length of an array, and whose ``size`` is not.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    populations: frozenset[str] = frozenset()
    row_counts: frozenset[int] = frozenset()
    words: Array | None = None

    def resized(self, lengths: Mapping[str, int]) -> "Setting":
        """The same with other numbers of rows."""
        return replace(self, lengths={**self.lengths, **lengths})


@dataclass(frozen=True)
class Run:
    """What happened: the sites by name, as NumPyro's trace has them, and the plates."""

    sites: Mapping[str, dict[str, Any]]
    plates: Mapping[str, Plate]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """All sites of one of NumPyro's types, without the log determinants."""
        latent = [name for name, site in self.sites.items() if is_latent(site)]
        log_dets = {LOG_DET.format(name) for name in latent}
        return {n: s for n, s in self.sites.items() if s["type"] == kind and n not in log_dets}

    def scale(self, site: Mapping[str, Any]) -> Any:
        """The site's weight by ``handlers.scale``, with that of plates taken out; None for 1."""
        scale = site["scale"]
        if scale is None:
            return None
        for frame in site["cond_indep_stack"]:
            plate = self.plates.get(frame.name)
            if plate is not None and plate.size != plate.length:
                scale = scale / (plate.size / plate.length)
        return None if isinstance(scale, int | float) and math.isclose(scale, 1.0, rel_tol=1e-9) else scale

    def log_density(self, name: str) -> Array:
        """The site's log density, entry by entry, with its log determinant and its weight."""
        site = self.sites[name]
        if not is_latent(site):
            return self._weighted(site, elementwise(site["fn"]).log_prob(site["value"]))
        distribution, log_det = site["fn"], self.sites.get(LOG_DET.format(name))
        if is_imputed(name, self.sites):
            distribution = _unmasked(distribution)
            log_det = log_det and {**log_det, "fn": _unmasked(log_det["fn"])}
        value = self._weighted(site, distribution.log_prob(site["value"]))
        if log_det is None:
            return value
        return value + self._weighted(log_det, log_det["fn"].log_prob(log_det["value"]))

    def _weighted(self, site: Mapping[str, Any], values: Any) -> Array:
        scale = self.scale(site)
        return values if scale is None else scale * values


def is_latent(site: Mapping[str, Any]) -> bool:
    """Whether the model leaves the site's value open."""
    return site["type"] == "sample" and not site["is_observed"]


def is_factor(site: Mapping[str, Any]) -> bool:
    """Whether the site is a ``numpyro.factor``, or something else that only adds to the log density."""
    return bool(site["infer"].get("is_auxiliary")) or isinstance(_unmasked(site["fn"]), Unit)


def is_imputed(name: str, sites: Mapping[str, Any]) -> bool:
    """Whether a site holds the missing entries of ``sample(..., obs_mask=...)``.

    NumPyro masks its other entries, which leaves them without a density. Nothing looks at them, so they may as well
    have their own distribution, which changes the posterior of nothing else and makes it proper.
    """
    return name.endswith("_unobserved") and name.removesuffix("_unobserved") + "_observed" in sites


def _unmasked(distribution: Distribution) -> Distribution:
    while isinstance(distribution, MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def elementwise(distribution: Distribution) -> Distribution:
    """The distribution with its rows as rows: ``Normal(mean, sd).to_event(1)`` over all rows is one event otherwise."""
    if isinstance(distribution, Independent) and distribution.batch_shape == ():
        return distribution.base_dist
    return distribution


def unconstrained(
    values: Mapping[str, Array], states: Mapping[str, Array] | None = None
) -> Callable[[dict], Array | None]:
    """Give latent sites their values, from those in unconstrained space, and record the log determinants.

    Discrete sites get the value with the number in ``states``, counting along their support.

    Follows ``numpyro.infer.util._unconstrain_reparam`` (0.22), so that handlers, plates and ``scan`` treat the log
    determinants as they do in NumPyro's own potential energy.
    """

    def substitute(site: dict) -> Array | None:
        name = site["name"]
        if site["type"] == "sample" and states and name in states:
            listed = site["fn"].enumerate_support(expand=False).ravel()
            shape = tuple(site["kwargs"].get("sample_shape", ())) + site["fn"].shape()
            return jnp.broadcast_to(listed[states[name]], shape)
        if site["type"] != "sample" or name not in values:
            return None
        free, support = values[name], site["fn"].support
        transform = biject_to(support)
        step = site["infer"].get("_scan_current_index")
        if step is not None:  # inside numpyro's scan, one time at a time
            event = transform.codomain.event_dim - transform.domain.event_dim
            if jnp.ndim(free) > len(site["fn"].shape()) - event:
                free = free[step]
        if support is constraints.real or getattr(support, "base_constraint", None) is constraints.real:
            return free
        value = transform(free)
        log_det = transform.log_abs_det_jacobian(free, value)
        log_det = sum_rightmost(log_det, jnp.ndim(log_det) - jnp.ndim(value) + len(site["fn"].event_shape))
        numpyro.factor(LOG_DET.format(name), log_det)
        return value

    return substitute


def feasible(site: dict) -> Array | None:
    """Some value of a latent site, to find out its shape."""
    if not is_latent(site) or site["value"] is not None or site["fn"].support.is_discrete:
        return None
    transform = transform_of(site)
    shape = transform.inverse_shape(tuple(site["kwargs"].get("sample_shape", ())) + site["fn"].shape())
    return transform(jnp.zeros(shape))


def transform_of(site: Mapping[str, Any]) -> Any:
    """The map from unconstrained space onto the support of a latent site.

    Raises
    ------
    UnsupportedModelError
        If NumPyro knows none.
    """
    try:
        return biject_to(site["fn"].support)
    except NotImplementedError as error:
        raise UnsupportedModelError(
            f"NumPyro has no map from unconstrained space onto the support of {site['name']!r} "
            f"({type(site['fn'].support).__name__}). Write the variable as a function of one that has."
        ) from error


class _Takeover(Messenger):
    """Plates at their full length, module parameters as given, keys where values have to be drawn."""

    def __init__(self, setting: Setting, key: Key | None, redraw: Collection[str]) -> None:
        super().__init__()
        self.plates: dict[str, Plate] = {}
        self._setting, self._key, self._redraw, self._drawn = setting, key, redraw, 0

    def process_message(self, msg: Any) -> None:
        kind = msg["type"]
        if kind == "plate":
            self._fill(msg)
        elif kind == "subsample":
            msg["type"] = "subsampled"  # the arrays hold the plate's rows already: nobody may cut them again
        elif kind == "param" and msg["name"] in self._setting.params:
            msg["value"] = _copied(self._setting.params[msg["name"]])
        elif kind == "prng_key" and msg["value"] is None:
            words = self._setting.words
            msg["value"] = jax.random.key(0) if words is None else jax.random.wrap_key_data(words)
        elif kind == "sample" and msg["name"] in self._redraw:
            batch = msg["fn"].batch_shape
            shape = jnp.shape(msg["value"])
            wanted = jnp.broadcast_shapes(batch, shape[: len(shape) - msg["fn"].event_dim])
            if wanted != batch:
                msg["fn"] = msg["fn"].expand(wanted)
            msg["value"] = None
        if kind in ("sample", "control_flow") and msg["value"] is None and msg["kwargs"].get("rng_key") is None:
            msg["kwargs"]["rng_key"] = self._next_key(msg)

    def _fill(self, msg: Any) -> None:
        name, (size, subsample) = msg["name"], msg["args"]
        counts = self._setting.row_counts
        sampled = name in self._setting.populations or (subsample in counts and size not in counts)
        length = self._setting.lengths.get(name, subsample if sampled else size)
        self.plates[name] = Plate(size, subsample, length)
        if length != size or subsample not in (None, size):
            msg["value"] = jnp.arange(length)
        msg["args"] = (size, None)  # or NumPyro warns of another length

    def _next_key(self, msg: Any) -> Key | None:
        if self._key is not None:
            self._drawn += 1
            return jax.random.fold_in(self._key, self._drawn)
        if msg["type"] == "control_flow":
            return None
        raise DataError(f"the site {msg['name']!r} would be drawn: it exists for some data only")


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def run(
    call: Call,
    data: Data,
    substitute: Callable[[dict], Array | None],
    setting: Setting,
    *,
    key: Key | None = None,
    redraw: Collection[str] = (),
    keys_inside: bool = False,
) -> Run:
    """Run a model.

    Parameters
    ----------
    call
        The model and its arguments.
    data
        Its arrays.
    substitute
        Gives latent sites their values, as in ``handlers.substitute``; None for a site means that it is drawn.
    setting
        See `Setting`.
    key
        For sites that are drawn.
    redraw
        Observed sites to draw too, with values that depend on each other as the model says.
    keys_inside
        Give ``substitute`` keys as well, for strategies that draw.
    """
    takeover = _Takeover(setting, key, redraw)
    model = lambda: call(data)
    if keys_inside:
        model = handlers.seed(model, key)
    with _ONE_AT_A_TIME, handlers.trace() as sites, takeover:
        handlers.substitute(model, substitute_fn=substitute)()
    return Run(dict(sites), takeover.plates)


def under_handlers(
    call: Call,
    data: Data,
    substitute: Callable[[dict], Array | None],
    setting: Setting,
    function: Callable[[Callable[[], Any]], Array],
) -> Array:
    """``function(model)``, for functions of NumPyro's that run the model themselves."""
    with _ONE_AT_A_TIME, _Takeover(setting, None, ()):
        return function(handlers.substitute(lambda: call(data), substitute_fn=substitute))
