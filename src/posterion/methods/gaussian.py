"""Gaussian families from a mean and a covariance computed on the host in float64."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.families import AbstractFamily, FullRank, MeanField


def full_rank(
    location: Float[np.ndarray, " dim"], root: Float[np.ndarray, "dim rank"]
) -> tuple[AbstractFamily, PyTree]:
    """The Gaussian of this mean and of covariance ``root @ root.T``; the root need not be triangular."""
    cholesky = triangular(root)  # packed as `FullRank.from_cholesky` does, which would compile a program to do it
    scale = np.diag(cholesky)
    below = np.tril(cholesky / scale[:, None], -1) * np.sqrt(len(location))
    params = np.concatenate([location[None], below + np.diag(np.log(scale))])
    return FullRank(), params.astype(jnp.result_type(float))


def mean_field(location: Float[np.ndarray, " dim"], scale: Float[np.ndarray, " dim"]) -> tuple[AbstractFamily, PyTree]:
    """Independent normals of these means and standard deviations."""
    return MeanField(), np.stack([location, np.log(scale)]).astype(jnp.result_type(float))


def triangular(root: Float[np.ndarray, "dim rank"]) -> Float[np.ndarray, "dim dim"]:
    """The lower-triangular L of positive diagonal with ``L @ L.T == root @ root.T``, without forming the product.

    A QR factorisation: squaring would lose half of the digits, and a badly scaled model has none to spare.
    """
    upper = np.linalg.qr(root.T, mode="r")
    signs = np.where(np.diag(upper) < 0, -1.0, 1.0)
    return np.tril((signs[:, None] * upper).T) + 0.0  # no negative zeros
