"""The log predictive density of given outcomes, per row: log mean_z p(y | z, x), the log of the mean over draws.

Never the mean of the logs, which scores an average member of the posterior instead of the prediction.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from posterion.errors import DataError, UnsupportedModelError
from posterion.predictive.evaluation import Evaluation
from posterion.predictive.statistics import Summary, rules
from posterion.target import Observed
from posterion.target.checks import check_array

_RELIABLE_PROBABILITY = 1e-4
# Mean probabilities in float32 carry an absolute error of about 1e-7 (1 - p near p = 1), one part in a thousand here.


def log_score(
    evaluation: Evaluation, summaries: Mapping[str, Summary], name: str, y: Any
) -> Float[np.ndarray, " rows"]:
    """Log predictive density (numbers) or probability (classes, counts) of the outcomes ``y``, in nats per row.

    Raises
    ------
    DataError
        If ``y`` does not have one finite outcome per row, or holds labels the variable cannot take.
    UnsupportedModelError
        If the model does not give the density of new outcomes.
    """
    target = evaluation.target
    observed, mean = target.observed[name], summaries[name].mean
    rule = rules(target)[name]
    y = _checked_outcomes(name, observed, y, mean.shape[:-1] if rule.endswith("categorical") else mean.shape)
    by_probability = rule in ("binary", "categorical")
    if by_probability:
        if observed.kind == "binary":
            probability = np.where(y == 1, mean, 1.0 - mean)
        else:
            probability = np.take_along_axis(mean, y[..., None].astype(int), axis=-1)[..., 0]
        # Several outcomes in one row share the draw z, so only the model's joint density scores them.
        if probability.ndim == 1 and probability.min() > _RELIABLE_PROBABILITY:
            return np.log(probability)
    slot = evaluation.observed_slots().get(name)
    if slot is None:
        if by_probability and probability.ndim == 1:
            with np.errstate(divide="ignore"):
                return np.log(probability)
        raise UnsupportedModelError(
            f"the log score of {name!r} needs its density at new outcomes, but its observed values are not a data "
            "input of the model; pass them to the model as named data"
        )
    what = target.slots[slot]
    values = check_array(slot, what, y if what.row_axis is None else np.moveaxis(y, 0, what.row_axis))
    return evaluation.with_data({slot: values}).log_mean_density(name, len(y))


def _checked_outcomes(name: str, observed: Observed, y: Any, expected: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(y)
    if values.dtype.kind not in "fiub":
        raise DataError(f"outcomes of {name!r} must be numbers; found the type {values.dtype}")
    if values.shape != expected:
        raise DataError(
            f"outcomes of {name!r} must have the shape {expected}, one per predicted row; found {values.shape}"
        )
    if not np.all(np.isfinite(values)):
        bad = int((~np.isfinite(values)).sum())
        raise DataError(f"{bad} outcomes of {name!r} are missing or infinite; score only rows with known outcomes")
    labels = {"binary": 2, "categorical": observed.num_categories}.get(observed.kind, 0)
    if labels and not np.all(np.isin(values, np.arange(labels))):
        odd = values[~np.isin(values, np.arange(labels))].flat[0]
        raise DataError(f"outcomes of {name!r} must be labels 0 to {labels - 1}; found {odd!r}")
    return values
