"""What can be served: a model that says which columns it takes and what it thinks of rows of them.

`ServedModel` is a protocol, so that a folder written by the command line, a posterior and a fake are served alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from posterion.errors import DataError

Kind = Literal["number", "category", "boolean", "date"]
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Input:
    """One column that a model takes.

    Parameters
    ----------
    name
        As in the tables of the model's user.
    kind
        What its cells hold. The model gets a date as a number, in years since 1970; people write ``2020-03-31``.
    categories
        The labels of a category.
    low, high, middle
        Range and median of a number among the training rows.
    whole
        Whether its numbers are whole.
    """

    name: str
    kind: Kind = "number"
    categories: tuple[str, ...] = ()
    low: float = math.nan
    high: float = math.nan
    middle: float = math.nan
    whole: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of rows.

    Parameters
    ----------
    mean
        Probabilities (rows, classes), or expected numbers (rows,).
    low, high
        Bounds, shaped as the mean: of the probability over the posterior (a credible interval), or of the number that
        will be observed (a prediction interval).
    aleatoric, epistemic
        Noise and ignorance, (rows,): in nats for classes, as variances for numbers.
    notes
        Sentences about the rows: labels never seen, values far outside.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def uncertainty(self) -> np.ndarray:
        """What rows are referred by: noise and ignorance together, (rows,)."""
        return self.aleatoric + self.epistemic

    def first(self, rows: int) -> "Answer":
        """The answer for the first rows only.

        Parameters
        ----------
        rows
            How many.
        """
        mean, low, high = self.mean[:rows], self.low[:rows], self.high[:rows]
        return Answer(mean, low, high, self.aleatoric[:rows], self.epistemic[:rows], self.notes)

    @staticmethod
    def joined(answers: Sequence["Answer"]) -> "Answer":
        """Answers of consecutive rows as one.

        Parameters
        ----------
        answers
            At least one.
        """
        if len(answers) == 1:
            return answers[0]
        every = lambda name: np.concatenate([getattr(answer, name) for answer in answers])
        notes = tuple(dict.fromkeys(note for answer in answers for note in answer.notes))
        return Answer(every("mean"), every("low"), every("high"), every("aleatoric"), every("epistemic"), notes)


@runtime_checkable
class ServedModel(Protocol):
    """A model that can be served."""

    @property
    def name(self) -> str:
        """What to call it on the page."""
        ...

    @property
    def target(self) -> str:
        """What it predicts."""
        ...

    @property
    def task(self) -> str:
        """Either "classification" or "regression"."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of the probabilities; empty for numbers."""
        ...

    @property
    def inputs(self) -> Sequence[Any]:
        """The columns it takes, as `Input` describes them."""
        ...

    @property
    def takes_missing(self) -> bool:
        """Whether cells may be empty."""
        ...

    @property
    def training(self) -> Any:
        """Some training rows with their outcomes, a DataFrame of the inputs and the target; None if none are kept."""
        ...

    def predict(self, frame: Any) -> Answer:
        """Predict a DataFrame of the inputs: numbers as float64, categories as text, truth values as 0 and 1.

        Parameters
        ----------
        frame
            Its rows.
        """
        ...


def inputs_of(frame: Any) -> tuple[Input, ...]:
    """Describe the columns of a DataFrame of training rows: numbers by their range, all else by its labels.

    Parameters
    ----------
    frame
        Training rows, the inputs only.

    Raises
    ------
    DataError
        If a column has no values.
    """
    found = []
    for name in frame.columns:
        known = frame[name].dropna()
        if len(known) == 0:
            raise DataError(f"column {name!r} has no values")
        if known.dtype.kind == "b":
            found.append(Input(str(name), "boolean"))
        elif known.dtype.kind in "fiu":
            low, middle, high = (float(v) for v in np.quantile(known, (0.0, 0.5, 1.0)))
            whole = bool(np.all(np.asarray(known) == np.floor(known)))
            found.append(Input(str(name), "number", (), low, high, middle, whole))
        else:
            labels = known.astype(str).value_counts().index
            found.append(Input(str(name), "category", tuple(map(str, labels))))
    return tuple(found)
