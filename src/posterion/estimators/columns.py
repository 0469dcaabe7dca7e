"""Columns of a table as inputs of a network: scaled numbers, and indicators of what looks like a category.

Every column that varies is centred and divided by its standard deviation; one with long tails is compressed first, by
asinh of its distance from the median. A column of a few whole numbers, as codes of categories are, gets an indicator
for each value besides, and one with long tails an indicator for a value that many rows have. Large networks also get
numbers in pieces: how far each value has come between one quantile and the next, so that a function may bend wherever
there are data, and the inputs that come from one column are multiplied by how much a first network made of it. Of two
classes they also get the log odds that each number has alone (`segments`): a few exact amounts may say what their
neighbours do not. What is decided depends on the distinct rows and their weights, never on their order.

References
----------
.. [1] Gorishniy, Rubachev and Babenko (2022), On embeddings for numerical features in tabular deep learning. NeurIPS.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from posterion.estimators.segments import Segments

LONG_TAIL = 8.0
"""A column whose largest distance from the median is so many times its standard deviation has long tails."""
FEWEST, MOST = 3, 64
"""Distinct whole numbers that count as categories: two are one indicator already, more are a number."""
ROWS_PER_VALUE = 20
MOST_INDICATORS = 160
"""With more than so many indicators in all, whole numbers are numbers: pixels, not codes."""
HEAVY = 0.2
"""A value that more than this share of the rows has, among many others, gets an indicator: no capital gain, a word not
used."""
ROUNDING = 2.0**-23
"""Of a value, how far another may be from it that is the same in half the precision."""
LARGEST = np.finfo(np.float64).max
MOST_PIECES, PIECES_EACH = 192, 32
"""Pieces of all columns together, and of one."""


@dataclass(frozen=True)
class Columns:
    """How a table becomes inputs; made by `Columns.of`.

    Parameters
    ----------
    kept
        Numbers of the columns that vary.
    middle, spread
        Median and a robust scale of those with long tails; they are compressed by asinh.
    compressed
        Which of the kept columns have long tails.
    mean, scale
        Of the kept columns after that.
    coded
        Numbers of the columns with indicators.
    values
        The values of each of those that have one.
    pieced
        Numbers of the columns that are also given in pieces.
    edges
        Where the pieces of each of those meet.
    relevance
        What each input is multiplied by; None is one.
    segmented
        Numbers of the columns that are also given by the odds of their segments.
    segments
        Of each of those.
    """

    kept: np.ndarray
    middle: np.ndarray
    spread: np.ndarray
    compressed: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    coded: tuple[int, ...] = ()
    values: tuple[np.ndarray, ...] = field(default=())
    pieced: tuple[int, ...] = ()
    edges: tuple[np.ndarray, ...] = field(default=())
    relevance: np.ndarray | None = None
    segmented: tuple[int, ...] = ()
    segments: tuple[Segments, ...] = field(default=())

    @property
    def features(self) -> int:
        """Number of inputs."""
        return len(self.kept) + sum(map(len, self.values)) + sum(len(e) - 1 for e in self.edges) + len(self.segments)

    @classmethod
    @np.errstate(over="ignore")
    def of(
        cls,
        x: Float[np.ndarray, "rows columns"],
        weights: Float[np.ndarray, " rows"],
        *,
        codes: bool,
        compress: bool = True,
    ) -> "Columns":
        """Look at a table. ``codes`` is whether to look for categories, ``compress`` whether for long tails."""
        if not np.all(weights):  # a row of no weight is as if it were not there
            x, weights = x[weights > 0], weights[weights > 0]
        total = weights.sum()
        mean, deviation = moments(x, weights)
        kept = np.flatnonzero(deviation > 1e-10 * np.maximum(np.abs(mean), 1e-300))
        part = x[:, kept]
        middle = _quantile(part, weights, 0.5)
        far = np.abs(part - middle)
        compressed = compress & (far.max(axis=0, initial=0) > LONG_TAIL * deviation[kept])
        spread = deviation[kept].copy()
        for column in np.flatnonzero(compressed):
            away = far[:, column] > 0
            spread[column] = _quantile(far[away][:, [column]], weights[away], 0.5)[0]
        part = _compress(part, middle, spread, compressed)
        mean, scale = moments(part, weights)
        coded, values = _codes_of(x, weights, kept) if codes else ([], [])
        if codes:
            for column in kept[compressed]:
                found, inverse = np.unique(x[:, column], return_inverse=True)
                share = np.bincount(inverse, weights) / total
                if column not in coded and share.max() > HEAVY:
                    coded.append(int(column))
                    values.append(found[[share.argmax()]])
        return cls(kept, middle, spread, compressed, mean, scale, tuple(coded), tuple(values))

    def in_pieces(self, x: Float[np.ndarray, "rows columns"], weights: Float[np.ndarray, " rows"]) -> "Columns":
        """The same with numbers in pieces besides: columns of more than two values whose values have no indicators."""
        whole = {column for column, values in zip(self.coded, self.values, strict=True) if len(values) > 1}
        # Somebody else's indicators are no numbers: a hundred of them would leave the numbers no pieces.
        between = np.any((x != x.min(axis=0)) & (x != x.max(axis=0)), axis=0)
        numbers = [int(column) for column in self.kept if column not in whole and between[column]]
        each = min(PIECES_EACH, MOST_PIECES // max(len(numbers), 1))
        edges = {column: _edges_of(x[:, column], weights, each) for column in numbers} if each > 1 else {}
        edges = {column: found for column, found in edges.items() if len(found) > 2}
        return replace(self, pieced=tuple(edges), edges=tuple(edges.values()))

    def in_segments(
        self,
        x: Float[np.ndarray, "rows columns"],
        outcomes: Float[np.ndarray, " rows"],
        weights: Float[np.ndarray, " rows"],
    ) -> "Columns":
        """The same with the odds of two classes besides, for the columns in pieces that say something alone.

        The rows must be some that nothing is judged by: what they are is in the odds.
        """
        found = {column: Segments.of(x[:, column], outcomes, weights) for column in self.pieced}
        found = {column: segments for column, segments in found.items() if len(segments.starts) > 1}
        return replace(self, segmented=tuple(found), segments=tuple(found.values()))

    def in_segments_of(
        self,
        x: Float[np.ndarray, "rows columns"],
        outcomes: Float[np.ndarray, " rows"],
        weights: Float[np.ndarray, " rows"],
    ) -> "Columns":
        """As many inputs, with the odds that other rows, or other outcomes, have in the columns in segments."""
        return replace(self, segments=tuple(Segments.of(x[:, c], outcomes, weights) for c in self.segmented))

    def inputs(self, x: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows features"]:
        """The inputs of the network for the rows of a table."""
        numbers = _compress(x[:, self.kept], self.middle, self.spread, self.compressed)
        parts = [(numbers - self.mean) / self.scale]
        for column, values, reach in zip(self.coded, self.values, self._reaches, strict=True):
            parts.append((np.abs(x[:, [column]] - values) <= reach).astype(float) - 0.5 * (len(values) == 1))
        for column, edges in zip(self.pieced, self.edges, strict=True):
            parts.append(np.clip((x[:, [column]] - edges[:-1]) / np.diff(edges), 0, 1) - 0.5)
        for column, segments in zip(self.segmented, self.segments, strict=True):
            parts.append(segments.at(x[:, column])[:, None])
        inputs = np.concatenate(parts, axis=1)
        return inputs if self.relevance is None else inputs * self.relevance

    @cached_property
    def _reaches(self) -> tuple[np.ndarray, ...]:
        """How far a cell may be from each value with an indicator to be that value, and no other."""
        gaps = [np.concatenate([[np.inf], np.diff(values), [np.inf]]) for values in self.values]
        nearest = [np.minimum(gap[:-1], gap[1:]) for gap in gaps]
        return tuple(np.minimum(ROUNDING * np.abs(v), near / 3) for v, near in zip(self.values, nearest, strict=True))

    @property
    def origins(self) -> Int[np.ndarray, " features"]:
        """The same number for inputs that share a relevance: those of one column, but for its odds."""
        pairs = [*zip(self.coded, self.values, strict=True), *zip(self.pieced, self.edges, strict=True)]
        lengths = [len(v) for v in self.values] + [len(e) - 1 for e in self.edges]
        columns = np.repeat(np.array([column for column, _ in pairs], int), np.array(lengths, int))
        apart = self.kept.max(initial=0) + 1 + np.array(self.segmented, int)
        return np.concatenate([self.kept, columns, apart])


def moments(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, in units of a power of two so that no square overflows."""
    exponent = np.frexp(np.abs(x).max(axis=0, initial=0))[1]
    units = np.ldexp(x, -exponent)
    mean = weights @ units / weights.sum()
    deviation = np.sqrt(np.maximum(weights @ (units - mean) ** 2 / weights.sum(), 0))
    return np.ldexp(mean, exponent), np.ldexp(deviation, exponent)


def _codes_of(x: np.ndarray, weights: np.ndarray, kept: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Columns that look like categories, with their values."""
    coded, values = [], []
    look = 5 * MOST * ROWS_PER_VALUE
    for column in kept:
        if len(np.unique(x[:look, column])) > MOST:
            continue
        found = np.unique(x[:, column])
        few = FEWEST <= len(found) <= MOST and weights.sum() >= ROWS_PER_VALUE * len(found)
        if few and np.all(found == np.round(found)):
            coded.append(int(column))
            values.append(found)
    return (coded, values) if sum(map(len, values)) <= MOST_INDICATORS else ([], [])


def _edges_of(x: np.ndarray, weights: np.ndarray, pieces: int) -> np.ndarray:
    """Quantiles of what is not a value of many rows, those values, and both ends."""
    found, inverse = np.unique(x, return_inverse=True)
    total = np.bincount(inverse, weights)
    heavy = total > HEAVY * total.sum()
    light, cumulative = found[~heavy], np.cumsum(total[~heavy])
    quantiles = np.zeros(0)
    if len(light):
        levels = np.linspace(0, 1, pieces + 1)[1:-1] * cumulative[-1]
        quantiles = light[np.minimum(np.searchsorted(cumulative, levels), len(light) - 1)]
    return np.unique(np.concatenate([quantiles, found[heavy], found[[0, -1]]]))


def _compress(x: np.ndarray, middle: np.ndarray, spread: np.ndarray, which: np.ndarray) -> np.ndarray:
    if not which.any():
        return x
    with np.errstate(over="ignore"):
        far = np.clip((x - middle) / spread, -LARGEST, LARGEST)
    return np.where(which, np.arcsinh(far), x)


def _quantile(x: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Weighted quantile of each column, by the inverted distribution function."""
    order = np.argsort(x, axis=0, kind="stable")
    cumulative = np.cumsum(weights[order], axis=0)
    index = np.argmax(cumulative >= level * cumulative[-1:] * (1 - 1e-12), axis=0)
    return np.take_along_axis(np.take_along_axis(x, order, 0), index[None], 0)[0]
