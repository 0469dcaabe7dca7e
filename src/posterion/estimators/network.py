r"""The network of the estimators: a multilayer perceptron as functions of one flat vector of weights.

Layer $l$ takes the activations before it with a one appended, $a_l = (h_{l-1}, 1)$, to $h_l = \tanh(a_l W_l)$; the last
one is linear, so that a network without hidden layers is the linear predictor of a generalised linear model. Besides
its values it gives the derivatives of every output with respect to the inputs of every layer, $g_l$, since $\partial
f_c / \partial W_l = a_l \otimes g_{l c}$ is all that Gauss-Newton, Laplace and Kronecker factors are made of.

Weights that share a prior scale form a *group*: those that leave one input (so that the evidence can switch an input
off), the biases of a layer, and the other weights of a layer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Network:
    """Shape of a multilayer perceptron.

    Parameters
    ----------
    features
        Number of inputs.
    hidden
        Units of each hidden layer; empty for a linear predictor.
    outputs
        Number of outputs.
    relevance
        Whether each input has a prior scale of its own. Otherwise all weights of the first layer share one.
    """

    features: int
    hidden: tuple[int, ...] = ()
    outputs: int = 1
    relevance: bool = False

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows (inputs and the bias) and columns of each layer's weights."""
        widths = (self.features, *self.hidden, self.outputs)
        return tuple((before + 1, after) for before, after in zip(widths[:-1], widths[1:], strict=True))

    @cached_property
    def size(self) -> int:
        """Number of weights."""
        return sum(rows * columns for rows, columns in self.shapes)

    @cached_property
    def groups(self) -> Int[np.ndarray, " size"]:
        """The group of each weight."""
        parts, used = [], 0
        for layer, (rows, columns) in enumerate(self.shapes):
            own = np.arange(rows) if layer == 0 and self.relevance else np.repeat([0, 1], [rows - 1, 1])
            parts.append(np.repeat(used + own, columns))
            used = int(parts[-1].max(initial=used)) + 1
        return np.concatenate(parts)

    @cached_property
    def group_sizes(self) -> Int[np.ndarray, " groups"]:
        """Number of weights of each group."""
        return np.bincount(self.groups)

    @cached_property
    def output_bias_group(self) -> int:
        """The group of the outputs' biases, whose prior scale is not shrunk: their scale is the target's."""
        return int(self.groups[-1])

    def start_precisions(self) -> Float[np.ndarray, " groups"]:
        """Prior precisions to start from: fan-in scaled, one for biases."""
        precisions = np.ones(len(self.group_sizes))
        used = 0
        for layer, (rows, columns) in enumerate(self.shapes):
            if layer:
                precisions[self.groups[used]] = rows - 1
            used += rows * columns
        return precisions

    def initial(self, rng: np.random.Generator) -> Float[np.ndarray, " size"]:
        """Random weights: fan-in scaled in hidden layers, spread-out hidden biases, small ones at the output."""
        parts = []
        for layer, (rows, columns) in enumerate(self.shapes):
            last = layer == len(self.shapes) - 1
            weights = rng.normal(size=(rows, columns)) / np.sqrt(max(rows - 1, 1))
            weights[:-1] *= (0.5 if self.hidden else 0.0) if last else 1.0
            weights[-1] = 0.0 if last else rng.normal(size=columns)
            parts.append(weights.ravel())
        return np.concatenate(parts)

    def layers(self, weights: Any) -> Iterator[Any]:
        """The matrix of each layer; NumPy in, NumPy out, JAX likewise."""
        used = 0
        for rows, columns in self.shapes:
            yield weights[used : used + rows * columns].reshape(rows, columns)
            used += rows * columns

    def apply(self, weights: Any, inputs: Any, *, tanh: Callable = np.tanh) -> Any:
        """Outputs, shaped (rows, outputs). With ``tanh=jnp.tanh`` for JAX arrays."""
        *hidden, last = self.layers(weights)
        for matrix in hidden:
            inputs = tanh(inputs @ matrix[:-1] + matrix[-1])
        return inputs @ last[:-1] + last[-1]

    def derivatives(self, weights: Float[np.ndarray, " size"], inputs: Float[np.ndarray, "rows features"]):
        """Outputs, and for each layer its activations and slopes.

        The activations before it, with a one, are (rows, inputs + 1), the slopes after it (rows, outputs, units).
        """
        matrices = list(self.layers(weights))
        one = np.ones((len(inputs), 1), inputs.dtype)
        activations = [np.concatenate([inputs, one], axis=1)]
        for matrix in matrices[:-1]:
            activations.append(np.concatenate([np.tanh(activations[-1] @ matrix), one], axis=1))
        values = activations[-1] @ matrices[-1]
        rows, outputs = len(inputs), self.outputs
        slope = np.broadcast_to(np.eye(outputs, dtype=inputs.dtype), (rows, outputs, outputs))
        slopes = [slope]
        for matrix, after in zip(reversed(matrices[1:]), reversed(activations[1:]), strict=True):
            # One product of all rows together: NumPy would multiply row after row.
            back = (slope.reshape(rows * outputs, -1) @ matrix[:-1].T).reshape(rows, outputs, -1)
            slope = back * (1 - after[:, None, :-1] ** 2)
            slopes.append(slope)
        return values, list(zip(activations, reversed(slopes), strict=True))

    def jacobian(self, weights: Float[np.ndarray, " size"], inputs: Float[np.ndarray, "rows features"]):
        """Outputs (rows, outputs) and their derivatives with respect to all weights (rows, outputs, size)."""
        values, layers = self.derivatives(weights, inputs)
        jacobian = np.empty((len(inputs), self.outputs, self.size), inputs.dtype)
        used = 0
        for (rows, columns), (a, g) in zip(self.shapes, layers, strict=True):
            part = jacobian[:, :, used : used + rows * columns].reshape(len(inputs), self.outputs, rows, columns)
            np.multiply(a[:, None, :, None], g[:, :, None, :], out=part)
            if not np.shares_memory(part, jacobian):  # a reshape of a slice may copy
                jacobian[:, :, used : used + rows * columns] = part.reshape(len(inputs), self.outputs, -1)
            used += rows * columns
        return values, jacobian
