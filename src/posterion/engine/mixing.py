r"""Mixtures: where their components come from, and the weights that are best for the ELBO.

With the components held, the ELBO is concave in the weights and the update

.. math:: w_k \leftarrow w_k \exp\bigl(E_{q_k}[\log p - \log q]\bigr) / \text{sum}

never lowers it; for components that do not overlap one update is the answer, weights proportional to
:math:`\exp(\mathrm{ELBO}_k)`.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.families.mixture import Mixture

_UPDATES = 5
_SMALLEST_WEIGHT = 1e-6
_APART = 0.3
_OTHER_MODE = 3.0


def most_worth_keeping(
    elbos: Float[np.ndarray, " fits"], places: Sequence[tuple[np.ndarray, np.ndarray]], count: int
) -> list[int]:
    """Indices of ``count`` fits for the components of a mixture: the best of each mode, then the best of the others.

    Two fits are of one mode if no entry of ``z`` lies farther apart than three standard deviations.

    Parameters
    ----------
    elbos, places
        Of the fits: their ELBO, and their mean and standard deviations.
    count
        How many are wanted; where there are fewer, some come more than once.
    """
    order = np.argsort(-elbos, kind="stable").tolist()
    kept: list[int] = []
    for k in order:
        mean, spread = places[k]
        apart = [np.max(np.abs(mean - places[j][0]) / np.minimum(spread, places[j][1])) > _OTHER_MODE for j in kept]
        if all(apart):
            kept.append(k)
    others = [k for k in order if k not in kept]
    return np.resize([*kept, *others], count).tolist()


def assemble(components: list[PyTree], spreads: list[np.ndarray], seed: int, move: Callable) -> PyTree:
    """Parameters of the mixture of these components at equal weights, each moved a little: twins would stay twins.

    Parameters
    ----------
    components
        Their parameters, in the units of ``z``.
    spreads
        Their standard deviations.
    seed
        Of the moves.
    move
        ``(params, shift) -> params`` of a component that was shifted.
    """
    random = np.random.default_rng(seed)
    moved = [
        move(one, _APART * spread * random.standard_normal(spread.shape))
        for one, spread in zip(components, spreads, strict=True)
    ]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(moved))
    dtype = jax.tree.leaves(stacked)[0].dtype
    return {"components": stacked, "log_weights": np.zeros(len(components), dtype)}


def best_weights(
    mixture: Mixture, params: PyTree, values: Callable[[PyTree, PyTree], np.ndarray], noise: PyTree
) -> PyTree:
    """``params`` with the weights that are best for the ELBO.

    Parameters
    ----------
    mixture, params
        The mixture as fitted.
    values
        ``(params, noise) -> log p - log q`` at the draws of ``noise``.
    noise
        Of as many draws as are wanted from every component.
    """
    from scipy.special import log_softmax, ndtri

    logs = np.asarray(log_softmax(np.asarray(params["log_weights"], np.float64)))
    for _ in range(_UPDATES):
        weights = np.exp(logs)
        ends = np.cumsum(weights)
        means = np.empty(mixture.components)
        for k in range(mixture.components):
            which = np.full_like(np.asarray(noise["which"]), ndtri(ends[k] - weights[k] / 2))  # picks component k
            with_k = {**params, "log_weights": logs.astype(params["log_weights"].dtype)}
            means[k] = np.mean(values(with_k, {**noise, "which": which}))
        if not np.all(np.isfinite(means)):
            break
        logs = np.log(np.maximum(np.exp(log_softmax(logs + means)), _SMALLEST_WEIGHT))
        logs = np.asarray(log_softmax(logs))
    return {**params, "log_weights": logs.astype(params["log_weights"].dtype)}
