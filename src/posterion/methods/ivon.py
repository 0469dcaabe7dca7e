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

Above a few thousand variables the draws come from a pool of normals made once, at a random place and with a random
sign in every step. Drawing a million fresh ones would cost as much as the network's gradient.

References
----------
Shen et al. (2024), Variational learning is effective for large deep networks. ICML. arXiv:2402.17641.
"""

from dataclasses import dataclass
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
_LONGEST_STEP = 10.0
"""Standard deviations that a step of full rate may move a mean: a guard while H is not yet found."""


class IVONState(NamedTuple):
    """Means, precisions, the gradient's running mean with its number of steps, and the pool of normals."""

    location: Float[Array, " dim"]
    precision: Float[Array, " dim"]
    gradient: Float[Array, " dim"]
    count: Float[Array, ""]
    pool: Float[Array, " pool"]


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
        precision = 1 / (whitening * scale) ** 2
        size = 0 if layout.size <= _FRESH else layout.size + _WINDOW
        pool = jax.random.normal(key, (size,), location.dtype)
        return IVONState(location, precision, jnp.zeros_like(location), jnp.zeros((), location.dtype), pool)

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

        def normals(state: IVONState, noise: PyTree) -> Float[Array, " dim"]:
            if fresh:
                return noise
            offset, sign = noise
            return sign.astype(state.pool.dtype) * jax.lax.dynamic_slice(state.pool, (offset,), (size,))

        def step(noise: PyTree, state: IVONState, batch: Batch, rate: Float[Array, ""]) -> tuple[IVONState, Info]:
            epsilon, root = normals(state, noise), jnp.sqrt(state.precision)
            z = state.location + epsilon / root
            value, gradient = jax.value_and_grad(lambda z: -log_joint(z, batch))(z)
            log_q = 0.5 * jnp.sum(jnp.log(state.precision) - epsilon**2) - 0.5 * size * jnp.log(2 * jnp.pi)
            forget = jnp.maximum(least, rate / _STEPS_REMEMBERED).astype(z.dtype)
            # The Hessian's estimate over H, held where one step changes H by no more than two and a half times.
            ratio = jnp.clip(gradient * epsilon / root, 1 - 1 / forget, 1 + 1 / forget)
            change = forget * (ratio - 1)
            precision = state.precision * (1 + change + 0.5 * change**2)
            mean = self.momentum * state.gradient + (1 - self.momentum) * gradient
            count = state.count + 1
            unbiased = mean / (1 - self.momentum**count)
            new_root = jnp.sqrt(precision)
            moved = jnp.clip(unbiased / new_root, -_LONGEST_STEP, _LONGEST_STEP) / new_root
            location = state.location - rate.astype(moved.dtype) * moved
            finite = jnp.isfinite(value) & jnp.isfinite(jnp.sum(gradient))
            keep = lambda new, old: jnp.where(finite, new, old)
            new = IVONState(
                keep(location, state.location),
                keep(precision, state.precision),
                keep(mean, state.gradient),
                keep(count, state.count),
                state.pool,
            )
            return new, Info(value + log_q, finite)

        def params(state: IVONState) -> Float[Array, "2 dim"]:
            return jnp.stack([state.location, -0.5 * jnp.log(state.precision)])

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
                gradient=jnp.zeros_like(state.gradient), count=jnp.zeros_like(state.count)
            ),
            evaluate=evaluate,
            host_noise=lambda seed, draws, quasi: host_noise(family, layout, seed, draws, quasi=quasi),
            noise_values_per_step=size if fresh else 2,
            iterate=params,
            with_iterate=lambda state, params: state._replace(
                location=params[0], precision=jnp.exp(-2 * params[1]).astype(state.precision.dtype)
            ),
        )
