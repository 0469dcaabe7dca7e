r"""Stochastic weight averaging, Gaussian (SWAG): a normal distribution fitted to the path of the optimiser itself.

The step size falls to a part of its peak and stays there; from then on the noise of the mini-batches moves the iterate
about its goal. With the mean and the mean square of the iterates, and the last r deviations from the running mean in
the columns of D,

.. math:: q(z) = \mathcal N\!\left(\bar z,\; \tfrac12 \mathrm{diag}(\overline{z^2} - \bar z^2)
          + \tfrac1{2 (r - 1)} D D^\top\right),

which is a `LowRank` Gaussian. Nothing is computed but the gradients that find the mode anyway.

References
----------
Maddox, Garipov, Izmailov, Vetrov and Wilson (2019), A simple baseline for Bayesian uncertainty in deep learning.
NeurIPS. arXiv:1902.02476.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from posterion._typing import Array, Batch, Key, PyTree
from posterion.errors import OptionError
from posterion.families import AbstractFamily, LowRank
from posterion.families.host_noise import host_noise
from posterion.methods.base import AbstractLoopMethod
from posterion.objectives.bounds import LogJoint
from posterion.objectives.gradients import log_weight, values_at_draws
from posterion.optim.algorithm import Algorithm, Info
from posterion.optim.optimisers import Direction, default_optimiser
from posterion.target import Layout

_LEAST_SCALE = 1e-4
"""Standard deviation, in whitened units, of what has not moved (yet)."""


class SWAGState(NamedTuple):
    """The iterate in whitened coordinates, the optimiser's memory, and what has been collected."""

    location: Float[Array, " dim"]
    optimiser: PyTree
    steps: Int[Array, ""]
    collected: Int[Array, ""]
    mean: Float[Array, " dim"]
    square: Float[Array, " dim"]
    deviations: Float[Array, "rank dim"]
    shift: Float[Array, " dim"]
    scale: Float[Array, " dim"]


@dataclass(frozen=True)
class SWAG(AbstractLoopMethod):
    """A low-rank Gaussian of the iterates of stochastic optimisation. Needs ``batch_size``: the spread is its noise.

    Parameters
    ----------
    rank
        Deviations kept, the last ones.
    share
        Of the largest step size, at which iterates are collected: the step size falls along the loop's cosine until
        it is there, and stays. Larger means more spread.
    every
        Steps between two iterates that are collected.

    Raises
    ------
    OptionError
        For options out of range; at the fit, without mini-batches.

    Notes
    -----
    The mode is that of all variables together. With scales of priors among them, which have no useful joint mode with
    the weights, use ``prior="fan_in"``. The spread follows the step size and the batches, not the posterior alone: a
    heuristic that predicts well, whose ELBO tells how well it fits.
    """

    rank: int = 20
    share: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        for name, least in (("rank", 2), ("every", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name} must be a whole number from {least} on, not {value!r}")
        if not 0 < self.share <= 1:
            raise OptionError(f"share must lie above 0 and not above 1, not {self.share!r}")

    @property
    def approximation(self) -> AbstractFamily:
        return LowRank(rank=self.rank)

    @property
    def needs_whitening(self) -> bool:
        return True

    @property
    def needs_batches(self) -> str:
        return "the spread of SWAG is the noise of mini-batches, and all rows at once have none"

    @property
    def caveats(self) -> tuple[str, ...]:
        return ("the spread of SWAG follows step size and batches, and not the posterior alone",)

    def start(
        self,
        layout: Layout,
        key: Key,
        location: Float[Array, " dim"],
        scale: float | Float[Array, " dim"],
        shift: Float[Array, " dim"],
        whitening: Float[Array, " dim"],
        optimiser: optax.GradientTransformation | None = None,
    ) -> SWAGState:
        memory = (optimiser or default_optimiser()).init(location)
        zero, none = jnp.zeros_like(location), jnp.zeros((), jnp.int32)
        deviations = jnp.zeros((self.rank, location.size), location.dtype)
        return SWAGState(location, memory, none, none, zero, zero, deviations, shift, whitening)

    def algorithm(
        self, log_joint: LogJoint, layout: Layout, optimiser: optax.GradientTransformation | None = None
    ) -> Algorithm:
        family, rank, every = LowRank(rank=self.rank), self.rank, self.every
        direction = optimiser or default_optimiser()
        scheduled = optimiser is None or isinstance(optimiser, Direction)
        constant = self.share * self.largest_step(layout)

        def collect(state: SWAGState) -> SWAGState:
            number = state.collected.astype(state.mean.dtype)
            average = lambda old, new: (number * old + new) / (number + 1)
            mean = average(state.mean, state.location)
            deviations = state.deviations.at[state.collected % rank].set(state.location - mean)
            square = average(state.square, state.location**2)
            return state._replace(collected=state.collected + 1, mean=mean, square=square, deviations=deviations)

        def step(noise: PyTree, state: SWAGState, batch: Batch, rate: Float[Array, ""]) -> tuple[SWAGState, Info]:
            loss_of = lambda u: -log_joint(state.shift + state.scale * u, batch)
            loss, gradient = jax.value_and_grad(loss_of)(state.location)
            updates, memory = direction.update(gradient, state.optimiser, state.location)
            if scheduled:
                now = jnp.maximum(rate, constant).astype(state.location.dtype)
                updates = jax.tree.map(lambda x: -now * x, updates)
            location = optax.apply_updates(state.location, updates)
            finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(gradient))
            location, memory = jax.tree.map(
                lambda new, old: jnp.where(finite, new, old), (location, memory), (state.location, state.optimiser)
            )
            state = state._replace(location=location, optimiser=memory, steps=state.steps + 1)
            due = (rate <= constant) & (state.steps % every == 0)
            return jax.lax.cond(due, collect, lambda same: same, state), Info(loss, finite)

        def params(state: SWAGState) -> Float[Array, "rows dim"]:
            """Of the Gaussian over whitened coordinates."""
            known = state.collected > 0
            mean = jnp.where(known, state.mean, state.location)
            variance = jnp.where(known, state.square - state.mean**2, 0.0)
            scale = jnp.sqrt(jnp.maximum(0.5 * variance, _LEAST_SCALE**2))
            columns = jnp.clip(state.collected, 2, rank).astype(scale.dtype)
            factor = state.deviations / scale * jnp.sqrt(rank / (2 * (columns - 1)))
            return jnp.concatenate([mean[None], jnp.log(scale)[None], factor])

        def evaluate(
            state: SWAGState, noise: PyTree, batch: Batch, count: Int[Array, ""]
        ) -> tuple[Float[Array, " draws"], PyTree]:
            found = family.affine(layout, params(state), state.shift, state.scale)
            weight = log_weight(log_joint, family, layout)
            return values_at_draws(lambda one: weight(found, one, batch), noise, count), found

        def restart(state: SWAGState) -> SWAGState:
            cleared = [jnp.zeros_like(x) for x in (state.collected, state.mean, state.square, state.deviations)]
            collected, mean, square, deviations = cleared
            return state._replace(
                optimiser=direction.init(state.location),
                collected=collected,
                mean=mean,
                square=square,
                deviations=deviations,
            )

        return Algorithm(
            noise=lambda key, num_steps: jnp.zeros((num_steps, 0)),
            step=step,
            restart=restart,
            evaluate=evaluate,
            host_noise=lambda seed, draws, quasi: host_noise(family, layout, seed, draws, quasi=quasi),
            noise_values_per_step=1,
            iterate=params,
            with_iterate=lambda state, params: state._replace(location=params[0]),
        )
