r"""Larger networks: Laplace's approximation with one Kronecker product of two small matrices for each layer.

The Gauss-Newton matrix of a layer is approximated by $n \, A \otimes G$ with $A = E[a a^\top]$ of the activations
before it and $G = E[g \Lambda g^\top]$ of the outputs' slopes after it. With their eigenvectors everything is closed
form: the variance of an output, the number of weights that the data determine, and with it MacKay's update of a layer's
prior precision.

References
----------
.. [1] Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature. ICML.
.. [2] Ritter, Botev and Barber (2018), Online structured Laplace approximations for overcoming catastrophic
   forgetting. NeurIPS.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from posterion.estimators.likelihoods import Likelihood, StudentT
from posterion.estimators.network import Network

BLOCK = 2048
RELEVANCE_BOUNDS = (0.1, 4.0)


@dataclass(frozen=True)
class KroneckerMode:
    """Weights with a Kronecker-factored precision around them.

    Parameters
    ----------
    weights
        Where training ended.
    activations, slopes
        The factors of each layer, $A$ and $G$.
    rows
        Number of rows they stand for.
    precisions
        Prior precision of each layer.
    likelihood
        With the noise that was found.
    """

    weights: Float[np.ndarray, " size"]
    activations: tuple[np.ndarray, ...]
    slopes: tuple[np.ndarray, ...]
    rows: float
    precisions: Float[np.ndarray, " layers"]
    likelihood: Likelihood

    @cached_property
    def eigen(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
        """For each layer the eigenvectors of both factors and the posterior precisions along their products."""
        parts = []
        for a, g, precision in zip(self.activations, self.slopes, self.precisions, strict=True):
            a_values, a_vectors = np.linalg.eigh(a)
            g_values, g_vectors = np.linalg.eigh(g)
            determined = self.rows * np.maximum(a_values, 0)[:, None] * np.maximum(g_values, 0)
            parts.append((a_vectors, g_vectors, determined + precision))
        return tuple(parts)

    @property
    def effective(self) -> Float[np.ndarray, " layers"]:
        """How many weights of each layer the data determine."""
        pairs = zip(self.eigen, self.precisions, strict=True)
        return np.array([(1 - precision / total).sum() for (_, _, total), precision in pairs])

    def predict(self, network: Network, inputs: Float[np.ndarray, "rows features"]):
        """Outputs (rows, outputs) and their covariances (rows, outputs, outputs)."""
        means, covariances = [], []
        for begin in range(0, max(len(inputs), 1), BLOCK):
            f, layers = network.derivatives(self.weights, inputs[begin : begin + BLOCK])
            covariance = np.zeros((len(f), network.outputs, network.outputs))
            for (a, g), (a_vectors, g_vectors, total) in zip(layers, self.eigen, strict=True):
                variance = (a @ a_vectors) ** 2 @ (1 / total)
                rotated = (g.reshape(-1, g.shape[2]) @ g_vectors).reshape(g.shape)
                if network.outputs == 1:
                    covariance[:, 0, 0] += np.einsum("nu,nu->n", rotated[:, 0] ** 2, variance)
                else:
                    covariance += (rotated * variance[:, None, :]) @ rotated.transpose(0, 2, 1)
            means.append(f)
            covariances.append(covariance)
        return np.concatenate(means), np.concatenate(covariances)


def curvature(
    network: Network,
    likelihood: Likelihood,
    weights: Float[np.ndarray, " size"],
    inputs: Float[np.ndarray, "rows features"],
    row_weights: Float[np.ndarray, " rows"],
    *,
    rows: float,
    precisions: Float[np.ndarray, " layers"],
    before: KroneckerMode | None = None,
) -> KroneckerMode:
    """The factors from some rows that stand for ``rows`` of them, averaged with those of earlier data."""
    f, layers = network.derivatives(weights, inputs)
    share = row_weights / row_weights.sum()
    activations, slopes = [], []
    for a, g in layers:
        activations.append((a * share[:, None]).T @ a)
        white = (likelihood.whitened(f, g) * np.sqrt(share)[:, None, None]).reshape(-1, g.shape[2])
        slopes.append(white.T @ white)
    if before is not None:
        total = rows + before.rows
        mix = lambda new, old: tuple((rows * n + before.rows * o) / total for n, o in zip(new, old, strict=True))
        activations, slopes, rows = mix(activations, before.activations), mix(slopes, before.slopes), total
    return KroneckerMode(weights, tuple(activations), tuple(slopes), rows, precisions, likelihood)


def updated_precisions(network: Network, mode: KroneckerMode) -> Float[np.ndarray, " layers"]:
    """MacKay's update of each layer's prior precision."""
    squares = np.array([(matrix**2).sum() for matrix in network.layers(mode.weights)])
    return np.clip((mode.effective + 1e-3) / (squares + 1e-3), 1e-3, 1e6)


def relevances(
    network: Network, mode: KroneckerMode, origins: Int[np.ndarray, " features"]
) -> Float[np.ndarray, " features"]:
    """The prior scales that the evidence asks for if inputs of one origin share one, over the scale of all inputs.

    MacKay's update, as of a layer: the squares of the weights over how many of them the data determine.
    """
    matrix = next(iter(network.layers(mode.weights)))[:-1]
    vectors, _, total = mode.eigen[0]
    undetermined = mode.precisions[0] * (vectors[:-1] ** 2 @ (1 / total).sum(axis=1))
    _, place = np.unique(origins, return_inverse=True)
    squares = np.bincount(place, (matrix**2).sum(axis=1))
    determined = np.maximum(np.bincount(place, matrix.shape[1] - undetermined), 0)
    scales = np.sqrt(mode.precisions[0] * (squares + 1e-3) / (determined + 1e-3))
    return np.clip(scales, *RELEVANCE_BOUNDS)[place]


def with_noise(mode: KroneckerMode, likelihood: StudentT) -> KroneckerMode:
    """The same mode with other noise: the slopes' factors are in units of it."""
    assert isinstance(mode.likelihood, StudentT)
    ratio = mode.likelihood.variance / likelihood.variance
    return replace(mode, likelihood=likelihood, slopes=tuple(ratio * factor for factor in mode.slopes))
