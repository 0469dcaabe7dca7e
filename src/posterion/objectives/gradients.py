r"""Estimators of the ELBO and its gradient from draws of standard noise.

The default is the path-derivative estimator, "sticking the landing": with z = t(noise, params),

.. math:: \widehat{\mathrm{ELBO}} = \log p(z) - \log q(z;\, \mathrm{stop}(params))

Its value is the usual one; its gradient leaves out the score of q, whose expectation is zero, and so has no variance
left where q equals the posterior.

References
----------
Roeder, Wu, Duvenaud (2017), Sticking the Landing, NeurIPS, eq. 8.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from posterion._typing import Array, Batch, PyTree
from posterion.families import AbstractFamily
from posterion.objectives.bounds import FlatLogJoint
from posterion.target import Layout

Integrand = Callable[[PyTree, PyTree, Batch], Float[Array, ""]]
"""One draw's ``log p - log q`` as a function of parameters, noise and batch."""


def sticking_the_landing(log_joint: FlatLogJoint, family: AbstractFamily, layout: Layout) -> Integrand:
    """The ELBO's integrand with the path-derivative gradient (see the module's first lines)."""

    def integrand(params: PyTree, noise: PyTree, batch: Batch) -> Float[Array, ""]:
        z, _ = family.transport(layout, params, noise)
        log_q = family.log_prob(layout, jax.lax.stop_gradient(params), z)
        return log_joint(z, batch) - log_q

    return integrand


def log_weight(log_joint: FlatLogJoint, family: AbstractFamily, layout: Layout) -> Integrand:
    """The same value with log q as the transport knows it: cheaper and, where a matrix would have to be solved, exact.

    For evaluating, where nothing is differentiated.
    """

    def integrand(params: PyTree, noise: PyTree, batch: Batch) -> Float[Array, ""]:
        z, log_q = family.transport(layout, params, noise)
        return log_joint(z, batch) - log_q

    return integrand


def negative_elbo(integrand: Integrand, num_draws: int) -> Callable[[PyTree, PyTree, Batch], Float[Array, ""]]:
    """The loss of one step: minus the mean of ``integrand`` over ``num_draws`` draws (noise stacked on axis 0)."""

    def loss(params: PyTree, noise: PyTree, batch: Batch) -> Float[Array, ""]:
        if num_draws == 1:  # no axis of one draw: measured cheaper than vmap over a single draw
            return -integrand(params, jax.tree.map(lambda x: x[0], noise), batch)
        return -jnp.mean(jax.vmap(integrand, (None, 0, None))(params, noise, batch))

    return loss


def values_at_draws(
    value_of: Callable[[PyTree], Float[Array, ""]], noise: PyTree, count: Int[Array, ""]
) -> Float[Array, " draws"]:
    """``value_of`` the noise of each of the first ``count`` draws, zero beyond.

    One draw at a time: that takes the memory of one draw, and is as fast as vmap on a processor. The count is an
    argument, so that a quick look at a hundred draws needs no program of its own.
    """

    def one(k: Array, values: Array) -> Array:
        at_k = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), noise)
        return values.at[k].set(value_of(at_k).astype(values.dtype))

    size = jax.tree.leaves(noise)[0].shape[0]
    return jax.lax.fori_loop(0, count, one, jnp.zeros(size, jnp.result_type(float)))
