"""`TabularModel`: an estimator with the meaning of its columns, so that tables go in and tables come out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from posterion.errors import DataError
from posterion.tabular.columns import Checked, Schema, check_rows
from posterion.tabular.preparation import Numbers
from posterion.tabular.scoring import score_classes, score_numbers
from posterion.tabular.targets import Task, read_target

if TYPE_CHECKING:
    import pandas as pd

COVERAGE = 0.9
"""Of the intervals that predictions of numbers come with."""


@dataclass(frozen=True)
class TabularModel:
    """What was learned from a table.

    Parameters
    ----------
    estimator
        A fitted estimator of `posterion.estimators`.
    preparation
        From checked rows to its numbers (scikit-learn).
    schema
        The columns it takes.
    target
        Name of what it predicts.
    task
        Whether that is a label or a number.
    classes
        Labels, in the estimator's order; none for numbers.
    summary
        What was found in training, as plain values: scores, baselines, notes, seed, versions, seconds.
    sample
        Some training rows (checked) with the target, for pictures, neighbours and drift.
    refer_from
        Doubt (one minus the largest probability) from which on a row should be looked at by somebody; None if there is
        no rule.
    """

    estimator: Any
    preparation: Any
    schema: Schema
    target: str
    task: Task
    classes: tuple[str, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    sample: Any = None
    refer_from: float | None = None

    def check(self, frame: "pd.DataFrame", *, first_row: int = 1) -> Checked:
        """Rows held against the schema; see `check_rows`."""
        return check_rows(frame, self.schema, first_row=first_row)

    def features(self, checked: "pd.DataFrame") -> np.ndarray:
        """Checked rows as the estimator takes them."""
        return self.numbers({name: checked[name].to_numpy() for name in self.schema.names})

    @cached_property
    def numbers(self) -> Numbers:
        """From checked rows, an array for each column, to what the estimator takes."""
        return Numbers(self.preparation)

    def predict(self, frame: "pd.DataFrame", *, first_row: int = 1) -> "pd.DataFrame":
        """What is to be said of new rows.

        Parameters
        ----------
        frame
            New rows with the columns of the schema; others are ignored.
        first_row
            Number of the first row in whatever it was read from, for messages.

        Returns
        -------
        pandas.DataFrame
            For labels ``prediction``, ``probability_<label>`` for each, ``doubt`` (one minus the largest probability),
            ``total``, ``aleatoric`` and ``epistemic`` (entropies in nats) and, if a rule was found,
            ``refer``. For numbers ``prediction`` (the mean), ``lower`` and ``upper`` (90 %), ``std``, ``aleatoric`` and
            ``epistemic`` (standard deviations).
        """
        return self.predict_checked(self.check(frame, first_row=first_row).frame)

    def predict_checked(self, checked: "pd.DataFrame") -> "pd.DataFrame":
        """`predict` for rows that `check` has already seen."""
        import pandas as pd

        found = self.estimator.predict_summary(self.features(checked), coverage=COVERAGE)
        if self.task == "classification":
            probabilities = found["probabilities"]
            columns: dict[str, Any] = {"prediction": np.asarray(self.classes, object)[probabilities.argmax(axis=1)]}
            columns |= {f"probability_{label}": probabilities[:, k] for k, label in enumerate(self.classes)}
            columns["doubt"] = 1 - probabilities.max(axis=1)
            columns |= {name: found[name] for name in ("total", "aleatoric", "epistemic")}
            if self.refer_from is not None:
                columns["refer"] = columns["doubt"] >= self.refer_from
        else:
            columns = {"prediction": found["mean"], "lower": found["low"], "upper": found["high"], "std": found["std"]}
            columns |= {name: np.sqrt(found[name]) for name in ("aleatoric", "epistemic")}
        return pd.DataFrame(columns, index=checked.index)

    def outcomes(self, frame: "pd.DataFrame") -> tuple[np.ndarray, np.ndarray]:
        """Outcomes in a table (codes of the classes, or numbers) and which of its rows have one.

        Raises
        ------
        DataError
            If a label was not among the training rows'.
        """
        target = read_target(frame, self.target, self.task, vary=False)
        if self.task == "regression":
            return target.values, target.usable
        codes = {label: k for k, label in enumerate(self.classes)}
        strange = sorted(set(target.values) - set(codes))
        if strange:
            raise DataError(
                f"the column {self.target!r} has labels that training did not: {strange[:5]}; leave those rows out, or "
                "fit again with examples of them"
            )
        return np.array([codes[label] for label in target.values]), target.usable

    def evaluate(self, frame: "pd.DataFrame") -> dict[str, float]:
        """Scores of the predictions for rows whose outcome is known; see `posterion.decisions` for what they mean."""
        outcomes, usable = self.outcomes(frame)
        x = self.features(self.check(frame.loc[usable]).frame)
        return self.score(x, outcomes)

    def score(
        self, x: np.ndarray, outcomes: np.ndarray, found: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, float]:
        """Scores for features and outcomes as the estimator knows them, and what it says of them if that is known."""
        said = self.estimator.predict_summary(x, coverage=COVERAGE) if found is None else found
        if self.task == "classification":
            return score_classes(said["probabilities"], outcomes)
        inside = (said["low"] <= outcomes) & (outcomes <= said["high"])
        return score_numbers(said["mean"], outcomes, self.estimator.log_score(x, outcomes), inside)

    def log_scores(self, x: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """Log predictive density (or probability) of each row's outcome, in nats."""
        return self.estimator.log_scores(x, outcomes)

    def suggest(self, frame: "pd.DataFrame", count: int) -> "pd.DataFrame":
        """The rows of a pool whose outcome would teach the model most, best first.

        Rows are ordered by their epistemic uncertainty: for labels the mutual information between the outcome and the
        function (BALD, Houlsby et al. 2011). Of rows that are equal in every column only one is suggested.

        Parameters
        ----------
        frame
            Rows without outcomes.
        count
            How many to suggest.
        """
        checked = self.check(frame).frame
        predicted = self.predict_checked(checked)
        order = predicted["epistemic"].sort_values(ascending=False, kind="stable").index
        chosen = checked.loc[order].drop_duplicates().index[:count]
        return beside(frame.loc[chosen], predicted.loc[chosen])

    def drift(self, frame: "pd.DataFrame") -> Any:
        """How far new rows are from the training rows; see `posterion.decisions.drift`."""
        from posterion import decisions

        return decisions.drift(self.sample[self.schema.names], self.check(frame).frame)


def beside(frame: "pd.DataFrame", predicted: "pd.DataFrame") -> "pd.DataFrame":
    """Rows with what is predicted of them; a prediction of a name that is taken gets ``_predicted`` behind it."""
    import pandas as pd

    renamed = {name: f"{name}_predicted" for name in predicted.columns if name in frame.columns}
    return pd.concat([frame, predicted.rename(columns=renamed)], axis=1)
