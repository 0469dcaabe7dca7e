"""The computing steps of the demonstration, each from what it needs to what came out of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

import posterion as po
from posterion.decisions import Reliability, accuracy, brier_score, log_score, reliability
from posterion.demo.data import Data
from posterion.errors import PosterionError


@dataclass(frozen=True)
class Size:
    """How much work the demonstration does.

    Parameters
    ----------
    draws
        Posterior draws of samples and predictions.
    grid
        Lines of the grid, each way.
    steps, minibatch_steps
        Of the fits with a fixed number of steps.
    batch_size
        Rows per step of the mini-batch fits.
    limit
        Steps after which a fit stops anyway; None for the rule's own.
    """

    draws: int = 2500
    grid: int = 100
    steps: int = 30_000
    minibatch_steps: int = 40_000
    batch_size: int = 50
    limit: int | None = None

    def rule(self) -> po.Rounds:
        """The stop rule of the fits that stop by themselves."""
        return po.Rounds() if self.limit is None else po.Rounds(max_steps=self.limit)


QUICK = Size(draws=400, grid=30, steps=2000, minibatch_steps=2000, limit=3000)


@dataclass(frozen=True)
class HeldOut:
    """How good the predictions of held-out rows are.

    Parameters
    ----------
    probability
        Of label 1, per row.
    rows, correct
        How many, and how many of them were predicted rightly.
    accuracy, accuracy_interval
        Share of right predictions, and Wilson's 95 % interval for it.
    log_score, log_score_error
        Mean log probability of what came true in nats, and its standard error over rows.
    base_log_score
        That of predicting the share of label 1 in the fitted half for every row.
    brier
        Mean squared error of the probability.
    table
        Reliability in ten bins of equal width.
    calibration_error, calibration_error_equal_mass
        Expected calibration error in bins of equal width, and of equally many rows.
    """

    probability: np.ndarray
    rows: int
    correct: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    log_score: float
    log_score_error: float
    base_log_score: float
    brier: float
    table: Reliability
    calibration_error: float
    calibration_error_equal_mass: float


@dataclass(frozen=True)
class Surfaces:
    """What is predicted over a grid of the two inputs, as (rows, columns).

    Parameters
    ----------
    line
        The grid's lines, the same for both inputs.
    mean, std, mean_std, epistemic, aleatoric
        As in `Prediction`.
    """

    line: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    mean_std: np.ndarray
    epistemic: np.ndarray
    aleatoric: np.ndarray


def score(data: Data, probability: np.ndarray) -> HeldOut:
    """Compare predicted probabilities with what came true."""
    outcomes, rows = data.Y_test, len(data.Y_test)
    right = accuracy(probability, outcomes)
    per_row = np.log(np.where(outcomes == 1, probability, 1 - probability))
    table = reliability(probability, outcomes)
    return HeldOut(
        probability=probability,
        rows=rows,
        correct=round(right * rows),
        accuracy=right,
        accuracy_interval=wilson(round(right * rows), rows),
        log_score=log_score(probability, outcomes),
        log_score_error=float(np.std(per_row, ddof=1) / np.sqrt(rows)),
        base_log_score=log_score(np.full(rows, np.mean(data.Y_train)), outcomes),
        brier=brier_score(probability, outcomes),
        table=table,
        calibration_error=table.expected_error,
        calibration_error_equal_mass=reliability(probability, outcomes, binning="equal_mass").expected_error,
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion."""
    from posterion.decisions import wilson_interval

    low, high = wilson_interval(np.array([successes]), np.array([trials]))
    return float(low[0]), float(high[0])


def predict_surfaces(posterior: po.Posterior, size: Size) -> Surfaces:
    """Predict the grid [-3, 3] x [-3, 3]."""
    line = np.linspace(-3, 3, size.grid)
    first, second = np.meshgrid(line, line)
    prediction = posterior.predict({"ann_input": np.column_stack([first.ravel(), second.ravel()])}, draws=size.draws)
    names = ("mean", "std", "mean_std", "epistemic", "aleatoric")
    return Surfaces(line, *(getattr(prediction, name)["out"].reshape(first.shape) for name in names))


@contextmanager
def expected_refusal() -> Iterator[list[str]]:
    """Within, something must be refused with one of Posterion's errors; its message is collected.

    Raises
    ------
    RuntimeError
        If it was not refused.
    """
    messages: list[str] = []
    try:
        yield messages
    except PosterionError as error:
        messages.append(str(error))
        return
    raise RuntimeError("a model that should have been refused was accepted")
