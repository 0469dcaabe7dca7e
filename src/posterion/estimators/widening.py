"""Networks with more inputs than a table has, so that tables of about the same shape share a compiled program."""

from dataclasses import replace

import numpy as np

from posterion.estimators.kronecker import KroneckerMode
from posterion.estimators.network import Network


def widen(weights: np.ndarray, network: Network, wide: Network) -> np.ndarray:
    """Weights for a network with more inputs, which are always zero: their own are zero."""
    first, columns = network.shapes[0]
    matrix = weights[: first * columns].reshape(first, columns)
    extra = np.zeros((wide.features - network.features, columns))
    return np.concatenate([matrix[:-1].ravel(), extra.ravel(), matrix[-1], weights[first * columns :]])


def _real(network: Network, wide: Network) -> np.ndarray:
    """Rows of the wide first layer that are of the narrow one."""
    return np.append(np.arange(network.features), wide.features)


def narrow_mode(mode: KroneckerMode, network: Network, wide: Network) -> KroneckerMode:
    """A mode of the wide network without the inputs that are always zero."""
    real = _real(network, wide)
    first, columns = wide.shapes[0]
    matrix = mode.weights[: first * columns].reshape(first, columns)[real]
    weights = np.concatenate([matrix.ravel(), mode.weights[first * columns :]])
    activations = (mode.activations[0][np.ix_(real, real)], *mode.activations[1:])
    return replace(mode, weights=weights, activations=activations)


def widen_mode(mode: KroneckerMode, network: Network, wide: Network) -> KroneckerMode:
    """A mode as one of the wide network."""
    real = _real(network, wide)
    first = np.zeros((wide.features + 1, wide.features + 1))
    first[np.ix_(real, real)] = mode.activations[0]
    return replace(mode, weights=widen(mode.weights, network, wide), activations=(first, *mode.activations[1:]))
