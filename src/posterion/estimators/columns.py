"""Columns of a table as inputs of a network: scaled numbers, and indicators of what looks like a category.

Every column that varies is centred and divided by its standard deviation; one with long tails is compressed first, by
asinh of its distance from the median. A column of a few whole numbers, as codes of categories are, gets an indicator
for each value besides, and one with long tails an indicator for a value that many rows have. What is decided depends on
the distinct rows and their weights, never on their order.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

LONG_TAIL = 8.0
"""A column whose largest distance from the median is so many times its standard deviation has long tails."""
FEWEST, MOST = 3, 32
"""Distinct whole numbers that count as categories: two are one indicator already, more are a number."""
ROWS_PER_VALUE = 20
MOST_INDICATORS = 160
"""With more than so many indicators in all, whole numbers are numbers: pixels, not codes."""
HEAVY = 0.2
"""A value that more than this share of the rows has, among many others, gets an indicator: no capital gain, a word not
used."""


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
    """

    kept: np.ndarray
    middle: np.ndarray
    spread: np.ndarray
    compressed: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    coded: tuple[int, ...] = ()
    values: tuple[np.ndarray, ...] = field(default=())

    @property
    def features(self) -> int:
        """Number of inputs."""
        return len(self.kept) + sum(len(v) for v in self.values)

    @classmethod
    def of(
        cls,
        x: Float[np.ndarray, "rows columns"],
        weights: Float[np.ndarray, " rows"],
        *,
        codes: bool,
        compress: bool = True,
    ) -> "Columns":
        """Look at a table. ``codes`` is whether to look for categories, ``compress`` whether for long tails."""
        total = weights.sum()
        mean = weights @ x / total
        deviation = np.sqrt(np.maximum(weights @ (x - mean) ** 2 / total, 0))
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
        mean = weights @ part / total
        scale = np.sqrt(weights @ (part - mean) ** 2 / total)
        coded, values = _codes_of(x, weights, kept) if codes else ([], [])
        if codes:
            for column in kept[compressed]:
                found, inverse = np.unique(x[:, column], return_inverse=True)
                share = np.bincount(inverse, weights) / total
                if column not in coded and share.max() > HEAVY:
                    coded.append(int(column))
                    values.append(found[[share.argmax()]])
        return cls(kept, middle, spread, compressed, mean, scale, tuple(coded), tuple(values))

    def inputs(self, x: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows features"]:
        """The inputs of the network for the rows of a table."""
        numbers = _compress(x[:, self.kept], self.middle, self.spread, self.compressed)
        parts = [(numbers - self.mean) / self.scale]
        for column, values in zip(self.coded, self.values, strict=True):
            parts.append((x[:, [column]] == values).astype(float) - 0.5 * (len(values) == 1))
        return np.concatenate(parts, axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, as named arrays."""
        named = {name: getattr(self, name) for name in ("kept", "middle", "spread", "compressed", "mean", "scale")}
        lengths = np.array([len(v) for v in self.values], int)
        together = np.concatenate(self.values) if self.values else np.zeros(0)
        return named | {"coded": np.array(self.coded, int), "lengths": lengths, "values": together}

    @classmethod
    def from_arrays(cls, named: dict[str, np.ndarray]) -> "Columns":
        """The inverse of `arrays`."""
        named = dict(named)
        ends = np.cumsum(named.pop("lengths"))
        values = np.split(named.pop("values"), ends[:-1]) if len(ends) else []
        coded = tuple(int(c) for c in named.pop("coded"))
        return cls(**named, coded=coded, values=tuple(values))


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


def _compress(x: np.ndarray, middle: np.ndarray, spread: np.ndarray, which: np.ndarray) -> np.ndarray:
    if not which.any():
        return x
    return np.where(which, np.arcsinh((x - middle) / spread), x)


def _quantile(x: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Weighted quantile of each column, by the inverted distribution function."""
    order = np.argsort(x, axis=0, kind="stable")
    cumulative = np.cumsum(weights[order], axis=0)
    index = np.argmax(cumulative >= level * cumulative[-1:] * (1 - 1e-12), axis=0)
    return np.take_along_axis(np.take_along_axis(x, order, 0), index[None], 0)[0]
