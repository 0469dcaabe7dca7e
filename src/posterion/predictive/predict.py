"""The posterior predictive of new rows: draws, a target and data in, a `Prediction` out."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from posterion._typing import Key
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.predictive.evaluation import Evaluation, Progress
from posterion.predictive.prediction import Prediction
from posterion.predictive.statistics import rules
from posterion.target import AbstractRowTarget


def predict(
    target: AbstractRowTarget,
    draws: Float[np.ndarray, "draws dim"],
    data: Mapping[str, Any],
    *,
    key: Key | np.ndarray,
    x64: bool,
    batch_minor: Callable | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """Posterior predictive mean, spread and its decomposition for new rows.

    Averages p(y | z, x) over the posterior draws z, one draw and one block of rows at a time, so that memory stays
    bounded whatever the number of draws and rows. Where the model gives conditional moments in closed form, nothing
    is simulated.

    Parameters
    ----------
    target
        The model. Compiled functions are kept for as long as it lives.
    draws
        Posterior draws in unconstrained space.
    data
        New inputs by name; values may be arrays, lists or pandas objects, whose index then labels the rows.
    key
        Random key; the same key gives the same bits.
    x64
        Whether to compute in double precision.
    batch_minor
        The pass that holds long axes last; None for `compilation.minor_axis.batch_minor`.
    progress
        Called with (done, all) between pieces of work.

    Returns
    -------
    Prediction
        Summaries, computed now; quantiles, draws and scores are computed when asked for.

    Raises
    ------
    DataError
        If the data do not fit the model, or hold no rows.
    OptionError
        If the draws do not fit the model.
    UnsupportedModelError
        If the model has nothing to predict, or outcomes that can neither be summarised nor simulated.
    """
    if not rules(target):
        raise UnsupportedModelError(
            "the model has no observed variable and no deterministic of rows: nothing to predict"
        )
    draws = np.asarray(draws)
    if draws.ndim != 2 or len(draws) == 0 or draws.shape[1] != target.layout.size:
        raise OptionError(
            f"draws must have the shape (draws, {target.layout.size}) with at least one draw; found {draws.shape}"
        )
    complete = target.new_rows(data)
    evaluation = Evaluation(target, draws, complete, key=key, x64=x64, batch_minor=batch_minor)
    if evaluation.num_rows == 0:
        raise DataError("the data to predict hold no rows; pass at least one row for each input")
    return Prediction(evaluation, evaluation.summaries(progress), row_labels=_row_labels(data))


def _row_labels(data: Mapping[str, Any]) -> np.ndarray | None:
    """The index of the first pandas object among the inputs."""
    for values in data.values():
        index = getattr(values, "index", None)
        if index is not None and not callable(index):  # lists and tuples have a method of that name
            return np.asarray(index)
    return None
