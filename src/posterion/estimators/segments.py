r"""Where one number makes a jump in the odds of two classes: segments of a column, chosen by their evidence.

A column's distinct values, or quantiles of them if there are many, are cells in a row. Neighbouring cells make a
segment, within which the outcomes are alike: their evidence is that of a Beta prior around the share of all rows. What
is found is the cut into segments with the highest evidence under a prior in which each segment costs the logarithm of
the number of cells, by dynamic programming over the cells. Each value then has the expected log odds of its segment,
less those of all rows. A column that says nothing alone is one segment.

References
----------
.. [1] Boullé (2006), MODL: a Bayes optimal discretization method for continuous attributes. Machine Learning 65.
.. [2] Scargle, Norris, Jackson and Chiang (2013), Studies in astronomical time series analysis. VI. Bayesian block
   representations. Astrophysical Journal 764.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

MOST_CELLS = 256
PRIOR_ROWS = 2.0
"""Rows that the prior of a segment's share stands for."""


@dataclass(frozen=True)
class Segments:
    """Segments of a column.

    Parameters
    ----------
    starts
        Where each begins: midway between two neighbouring training values, so that a value in another precision is in
        the segment of the value it was rounded from. What is lower than all of them belongs to the first.
    odds
        Log odds of the second class in each, less their mean over the rows.
    """

    starts: Float[np.ndarray, " segments"]
    odds: Float[np.ndarray, " segments"]

    @classmethod
    def of(
        cls,
        x: Float[np.ndarray, " rows"],
        outcomes: Float[np.ndarray, " rows"],
        weights: Float[np.ndarray, " rows"],
    ) -> "Segments":
        """Cut a column by what it says of outcomes that are zero or one."""
        cells = _cells_of(x, weights)
        place = np.searchsorted(cells, x, side="right") - 1
        counts = np.stack(
            [np.bincount(place, weights * share, minlength=len(cells)) for share in (1 - outcomes, outcomes)], axis=1
        )
        prior = PRIOR_ROWS * counts.sum(axis=0) / counts.sum() + 1e-3
        first = _best_cut(counts, prior)
        found = np.add.reduceat(counts, first)
        logs = np.log(found + prior)
        odds = logs[:, 1] - logs[:, 0]
        return cls(cells[first], odds - np.average(odds, weights=found.sum(axis=1)))

    def at(self, x: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Log odds of the segment of each value."""
        return self.odds[np.maximum(np.searchsorted(self.starts, x, side="right") - 1, 0)]


def _cells_of(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Where each cell begins: around all values that there are, or some with about equally many rows between them."""
    values, inverse = np.unique(x, return_inverse=True)
    between = values[:-1] / 2 + values[1:] / 2  # the sum of two might have no number
    starts = np.append(values[0], np.where(between > values[:-1], between, values[1:]))
    if len(values) <= MOST_CELLS:
        return starts
    cumulative = np.cumsum(np.bincount(inverse, weights))
    levels = np.arange(1, MOST_CELLS) / MOST_CELLS * cumulative[-1]
    # The lowest values may have no weight: the first cell begins with them all the same.
    return starts[np.unique(np.append(0, np.searchsorted(cumulative, levels, side="right")))]


def _best_cut(counts: Float[np.ndarray, "cells 2"], prior: Float[np.ndarray, "2"]) -> np.ndarray:
    """Numbers of the cells at which the segments of the best cut begin."""
    cells, before = len(counts), np.vstack([np.zeros(2), np.cumsum(counts, axis=0)])
    best, last = np.zeros(cells + 1), np.zeros(cells + 1, int)
    for end in range(1, cells + 1):
        inside = before[end] - before[:end]
        evidence = special.betaln(*(inside + prior).T) - special.betaln(*prior)
        scores = best[:end] + evidence - np.log(cells)
        last[end] = scores.argmax()
        best[end] = scores[last[end]]
    starts, end = [], cells
    while end > 0:
        end = int(last[end])
        starts.append(end)
    return np.array(starts[::-1])
