"""What searches for Gaussians of a network's weights share: entries by name, L-BFGS over some, their spreads."""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, Int

from posterion.methods.starts import one_blas_thread
from posterion.target import Layout
from posterion.target.linearised import LinearisedTarget

LARGEST_MATRIX = 6000
"""Weights whose covariance still fits into memory, and whose inverse takes no minutes."""
_LEAST_SPREAD, _MOST_SPREAD = 1e-3, 1.0
_SMALL = 0.02

Evaluate = Callable[[Float[np.ndarray, " dim"]], tuple[float, Float[np.ndarray, " dim"]]]
"""Value and gradient at a whole vector, in double."""


def entries_of(layout: Layout, names: Iterable[str]) -> Int[np.ndarray, " entries"]:
    """Where the variables of these names lie in the whole vector."""
    found = [np.arange(layout.size)[layout.slices[name]] for name in names]
    return np.concatenate(found or [np.empty(0, int)]).astype(int)


def minimise_along(
    evaluate: Evaluate, z: Float[np.ndarray, " dim"], moving: Int[np.ndarray, " entries"], iterations: int
) -> Float[np.ndarray, " dim"]:
    """The whole vector where L-BFGS over some of its entries ends; it steps back from what is not finite."""
    from scipy.optimize import minimize  # a third of a second to import

    def within(part: np.ndarray) -> np.ndarray:
        there = z.copy()
        there[moving] = part
        return there

    def function(part: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluate(within(part))
        gradient = gradient[moving]
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return 1e30, np.zeros_like(part)
        return value, gradient

    with one_blas_thread():
        found = minimize(
            function, z[moving], jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 20}
        )
    return within(found.x)


def spreads_of(
    slope: Callable[[Float[np.ndarray, " dim"]], Float[np.ndarray, " dim"]],
    z: Float[np.ndarray, " dim"],
    entries: Int[np.ndarray, " entries"],
) -> Float[np.ndarray, " entries"]:
    """Standard deviations of entries by the curvature along each, from differences of the slope."""
    curvature = np.empty(len(entries))
    for k, entry in enumerate(entries):
        ahead, behind = z.copy(), z.copy()
        ahead[entry], behind[entry] = z[entry] + _SMALL, z[entry] - _SMALL
        curvature[k] = (slope(ahead)[entry] - slope(behind)[entry]) / (2 * _SMALL)
    return np.clip(1 / np.sqrt(np.maximum(curvature, 1e-12)), _LEAST_SPREAD, _MOST_SPREAD)


def unmoved(count: int) -> Float[np.ndarray, " entries"]:
    """Spreads of entries that were not chosen by the data: nearly points."""
    return np.full(count, _LEAST_SPREAD)


def places_in(target: LinearisedTarget, indices: Int[np.ndarray, " entries"]) -> Int[np.ndarray, " entries"]:
    """Where entries of the whole vector lie among what is free."""
    place = {int(index): position for position, index in enumerate(target.indices)}
    return np.array([place[int(index)] for index in indices], int)
