r"""Improved variational online Newton (IVON): a mean-field Gaussian at the cost of Adam.

The natural gradient of the ELBO over means m and precisions H (in nats, for all rows), from one draw
:math:`z = m + \varepsilon / \sqrt H` and one gradient :math:`g = -\nabla \log p(y, z)`:

.. math::

    \hat h &= g\, \varepsilon \sqrt H \\
    H &\leftarrow \beta_2 H + (1 - \beta_2)\, \hat h + \tfrac12 (1 - \beta_2)^2 (H - \hat h)^2 / H \\
    m &\leftarrow m - \mathrm{rate} \cdot \bar g / H

with :math:`\bar g` the running mean of g. The last term keeps H positive whatever the noise. In expectation
:math:`\hat h` is the Hessian's diagonal (Stein's identity), so no second derivatives are computed, and the spread of
the posterior takes the place of Adam's second moment: there is nothing more to hold or to move than Adam has.

The state holds :math:`\sigma = 1 / \sqrt H`, so that a step of a million variables takes one root and one division
of each: it is memory that a step waits for, and every pass over the variables counts.

Above a few thousand variables the draws come from a pool of normals made once, at a random place and with a random
sign in every step. Drawing a million fresh ones would cost as much as the network's gradient.

References
----------
Shen et al. (2024), Variational learning is effective for large deep networks. ICML. arXiv:2402.17641.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from posterion._typing import Array, Batch, Key, PyTree
from posterion.errors import OptionError
from posterion.families import AbstractFamily, MeanField
from posterion.families.host_noise import host_noise
from posterion.methods.base import AbstractLoopMethod
from posterion.objectives.bounds import LogJoint
from posterion.objectives.gradients import sticking_the_landing, values_at_draws
from posterion.optim.algorithm import Algorithm, Info
from posterion.target import Layout

_FRESH = 1 << 13
"""Variables up to which every step draws fresh normals."""
_WINDOW = 1 << 16
"""Normals that each variable may meet, times two for the sign."""
_STEPS_REMEMBERED = 10.0
"""Steps at full rate that the precisions' running mean is long: at a tenth of it, ten times as many."""
_SHARE_OF_SCATTER = 0.5
"""Of how much an array of weights scatters at the start: as wide as its draws are to begin with, at most."""
_LONGEST_STEP = 10.0
"""Standard deviations that a step of full rate may move a mean: a guard while H is not yet found."""


Pieces = tuple[Float[Array, " piece"], ...]
"""A vector over ``z`` in pieces, which `log_joint` takes in place of the whole."""


class IVONState(NamedTuple):
    """Means, standard deviations, the gradient's running mean with its number of steps, and the pool of normals.

    With the pool comes the sum of squares of the normals from each place on that a step may begin at.
    """

    location: Pieces
    scale: Pieces
    gradient: Pieces
    count: Float[Array, ""]
    pool: Float[Array, " pool"]
    squares: Float[Array, " places"]


@dataclass(frozen=True)
class IVON(AbstractLoopMethod):
    """A mean-field Gaussian by natural gradients, one gradient a step: for networks of up to millions of weights.

    Parameters
    ----------
    momentum
        Of the gradient's running mean.
    memory
        Of the precisions' running mean at the end of a round of steps; its reciprocal distance from 1 is the number of
        steps averaged over. While steps are large less is remembered, so that the precisions find their size.

    Raises
    ------
    OptionError
        If either is not between 0 and 1, or an optimiser is given: this is one.

    Notes
    -----
    The family is `MeanField`'s, and so are its weaknesses; wide networks are better off with ``kl_weight`` below one,
    or with `LinearisedLaplace` on the last layer.
    """

    momentum: float = 0.9
    memory: float = 0.999

    def __post_init__(self) -> None:
        for name in ("momentum", "memory"):
            if not 0 < getattr(self, name) < 1:
                raise OptionError(f"{name} must lie between 0 and 1, not {getattr(self, name)!r}")

    @property
    def approximation(self) -> AbstractFamily:
        return MeanField()

    @property
    def needs_whitening(self) -> bool:
        return True

    def start(
        self,
        layout: Layout,
        key: Key,
        location: Float[Array, " dim"],
        scale: float | Float[Array, " dim"],
        shift: Float[Array, " dim"],
        whitening: Float[Array, " dim"],
        optimiser: optax.GradientTransformation | None = None,
    ) -> IVONState:
        # Natural gradients do not mind the coordinates, so z itself does.
        location = shift + whitening * location
        size = 0 if layout.size <= _FRESH else layout.size + _WINDOW
        pool = jax.random.normal(key, (size,), location.dtype)
        cut = partial(_cut, layout)
        spread = cut(whitening * scale)
        if size:
            spread = tuple(map(_first_scale, cut(location), spread, cut(whitening)))
        return IVONState(
            cut(location),
            spread,
            cut(jnp.zeros_like(location)),
            jnp.zeros((), location.dtype),
            pool,
            _sums_of_squares(pool, layout.size),
        )

    def algorithm(
        self, log_joint: LogJoint, layout: Layout, optimiser: optax.GradientTransformation | None = None
    ) -> Algorithm:
        if optimiser is not None:
            raise OptionError("IVON is an optimiser itself: leave obj_optimizer out")
        family, size = MeanField(), layout.size
        fresh, least = size <= _FRESH, 1 - self.memory

        def noise(key: Key, num_steps: int) -> PyTree:
            if fresh:
                return jax.random.normal(key, (num_steps, size))
            where, sign = jax.random.split(key)
            offset = jax.random.randint(where, (num_steps,), 0, _WINDOW)
            return offset, jax.random.rademacher(sign, (num_steps,), jnp.result_type(float))

        def normals(state: IVONState, noise: PyTree) -> tuple[Pieces, Float[Array, ""]]:
            """A draw's normals and the sum of their squares."""
            if fresh:
                return (noise,), jnp.sum(noise**2)
            offset, sign = noise
            drawn = [
                sign.astype(piece.dtype) * jax.lax.dynamic_slice(state.pool, (offset + start,), piece.shape)
                for start, piece in zip(_starts(layout), state.location, strict=True)
            ]
            return tuple(drawn), state.squares[offset]

        def step(noise: PyTree, state: IVONState, batch: Batch, rate: Float[Array, ""]) -> tuple[IVONState, Info]:
            epsilon, square = normals(state, noise)
            z = jax.tree.map(lambda m, s, e: m + s * e, state.location, state.scale, epsilon)
            value, gradient = jax.value_and_grad(lambda z: -log_joint(z[0] if fresh else z, batch))(z)
            log_volume = sum(_sum_of_logs(scale) for scale in state.scale)
            log_q = -log_volume - 0.5 * square - 0.5 * size * jnp.log(2 * jnp.pi)
            finite = jnp.isfinite(value) & jnp.isfinite(sum(jnp.sum(piece) for piece in gradient))
            keep = lambda new, old: jnp.where(finite, new, old)
            count = state.count + 1
            forget = jnp.maximum(least, rate / _STEPS_REMEMBERED).astype(count.dtype)
            unbiased = 1 / (1 - self.momentum**count)
            length = keep(rate.astype(count.dtype), 0.0)

            def of_piece(m: Array, s: Array, mean: Array, g: Array, e: Array) -> tuple[Array, Array, Array]:
                # The Hessian's estimate over H, held where one step changes H by no more than two and a half times.
                ratio = jnp.clip(g * e * s, 1 - 1 / forget, 1 + 1 / forget)
                change = forget * (ratio - 1)
                scale = keep(s * jax.lax.rsqrt(1 + change + 0.5 * change**2), s)
                mean = keep(self.momentum * mean + (1 - self.momentum) * g, mean)
                # Behind the barrier the old ones are needed no more, and the new take their place without a copy.
                scale, mean = jax.lax.optimization_barrier((scale, mean))
                moved = jnp.clip(unbiased * mean * scale, -_LONGEST_STEP, _LONGEST_STEP) * scale
                return m - length * moved, scale, mean

            each = map(of_piece, state.location, state.scale, state.gradient, gradient, epsilon)
            location, scale, mean = zip(*each, strict=True)
            new = state._replace(location=location, scale=scale, gradient=mean, count=keep(count, state.count))
            return new, Info(value + log_q, finite)

        def params(state: IVONState) -> Float[Array, "2 dim"]:
            return jnp.stack([jnp.concatenate(state.location), jnp.log(jnp.concatenate(state.scale))])

        def evaluate(
            state: IVONState, noise: PyTree, batch: Batch, count: Int[Array, ""]
        ) -> tuple[Float[Array, " draws"], PyTree]:
            found = params(state)
            integrand = sticking_the_landing(log_joint, family, layout)
            return values_at_draws(lambda one: integrand(found, one, batch), noise, count), found

        return Algorithm(
            noise=noise,
            step=step,
            restart=lambda state: state._replace(
                gradient=jax.tree.map(jnp.zeros_like, state.gradient), count=jnp.zeros_like(state.count)
            ),
            evaluate=evaluate,
            host_noise=lambda seed, draws, quasi: host_noise(family, layout, seed, draws, quasi=quasi),
            noise_values_per_step=size if fresh else 2,
            iterate=params,
            with_iterate=lambda state, params: state._replace(
                location=_cut(layout, params[0]), scale=_cut(layout, jnp.exp(params[1]).astype(state.pool.dtype))
            ),
        )


def _starts(layout: Layout) -> tuple[int, ...]:
    """Where the pieces of ``z`` begin: one for each variable, where there are many entries.

    Then every array of weights is a piece of its own and no gradient is copied into one vector.
    """
    return (0,) if layout.size <= _FRESH else tuple(layout.slices[v.name].start for v in layout.variables)


def _cut(layout: Layout, z: Float[Array, " dim"]) -> Pieces:
    starts = _starts(layout)
    return tuple(z[start:stop] for start, stop in zip(starts, (*starts[1:], layout.size), strict=True))


def _first_scale(
    location: Float[Array, " piece"], scale: Float[Array, " piece"], whitening: Float[Array, " piece"]
) -> Float[Array, " piece"]:
    """Standard deviations to begin with: of many weights, a share of how much they differ, or draws would drown them.

    Coordinates other than the model's own say that the spread is known, from a mode or from an earlier posterior.
    """
    scatter = jnp.std(location)
    drowns = (whitening == 1) & (scatter > 0)
    return jnp.where(drowns, jnp.minimum(scale, _SHARE_OF_SCATTER * scatter), scale)


def _sum_of_logs(scale: Float[Array, " piece"]) -> Float[Array, ""]:
    """One logarithm for four numbers, whose product is a number in single precision too from 1e-9 to 1e9 each."""
    quarter = scale.size // 4
    four = scale[: 4 * quarter].reshape(4, quarter)
    return jnp.sum(jnp.log(four[0] * four[1] * four[2] * four[3])) + jnp.sum(jnp.log(scale[4 * quarter :]))


def _sums_of_squares(pool: Float[Array, " pool"], size: int) -> Float[Array, " places"]:
    """Of ``size`` normals from each place of the pool on; the first sum, and what each place further adds to it."""
    squares = pool**2
    there = jnp.cumsum(squares[size:] - squares[: len(pool) - size])
    return jnp.sum(squares[:size]) + jnp.concatenate([jnp.zeros(1, pool.dtype), there])
