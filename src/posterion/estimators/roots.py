"""Roots of increasing functions, many at once: what quantiles of mixtures are."""

from collections.abc import Callable

import numpy as np

STEPS, ROUNDING = 60, 1e-12
"""Halvings that leave nothing between the ends, and the share of the first bracket below which a step is none."""


def increasing_roots(
    function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Where each entry of an increasing function is zero: Newton's steps, halving wherever one leaves the bracket.

    Parameters
    ----------
    function
        Values and slopes.
    low, high
        Brackets.
    """
    x, closest = 0.5 * (low + high), ROUNDING * (high - low)
    for _ in range(STEPS):
        value, slope = function(x)
        low, high = np.where(value < 0, x, low), np.where(value < 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            proposal = x - value / slope
        inside = (low <= proposal) & (proposal <= high)  # also False for NaN
        after = np.where(inside, proposal, 0.5 * (low + high))
        settled = np.abs(after - x) <= closest
        x = after
        if np.all(settled):
            break
    return x
