"""From a table to a `TabularModel`: what is held out, what is fitted, and what is found on the way."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from posterion import decisions
from posterion.errors import DataError, OptionError
from posterion.tabular.columns import check_rows, infer_schema
from posterion.tabular.leakage import find_leaks
from posterion.tabular.model import COVERAGE, TabularModel
from posterion.tabular.preparation import make_preparation, to_numbers
from posterion.tabular.scoring import baselines
from posterion.tabular.targets import Target, read_target

if TYPE_CHECKING:
    import pandas as pd

LEAST_HELD_OUT = 20
"""Rows below which scores on held-out rows would be a matter of luck; then none are held out."""

REFERRED = 0.2
"""Share of rows that the rule for referral leaves to a person, unless told otherwise."""

FEW_EXAMPLES = 10
"""Rows of a label below which one is told that it will hardly be learned."""

_REPEATED = 0.05
"""Share of the rows held out from which one is told that they are among the others, too."""
_SAMPLE_ROWS = 2000


@dataclass(frozen=True)
class HeldOut:
    """Rows that nothing was fitted to.

    Parameters
    ----------
    frame
        Checked rows.
    features, outcomes
        As the estimator takes them: codes of the classes, or numbers.
    numbers
        Of the rows in the table as it was given, from 1.
    """

    frame: "pd.DataFrame"
    features: np.ndarray
    outcomes: np.ndarray
    numbers: np.ndarray


def fit_table(
    frame: "pd.DataFrame",
    target: str,
    *,
    task: str = "auto",
    leave_out: Sequence[str] = (),
    held_out: float = 0.2,
    refer: float = REFERRED,
    random_seed: int = 0,
    tell: Callable[[str], Any] = lambda what: None,
) -> tuple[TabularModel, HeldOut | None]:
    """Learn to predict one column of a table from the others.

    Parameters
    ----------
    frame
        Training rows; those without an outcome are left out.
    target
        The column to predict.
    task
        "classification", "regression" or "auto".
    leave_out
        Columns that must not be used.
    held_out
        Share of the rows that scores are computed on, and that nothing is fitted to; 0 for none.
    refer
        Share of the rows that the rule for referral leaves to a person.
    random_seed
        The same seed gives the same model.
    tell
        Is told what is being done.

    Returns
    -------
    tuple
        The model, and the rows held out (None if they would have been too few to judge by).

    Raises
    ------
    DataError
        If the table cannot be used; the message names the column.
    """
    from sklearn.model_selection import train_test_split

    if not 0 <= held_out < 0.9:
        raise OptionError(f"held_out must be a share of the rows from 0 to 0.9, not {held_out!r}")
    unknown = sorted(set(leave_out) - set(frame.columns))
    if unknown:
        raise OptionError(f"cannot leave out the columns {unknown}: the table has {[str(c) for c in frame.columns]}")
    began = time.perf_counter()
    tell("Looking at the columns")
    outcome = read_target(frame, target, task)
    rows = frame.loc[outcome.usable].reset_index(drop=True)
    classes = outcome.classes
    y = np.array([classes.index(label) for label in outcome.values]) if classes else outcome.values
    train, held = np.arange(len(rows)), np.arange(0)
    if round(held_out * len(rows)) >= LEAST_HELD_OUT:
        stratify = y if classes and np.bincount(y).min() >= 2 else None
        parts = train_test_split(train, test_size=held_out, random_state=random_seed, stratify=stratify)
        train, held = (np.asarray(part) for part in parts)
    if classes and len(np.unique(y[train])) < len(classes):
        raise DataError(f"some labels of {target!r} are too rare to be learned: {_rare(outcome)}; join or remove them")
    schema = infer_schema(rows.iloc[train], leave_out=[target, *leave_out], whole=rows)
    checked = check_rows(rows, schema)
    preparation = make_preparation(schema).fit(checked.frame.iloc[train])
    x = to_numbers(preparation, checked.frame)
    tell("Looking for columns that give the target away")
    leaks = find_leaks(checked.frame.iloc[train], y[train], schema, classes=bool(classes), seed=random_seed)
    tell(f"Fitting a Bayesian network to {len(train):,} rows")
    estimator = _estimator(outcome, random_seed)
    at = time.perf_counter()
    estimator.fit(x[train], y[train])
    fitting = time.perf_counter() - at
    sample = _sample(checked.frame, rows[target], train, random_seed)
    model = TabularModel(estimator, preparation, schema, target, outcome.task, tuple(classes), {}, sample)
    summary: dict[str, Any] = {
        "why": outcome.why,
        "rows": {"table": len(frame), "training": len(train), "held_out": len(held)},
        "without_outcome": int(len(frame) - len(rows)),
        "rare_labels": _seldom(outcome),
        "repeated": _repeated(x, y, train, held),
        "left_out_on_request": list(leave_out),
        "suspicions": [{"column": leak.column, "score": leak.score, "text": str(leak)} for leak in leaks],
        "random_seed": random_seed,
        "features": x.shape[1],
    }
    rule = None
    if held.size:
        tell("Scoring on the rows held out")
        found = estimator.predict_summary(x[held], coverage=COVERAGE)
        summary["scores"] = model.score(x[held], y[held], found)
        summary["baselines"] = baselines(outcome.task, (x[train], y[train]), (x[held], y[held]), random_seed)
        if classes:
            # The doubt from which on the wanted share of rows like the held-out ones is left to a person.
            rule = decisions.fit_referral(1 - found["probabilities"].max(axis=1), rate=refer)
            summary["referral"] = {"threshold": rule.threshold, "promise": rule.promise, "share": refer}
    summary["seconds"] = {"fitting": fitting, "all": time.perf_counter() - began}
    summary["made"] = _made()
    model = replace(model, summary=summary, refer_from=None if rule is None else rule.threshold)
    numbers = 1 + np.flatnonzero(outcome.usable)
    return model, HeldOut(checked.frame.iloc[held], x[held], y[held], numbers[held]) if held.size else None


def held_out_of(model: TabularModel, frame: "pd.DataFrame") -> HeldOut:
    """Rows of another table with known outcomes, as those that were held out in training."""
    outcomes, usable = model.outcomes(frame)
    checked = model.check(frame.loc[usable]).frame
    return HeldOut(checked, model.features(checked), outcomes, 1 + np.flatnonzero(usable))


def _estimator(outcome: Target, seed: int) -> Any:
    from posterion import estimators

    kind = estimators.BayesianMLPClassifier if outcome.task == "classification" else estimators.BayesianMLPRegressor
    return kind(random_state=seed)


def _rare(outcome: Target) -> list[str]:
    labels, counts = np.unique(outcome.values.astype(str), return_counts=True)
    return [str(label) for label, count in zip(labels, counts, strict=True) if count < 3][:10]


def _seldom(outcome: Target) -> list[str]:
    """Labels of too few rows to say much about, in words; none for numbers."""
    if outcome.task != "classification":
        return []
    labels, counts = np.unique(outcome.values.astype(str), return_counts=True)
    return [
        f"label {str(label)!r} has only {count} rows: its probabilities are little more than how rare it is"
        for label, count in zip(labels, counts, strict=True)
        if count < FEW_EXAMPLES
    ]


def _repeated(x: np.ndarray, y: np.ndarray, train: np.ndarray, held: np.ndarray) -> str:
    """How many held-out rows are there among the others, value for value, in words; empty where that is no wonder.

    Rows of a few categories repeat by themselves; rows with a number that hardly repeats were copied.
    """
    if not held.size:
        return ""
    rows = [row.tobytes() for row in np.ascontiguousarray(np.column_stack([x, y]) + 0.0)]  # one sign of zero
    known = {rows[k] for k in train}
    share = np.mean([rows[k] in known for k in held])
    if share < _REPEATED:
        return ""
    differ = max((len(np.unique(column)) for column in x.T), default=0)
    if 2 * differ < len(set(rows)):
        return ""
    return (
        f"{share:.0%} of the rows held out are also among those that were fitted, value for value, so these scores say "
        "little of new rows: if rows were copied, by a join for one, remove the copies"
    )


def _sample(checked: "pd.DataFrame", target: "pd.Series", train: np.ndarray, seed: int) -> "pd.DataFrame":
    random = np.random.default_rng(seed)
    some = train if len(train) <= _SAMPLE_ROWS else np.sort(random.choice(train, _SAMPLE_ROWS, replace=False))
    return checked.iloc[some].assign(**{str(target.name): target.iloc[some].to_numpy()}).reset_index(drop=True)


def _made() -> dict[str, str]:
    from importlib import metadata

    import posterion as po

    versions = {name: metadata.version(name) for name in ("jax", "numpy", "scikit-learn")}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "posterion": po.__version__,
        "python": platform.python_version(),
    } | versions
