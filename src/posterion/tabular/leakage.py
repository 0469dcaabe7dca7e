"""Columns that give the target away: what one of them predicts alone is rarely known when it would be needed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from posterion.tabular.columns import Schema

if TYPE_CHECKING:
    import pandas as pd

SUSPICIOUS = 0.98
"""Area under the curve (or share of variance) that one column should not reach by itself."""

_MOST_ROWS = 5000
_FOLDS = 3


@dataclass(frozen=True)
class Suspicion:
    """A column that predicts the target nearly by itself.

    Parameters
    ----------
    column
        Its name.
    score
        Cross-validated area under the ROC curve for classes (one class against the rest, averaged), or share of the
        variance explained for numbers, of a small tree that sees nothing else.
    """

    column: str
    score: float

    def __str__(self) -> str:
        return (
            f"column {self.column!r} alone predicts the target ({self.score:.3f} of at most 1): is it known before the "
            "target is? If not, leave it out (--drop)"
        )


def find_leaks(
    frame: "pd.DataFrame", target: np.ndarray, schema: Schema, *, classes: bool, seed: int = 0
) -> tuple[Suspicion, ...]:
    """Columns that predict the target alone, worst first.

    Parameters
    ----------
    frame
        Checked training rows (`check_rows`).
    target
        Labels, or numbers.
    schema
        What the columns are.
    classes
        Whether the target is a label.
    seed
        Of the folds and, beyond 5,000 rows, of the rows that are looked at.
    """
    from sklearn.metrics import get_scorer
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    random = np.random.default_rng(seed)
    rows = np.arange(len(frame))
    if len(rows) > _MOST_ROWS:
        rows = np.sort(random.choice(rows, _MOST_ROWS, replace=False))
    y = np.asarray(target)[rows]
    if classes:
        counts = np.unique(y, return_counts=True)[1]
        if counts.size < 2 or counts.min() < _FOLDS:
            return ()
        folds, scoring = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed), "roc_auc_ovr"
        tree = DecisionTreeClassifier(max_leaf_nodes=16, min_samples_leaf=5, random_state=seed)
    else:
        if len(rows) < 4 * _FOLDS:
            return ()
        folds, scoring = KFold(_FOLDS, shuffle=True, random_state=seed), "r2"
        tree = DecisionTreeRegressor(max_leaf_nodes=64, min_samples_leaf=5, random_state=seed)
    scorer, parts = get_scorer(scoring), list(folds.split(y, y))
    found = []
    for column in schema.columns:
        values = frame[column.name].iloc[rows]
        if column.kind == "category":
            code = {label: k for k, label in enumerate(column.categories)}
            x = values.map(code).fillna(-1).to_numpy(np.float64)
        else:
            x = np.nan_to_num(values.to_numpy(np.float64), nan=column.low - 1.0 if column.kind != "boolean" else -1.0)
        x = x[:, None]
        score = float(np.mean([scorer(tree.fit(x[fit], y[fit]), x[rest], y[rest]) for fit, rest in parts]))
        if score >= SUSPICIOUS:
            found.append(Suspicion(column.name, score))
    return tuple(sorted(found, key=lambda one: -one.score))
