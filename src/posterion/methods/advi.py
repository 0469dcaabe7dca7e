r"""Automatic differentiation variational inference (ADVI).

Stochastic gradient ascent on the ELBO with reparametrised draws,

.. math:: params \leftarrow params + rate \cdot \mathrm{Adam}\,(\nabla_{params} \widehat{\mathrm{ELBO}})

in whitened coordinates: the family describes ``u`` and the model sees ``z = shift + scale * u``. With shift 0 and
scale 1 that is plain ADVI; with the mode and the curvature there it makes badly scaled models well scaled. Both are
values in the state, so one compiled program serves either. For a family that holds every linear image of its members
(full rank), the scale is a lower-triangular matrix: in its coordinates a Gaussian posterior is standard normal.

References
----------
Kucukelbir et al. (2017), Automatic Differentiation Variational Inference, JMLR 18(14).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int

from posterion._typing import Array, Batch, Key, PyTree
from posterion.compilation.row_noise import POOL
from posterion.errors import OptionError
from posterion.families import AbstractDiagonalPlus, AbstractFamily, AbstractGaussian, MeanField
from posterion.families.host_noise import host_noise, values_per_draw
from posterion.families.numpyro_guides import family_of, is_guide
from posterion.methods.base import AbstractLoopMethod
from posterion.objectives.bounds import FlatLogJoint, LogJoint
from posterion.objectives.gradients import log_weight, negative_elbo, sticking_the_landing, values_at_draws
from posterion.objectives.local_noise import RowNoise, local_integrand
from posterion.optim.algorithm import Algorithm, Info
from posterion.optim.optimisers import Direction, careful_optimiser, default_optimiser
from posterion.target import Layout

_DRAWS_OF_ROUGH = 16
_WITH_A_KEY = 3
"""Numbers that a draw takes besides its normals where rows have noise of their own: a key and a sign."""


def _mirrored(family: AbstractFamily, layout: Layout, key: Key, count: int) -> PyTree:
    """Noise of ``count`` draws, each followed by its mirror image.

    What of a gradient is odd in the noise then cancels from one step to the next, within the memory of the optimiser:
    for a posterior that is nearly Gaussian that is nearly all the noise of the locations' gradients, which otherwise
    wander along every flat direction. A draw's own distribution is what it was, and half the random numbers do.
    """
    half = family.noise(layout, key, -(-count // 2))
    return jax.tree.map(lambda x: _in_turn(x, -x, count), half)


def _with_rows(key: Key, count: int, size: int) -> PyTree:
    """Normals of ``count`` draws, mirrored as above, and the keys of the rows' noise, mirrored by its sign."""
    ours, of_rows = jax.random.split(key)
    half = -(-count // 2)
    normals, keys = jax.random.normal(ours, (half, size)), jax.random.key_data(jax.random.split(of_rows, half))
    signs = jnp.ones(half)
    pairs = {"normals": (normals, -normals), "key": (keys, keys), "sign": (signs, -signs)}
    return {name: _in_turn(x, mirrored, count) for name, (x, mirrored) in pairs.items()}


def _in_turn(x: Array, mirrored: Array, count: int) -> Array:
    """Entries of both along the first axis, each followed by its mirror image, ``count`` of them."""
    return jnp.stack([x, mirrored], axis=1).reshape(-1, *x.shape[1:])[:count]


class ADVIState(NamedTuple):
    """Everything the next step needs: parameters over ``u``, the optimiser's memory, and the whitening.

    Where rows have noise of their own, also normals to take it from; else none.
    """

    params: PyTree
    optimiser: PyTree
    shift: Float[Array, " dim"]
    scale: Float[Array, " dim"] | Float[Array, "dim dim"]
    pool: Float[Array, " pool"]


@dataclass(frozen=True)
class ADVI(AbstractLoopMethod):
    """Stochastic variational inference with a family of choice.

    Parameters
    ----------
    family
        What approximates the posterior. One of NumPyro's automatic guides stands for the family it is.
    num_draws
        Draws of ``z`` per step. None takes one, which is best on a processor (at equal numbers of gradients more draws
        gain nothing), and 16 for a normalizing flow, whose gradients are now and then a thousand times the usual ones.
    noise
        "shared": the rows of a step meet one draw of ``z``. "local": each row of a network meets weights of its own,
        by local reparametrisation or Flipout, wherever its layers allow it; for the families `MeanField` and `LowRank`.

    Raises
    ------
    OptionError
        If ``num_draws`` is not a positive whole number, ``family`` is not a family, or ``noise`` is neither.
    """

    family: Any = field(default_factory=MeanField)  # a family once it is made
    num_draws: Any = None  # a number once it is made
    noise: str = "shared"

    def __post_init__(self) -> None:
        if is_guide(self.family):
            object.__setattr__(self, "family", family_of(self.family))
        if not isinstance(self.family, AbstractFamily):
            raise OptionError(f"family must be one of Posterion's families, e.g. MeanField(), not {self.family!r}")
        if self.num_draws is None:
            object.__setattr__(self, "num_draws", _DRAWS_OF_ROUGH if self.family.rough else 1)
        if isinstance(self.num_draws, bool) or not isinstance(self.num_draws, int) or self.num_draws < 1:
            raise OptionError(f"num_draws must be a whole number from 1 on, not {self.num_draws!r}")
        if self.noise not in ("shared", "local"):
            raise OptionError(f"noise must be 'shared' or 'local', not {self.noise!r}")

    @property
    def approximation(self) -> AbstractFamily:
        return self.family

    def start(
        self,
        layout: Layout,
        key: Key,
        location: Float[Array, " dim"],
        scale: float | Float[Array, " dim"],
        shift: Float[Array, " dim"],
        whitening: Float[Array, " dim"] | Float[Array, "dim dim"],
        optimiser: optax.GradientTransformation | None = None,
    ) -> ADVIState:
        params = self.approximation.init(layout, location, key, scale)
        pool = jax.random.normal(jax.random.fold_in(key, 1), (POOL if self.noise == "local" else 0,), shift.dtype)
        return ADVIState(params, (optimiser or self._default_optimiser()).init(params), shift, whitening, pool)

    def _default_optimiser(self) -> optax.GradientTransformation:
        return careful_optimiser() if self.approximation.rough else default_optimiser()

    def algorithm(
        self,
        log_joint: LogJoint,
        layout: Layout,
        optimiser: optax.GradientTransformation | None = None,
        rows: RowNoise | None = None,
    ) -> Algorithm:
        """As of every method of steps; ``rows`` where the noise is local."""
        family, num_draws = self.approximation, self.num_draws
        direction = optimiser or self._default_optimiser()
        scheduled = optimiser is None or isinstance(optimiser, Direction)
        paired = isinstance(family, AbstractGaussian)
        if self.noise == "local" and rows is None:
            raise OptionError("noise='local' needs a network whose layers are known")

        per_draw = values_per_draw(family, layout) if rows is None else rows.places.num_drawn + _WITH_A_KEY

        def whitened(state: ADVIState) -> FlatLogJoint:
            if state.scale.ndim == 2:
                log_volume = jnp.sum(jnp.log(jnp.diagonal(state.scale)))
                return lambda u, batch: log_joint(state.shift + state.scale @ u, batch) + log_volume
            log_volume = jnp.sum(jnp.log(state.scale))
            return lambda u, batch: log_joint(state.shift + state.scale * u, batch) + log_volume

        def integrand(state: ADVIState, params: PyTree, noise: PyTree, batch: Batch) -> Float[Array, ""]:
            if rows is None:
                return sticking_the_landing(whitened(state), family, layout)(params, noise, batch)
            assert isinstance(family, AbstractDiagonalPlus)  # `options` refuses others  # noqa: S101
            return local_integrand(rows, family, state.shift, state.scale, state.pool)(params, noise, batch)

        def step(noise: PyTree, state: ADVIState, batch: Batch, rate: Float[Array, ""]) -> tuple[ADVIState, Info]:
            loss_of = negative_elbo(lambda p, e, b: integrand(state, p, e, b), num_draws)
            loss, gradient = jax.value_and_grad(loss_of)(state.params, noise, batch)
            updates, memory = direction.update(gradient, state.optimiser, state.params)
            if scheduled:
                updates = jax.tree.map(lambda x: -rate.astype(x.dtype) * x, updates)
            params = optax.apply_updates(state.params, updates)
            finite = jnp.isfinite(loss)
            for leaf in jax.tree.leaves(gradient):
                finite &= jnp.all(jnp.isfinite(leaf))
            params, memory = jax.tree.map(
                lambda new, old: jnp.where(finite, new, old), (params, memory), (state.params, state.optimiser)
            )
            return state._replace(params=params, optimiser=memory), Info(loss, finite)

        def evaluate(
            state: ADVIState, noise: PyTree, batch: Batch, count: Int[Array, ""]
        ) -> tuple[Float[Array, " draws"], PyTree]:
            weight = log_weight(whitened(state), family, layout)
            values = values_at_draws(lambda one: weight(state.params, one, batch), noise, count)
            return values, family.affine(layout, state.params, state.shift, state.scale)

        def slopes(state: ADVIState, noise: PyTree, batch: Batch) -> tuple[Array, Array, Array]:
            flat, unravel = ravel_pytree(state.params)
            value_of = lambda flat, one: integrand(state, unravel(flat), one, batch)
            values, gradients = jax.vmap(jax.value_and_grad(value_of), (None, 0))(flat, noise)

            def score(one: PyTree) -> Float[Array, " params"]:
                z, _ = family.transport(layout, state.params, one)
                return jax.grad(lambda flat: family.log_prob(layout, unravel(flat), z))(flat)

            return values, -jnp.mean(gradients, axis=0), jax.vmap(score)(noise)

        def noise(key: Key, num_steps: int) -> PyTree:
            count = num_steps * num_draws
            if rows is not None:
                assert isinstance(family, AbstractDiagonalPlus)  # noqa: S101
                flat = _with_rows(key, count, rows.places.num_drawn + family.num_common)
                return jax.tree.map(lambda x: x.reshape(num_steps, num_draws, *x.shape[1:]), flat)
            flat = _mirrored(family, layout, key, count) if paired else family.noise(layout, key, count)
            return jax.tree.map(lambda x: x.reshape(num_steps, num_draws, *x.shape[1:]), flat)

        return Algorithm(
            noise=noise,
            step=step,
            restart=lambda state: state._replace(optimiser=direction.init(state.params)),
            evaluate=evaluate,
            host_noise=lambda seed, draws, quasi: host_noise(family, layout, seed, draws, quasi=quasi),
            noise_values_per_step=num_draws * per_draw,
            iterate=lambda state: state.params,
            with_iterate=lambda state, params: state._replace(params=params),
            slopes=slopes if family.rough else None,
        )
