r"""The evidence lower bound (ELBO), in nats, always for all rows.

.. math:: \mathrm{ELBO}(q) = E_{q}[\log p(z) + \sum_k \frac{N_k}{B_k} \sum_{i \in \text{batch}} \log p(y_{ki} \mid z)
          - \log q(z)]

A weight of the Kullback-Leibler term other than one,
:math:`E_q[\log p(y \mid z)] - w\, \mathrm{KL}(q, p)`, is w times the ELBO of the *tempered* posterior, whose
likelihoods are taken to the power 1 / w; that is how it is computed, so that every method can be had tempered.

This module is the one place where likelihoods are scaled. ``N_k`` is `AbstractRowTarget.num_rows`, ``B_k`` the number
of real rows in the batch; padding weighs nothing. Only observed variables that follow the batch are scaled; priors
and potentials never are.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from posterion._typing import Array, Batch
from posterion.compilation.minor_axis import batch_minor
from posterion.errors import UnsupportedModelError
from posterion.target import AbstractRowTarget, AbstractTarget, JointTerms

LogJoint: TypeAlias = Callable[[Float[Array, " dim"] | tuple[Array, ...], Batch], Float[Array, ""]]
"""The unnormalised log posterior of all rows at ``z``, estimated from a batch of them; ``z`` may come in pieces."""
FlatLogJoint: TypeAlias = Callable[[Float[Array, " dim"], Batch], Float[Array, ""]]
"""The same of a ``z`` in one piece: every `LogJoint` is one."""


def log_joint(target: AbstractTarget, followers: tuple[str, ...] = (), kl_weight: float = 1.0) -> LogJoint:
    """The log joint density of ``target`` as a function of ``z`` and a batch.

    Parameters
    ----------
    target
        What is approximated.
    followers
        The observed variables whose rows are those of the batch (`RowPlan.observed`). All others are whole.
    kl_weight
        Other than 1 tempers: likelihoods to the power ``1 / kl_weight``.

    Returns
    -------
    LogJoint
        Unbiased for the full log joint when batches are drawn uniformly. Computed batch-minor where that pays.
        ``z`` may also be a tuple of its pieces: where each array of weights is one, no gradient is copied into a whole.
    """
    # Without the barrier XLA computes an entry of z anew, from noise and parameters, for every row that it enters:
    # steps of the radon model take a ninth longer, those of small regressions and networks some hundredths.
    if not isinstance(target, AbstractRowTarget):
        if kl_weight != 1.0:
            raise UnsupportedModelError(
                "kl_weight needs a model that tells its likelihood from its prior, and this target only has a density"
            )
        density = batch_minor(target.log_density)
        return lambda z, batch: density(_whole(lax.optimization_barrier(z)), batch.data)

    terms_of = batch_minor(target.joint_terms)
    num_rows = dict(target.num_rows)

    def estimate(z: Float[Array, " dim"] | tuple[Array, ...], batch: Batch) -> Float[Array, ""]:
        terms = terms_of(_whole(lax.optimization_barrier(z)), batch.data)
        return weigh(terms, batch, num_rows, followers, kl_weight)

    return estimate


def weigh(
    terms: JointTerms, batch: Batch, num_rows: Mapping[str, int], followers: tuple[str, ...], kl_weight: float
) -> Float[Array, ""]:
    """The log joint density of all rows, estimated from the terms of a batch; arguments as of `log_joint`."""
    total = terms.log_prior
    for name, rows in terms.log_likelihood.items():
        if batch.real is not None and name in followers:
            likelihood = jnp.sum(jnp.where(batch.real, rows, 0.0))
            scale = num_rows[name] / jnp.sum(batch.real, dtype=rows.dtype)
        else:
            likelihood, scale = jnp.sum(rows), num_rows[name] / rows.shape[0]
        total = total + likelihood * (scale / kl_weight)
    return total


def _whole(z: Array | tuple[Array, ...]) -> Float[Array, " dim"]:
    return jnp.concatenate(z) if isinstance(z, tuple) else z
