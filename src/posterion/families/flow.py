r"""A normalizing flow: a Gaussian whose draws are bent, one coordinate after the other.

.. math:: z = \mu + L\, T(\epsilon), \qquad \log q(z) = \log \mathcal N(\epsilon) - \log |\det \partial T / \partial
          \epsilon| - \log |\det L|

T begins as the identity, so the flow begins as the Gaussian :math:`\mathcal N(\mu, L L^\top)`. First every coordinate
goes through a monotone spline of its own, which gives it any skewness; then each of ``layers`` couplings bends one half
of the coordinates by splines whose knots a small network makes of the other half, which gives them any dependence.
Splines have inverses in closed form, so that a draw and a density cost the same. Beyond ``reach`` standard deviations
of the Gaussian they are the identity: the tails are Gaussian.

FlowJAX has the splines and the couplings; a flow's parameters are arrays as any family's are, and its file holds no
code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from posterion._optional import import_optional
from posterion._typing import Array, ArrayLike, Key, PyTree
from posterion.errors import OptionError
from posterion.families.base import AbstractFamily
from posterion.families.full_rank import FullRank
from posterion.target.layout import Layout

_GAUSSIAN = FullRank()
_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
_SHUFFLES = 20_201
"""Seed of the orders in which couplings take the coordinates; part of what a flow is."""


@dataclass(frozen=True)
class NormalizingFlow(AbstractFamily):
    """A Gaussian bent by monotone splines: one for each coordinate, then couplings of one half to the other.

    For skewed, curved and heavy-shouldered posteriors of up to some hundred dimensions. A fit begins with that of the
    full-rank Gaussian, and the flow begins there.

    Parameters
    ----------
    layers
        Couplings. With one dimension there is nothing to couple.
    width
        Of the hidden layer of each coupling's network.
    knots
        Of each spline, between its ends.
    reach
        Where the splines end, in standard deviations of the Gaussian.

    Raises
    ------
    OptionError
        If ``layers``, ``width`` or ``knots`` is not a whole number (from 0, 1 and 1 on), or ``reach`` is not positive.
    MissingExtraError
        At the fit, without FlowJAX: ``pip install 'posterion[flows]'``.

    References
    ----------
    Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows, NeurIPS.
    Ward (2023), FlowJAX: Distributions and Normalizing Flows in JAX.
    """

    layers: int = 6
    width: int = 16
    knots: int = 8
    reach: float = 6.0

    def __post_init__(self) -> None:
        for name, least in (("layers", 0), ("width", 1), ("knots", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name} must be a whole number from {least} on, not {value!r}")
        if isinstance(self.reach, bool) or not isinstance(self.reach, int | float) or not 0 < self.reach < math.inf:
            raise OptionError(f"reach must be a positive number of standard deviations, not {self.reach!r}")

    @property
    def linear(self) -> bool:
        return True

    def largest_step(self, layout: Layout) -> float:
        return 0.002  # on a banana 0.005 ends lower

    @property
    def rough(self) -> bool:
        return True

    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> dict[str, Array]:
        location = jnp.asarray(location)
        form = self._form(layout)
        networks = form.networks(key).astype(location.dtype)
        splines = jnp.zeros((layout.size, form.values), location.dtype)
        return {"gaussian": _GAUSSIAN.init(layout, location, key, scale), "networks": networks, "splines": splines}

    def noise(self, layout: Layout, key: Key, num_draws: int) -> Float[Array, "draws dim"]:
        return jax.random.normal(key, (num_draws, layout.size))

    def transport(
        self, layout: Layout, params: PyTree, noise: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        form = self._form(layout)
        u, log_volume = form.marginal(params["splines"]).transform_and_log_det(noise)
        u, more = form.couplings(params["networks"], u)
        log_volume = log_volume + more
        z, log_gaussian = _GAUSSIAN.transport(layout, jnp.asarray(params["gaussian"]), u)
        return z, log_gaussian - _log_normal(u) + _log_normal(noise) - log_volume

    def log_prob(self, layout: Layout, params: PyTree, z: Float[Array, " dim"]) -> Float[Array, ""]:
        form = self._form(layout)
        bent, log_volume = _standardised(jnp.asarray(params["gaussian"]), z)
        u, of_couplings = form.back(params["networks"], bent)
        noise, of_splines = form.marginal(params["splines"]).inverse_and_log_det(u)
        return _log_normal(noise) + log_volume + of_couplings + of_splines

    def affine(
        self,
        layout: Layout,
        params: PyTree,
        shift: Float[Array, " dim"],
        scale: Float[Array, " dim"] | Float[Array, "dim dim"],
    ) -> dict[str, Array]:
        return {**params, "gaussian": _GAUSSIAN.affine(layout, jnp.asarray(params["gaussian"]), shift, scale)}

    def _form(self, layout: Layout) -> "_Form":
        return _form(layout.size, self.layers, self.width, self.knots, float(self.reach))


class _Form(NamedTuple):
    """What a flow of certain sizes does with its parameters.

    Parameters
    ----------
    values
        Numbers that make one spline; all zero make the identity.
    marginal
        The splines of all coordinates, of their numbers.
    couplings, back
        All couplings one after the other, of the networks' numbers and a point, and their inverse: the other point, and
        the log of the map's volume.
    networks
        Numbers of new networks, which make identities.
    """

    values: int
    marginal: Callable[[Float[ArrayLike, "dim values"]], Any]
    couplings: Callable[[Float[ArrayLike, "layers numbers"], Float[Array, " dim"]], tuple[Array, Array]]
    back: Callable[[Float[ArrayLike, "layers numbers"], Float[Array, " dim"]], tuple[Array, Array]]
    networks: Callable[[Key], Float[Array, "layers numbers"]]


def _form(dim: int, layers: int, width: int, knots: int, reach: float) -> _Form:
    return _form_in(dim, layers, width, knots, reach, bool(jax.config.jax_enable_x64))


@lru_cache(maxsize=32)
def _form_in(dim: int, layers: int, width: int, knots: int, reach: float, x64: bool) -> _Form:  # noqa: FBT001, ARG001
    bijections = import_optional("flowjax.bijections", "flows", "Normalizing flows")
    utils = import_optional("flowjax.utils", "flows", "Normalizing flows")
    import equinox as eqx

    random = np.random.default_rng(_SHUFFLES)
    layers = layers if dim > 1 else 0
    orders = np.array([random.permutation(dim) for _ in range(layers)], np.int32).reshape(layers, dim)
    backs = np.argsort(orders, axis=1).astype(np.int32)

    def coupling(key: Key) -> Any:
        made = bijections.Coupling(
            key,
            transformer=spline,
            untransformed_dim=dim // 2,
            dim=dim,
            nn_width=width,
            nn_depth=1,
            nn_activation=jnp.tanh,
        )
        last = lambda made: (made.conditioner.layers[-1].weight, made.conditioner.layers[-1].bias)
        return eqx.tree_at(last, made, replace_fn=jnp.zeros_like)  # the identity, whatever the other half

    with jax.ensure_compile_time_eval():  # constants, also where the first to ask is a function being traced
        spline = bijections.RationalQuadraticSpline(knots=knots, interval=reach)
        to_spline, values = utils.get_ravelled_pytree_constructor(spline, filter_spec=eqx.is_inexact_array)
        one, rest = eqx.partition(coupling(jax.random.key(0)), eqx.is_inexact_array) if layers else (None, None)
        _, unravel = ravel_pytree(one)

    def through(method: str, numbers: ArrayLike, point: Array, *, reverse: bool) -> tuple[Array, Array]:
        """One layer after the other; a scan, so that one of them is compiled and not all."""
        if not layers:
            return point, jnp.zeros((), point.dtype)

        def layer(carry: tuple[Array, Array], of: Any) -> tuple[tuple[Array, Array], None]:
            row, order, back = of
            moved, more = getattr(eqx.combine(unravel(row), rest), method)(carry[0][order])
            return (moved[back], carry[1] + more), None

        start = (point, jnp.zeros((), point.dtype))
        found, _ = jax.lax.scan(layer, start, (numbers, orders, backs), reverse=reverse)
        return found

    def networks(key: Key) -> Float[Array, "layers numbers"]:
        if not layers:
            return jnp.zeros((0, 0))
        one_network = lambda key: ravel_pytree(eqx.filter(coupling(key), eqx.is_inexact_array))[0]
        return jax.vmap(one_network)(jax.random.split(key, layers))

    return _Form(
        values,
        lambda numbers: bijections.Vmap(eqx.filter_vmap(to_spline)(numbers), in_axes=eqx.if_array(0)),
        partial(through, "transform_and_log_det", reverse=False),
        partial(through, "inverse_and_log_det", reverse=True),
        networks,
    )


def _standardised(gaussian: Float[Array, "rows dim"], z: Float[Array, " dim"]) -> tuple[Array, Array]:
    """What the Gaussian makes ``z`` of, and the log of that map's volume."""
    factor = _GAUSSIAN.cholesky(gaussian)
    u = jax.scipy.linalg.solve_triangular(factor, z - gaussian[0], lower=True)
    return u, -jnp.sum(jnp.diagonal(gaussian[1:]))


def _log_normal(u: Float[Array, " dim"]) -> Float[Array, ""]:
    return -0.5 * jnp.sum(u**2) - u.size * _LOG_ROOT_TWO_PI
