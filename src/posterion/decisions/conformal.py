"""Split conformal prediction: sets of labels and intervals that hold what comes true with a promised probability.

Whatever the model, if n held-out rows and a new one are exchangeable, the score of the new one is at or below the
ceil((n + 1) level)-th smallest held-out score with probability at least ``level``, and at most level + 1 / (n + 1) if
scores have no ties [1]_. The promise is for rows on average, not for every kind of row; ``per_class`` makes it for
every true label. It needs rows that neither fitted the model nor chose anything, and it ends where the world changes.

References
----------
.. [1] Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world.
.. [2] Sadinle, Lei and Wasserman (2019), Least ambiguous set-valued classifiers with bounded error levels. JASA 114.
.. [3] Romano, Sesia and Candès (2020), Classification with valid and adaptive coverage. NeurIPS.
.. [4] Romano, Patterson and Candès (2019), Conformalized quantile regression. NeurIPS.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from posterion.decisions._checks import as_classes, as_rows, checked_probabilities, share
from posterion.errors import DataError, OptionError

SetScore = Literal["least_ambiguous", "adaptive"]


@dataclass(frozen=True, eq=False)
class ConformalSets:
    """Sets of labels, from probabilities.

    Parameters
    ----------
    thresholds
        Per label: it belongs to a row's set if its score there is not above.
    score
        "least_ambiguous" or "adaptive".
    level
        Promised probability that a set holds the true label.
    """

    thresholds: np.ndarray
    score: SetScore
    level: float

    def __call__(self, probabilities: Any) -> np.ndarray:
        """Membership, (rows, labels): True where a label belongs to the row's set. A binary outcome has labels 0, 1."""
        p = as_classes(probabilities)
        if p.shape[1] != len(self.thresholds):
            raise DataError(f"fitted for {len(self.thresholds)} labels; found probabilities of {p.shape[1]}")
        return _label_scores(p, self.score) <= self.thresholds


def fit_conformal_sets(
    held_out_probabilities: Any,
    held_out_outcomes: Any,
    *,
    level: float = 0.9,
    score: SetScore = "least_ambiguous",
    per_class: bool = False,
) -> ConformalSets:
    """Fit sets that hold the true label with probability ``level``.

    Parameters
    ----------
    held_out_probabilities
        Of 1 for a binary outcome, one per row; or of each class, one column per class.
    held_out_outcomes
        What came true: 0, 1, ... per row.
    level
        Promised probability.
    score
        "least_ambiguous" takes the labels of more than a certain probability: the smallest sets on average, some of
        them empty where the model knows nothing [2]_. "adaptive" takes the most probable labels up to a certain sum:
        never empty, larger where rows are harder [3]_ (without its randomisation, so that it covers a little more).
    per_class
        Keep the promise for rows of each true label, so that a rare one is not paid for by the others. Needs enough
        held-out rows of each.

    Raises
    ------
    DataError
        If the rows, or those of a label, are too few for the level.
    """
    p, y = checked_probabilities(held_out_probabilities, held_out_outcomes)
    share("level", level)
    if score not in ("least_ambiguous", "adaptive"):
        raise OptionError(f"score must be 'least_ambiguous' or 'adaptive'; found {score!r}")
    classes, y = as_classes(p), y.astype(int)
    scores = np.take_along_axis(_label_scores(classes, score), y[:, None], axis=1)[:, 0]
    labels = classes.shape[1]
    if per_class:
        thresholds = [conformal_quantile(scores[y == k], level, f"held-out rows of label {k}") for k in range(labels)]
    else:
        thresholds = [conformal_quantile(scores, level, "held-out rows")] * labels
    return ConformalSets(np.asarray(thresholds), score, level)


def _label_scores(p: np.ndarray, score: SetScore) -> np.ndarray:
    """How little each label suits each row."""
    if score == "least_ambiguous":
        return 1.0 - p
    order = np.argsort(-p, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1)
    # Up to and including the label, but for the most probable one, which always belongs: a set is never empty.
    sums[:, 0] = 0.0
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


@dataclass(frozen=True)
class ConformalIntervals:
    """Intervals, from those of a model.

    Parameters
    ----------
    margin
        What is added at both ends, in units of the scale; negative if the model's intervals were too wide.
    level
        Promised probability that an interval holds what comes true.
    """

    margin: float
    level: float

    def __call__(self, lower: Any, upper: Any, scale: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends, from the model's own ends and the scale that the fit was given."""
        low, high, by = _ends(lower, upper, scale)
        low, high = low - self.margin * by, high + self.margin * by
        middle = (low + high) / 2
        return np.minimum(low, middle), np.maximum(high, middle)


def fit_conformal_intervals(
    held_out_lower: Any, held_out_upper: Any, held_out_outcomes: Any, *, scale: Any = None, level: float = 0.9
) -> ConformalIntervals:
    """Fit the margin by which a model's intervals must grow, or may shrink, to hold with probability ``level``.

    Quantiles as ends give conformalised quantile regression [4]_; the mean as both ends and the predictive standard
    deviation as scale give intervals as wide as the model is uncertain.

    Parameters
    ----------
    held_out_lower, held_out_upper
        Ends of the model's intervals, (rows,).
    held_out_outcomes
        What came true.
    scale
        Positive numbers by which margins are measured, (rows,); None for the outcome's own unit.
    level
        Promised probability.

    Raises
    ------
    DataError
        If the rows are too few for the level.
    """
    share("level", level)
    low, high, by = _ends(held_out_lower, held_out_upper, scale)
    y = as_rows("held_out_outcomes", held_out_outcomes, rows=len(low))
    return ConformalIntervals(conformal_quantile(np.maximum(low - y, y - high) / by, level, "held-out rows"), level)


def _ends(lower: Any, upper: Any, scale: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low = as_rows("lower ends", lower)
    high = as_rows("upper ends", upper, rows=len(low))
    by = np.ones(len(low)) if scale is None else as_rows("scale", scale, rows=len(low))
    if np.any(low > high):
        raise DataError(f"lower ends must not exceed upper ends; they do in {int(np.sum(low > high))} rows")
    if np.any(by <= 0):
        raise DataError("the scale must be positive in every row")
    return low, high, by


def conformal_quantile(scores: np.ndarray, level: float, what: str = "held-out rows") -> float:
    """The ceil((n + 1) level)-th smallest score: a new exchangeable one is at or below it with probability ``level``.

    Parameters
    ----------
    scores
        Of held-out rows.
    level
        Promised probability.
    what
        What the scores are of, for the error.

    Raises
    ------
    DataError
        If there are fewer than level / (1 - level) scores.
    """
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    if rank > len(scores):
        needed = math.ceil(level / (1 - level) - 1e-9)
        raise DataError(f"{len(scores)} {what} are too few to promise {level:.3g}; at least {needed} are needed")
    return float(np.partition(scores, rank - 1)[rank - 1])
