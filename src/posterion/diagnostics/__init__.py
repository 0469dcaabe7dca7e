"""Diagnostics: how far an approximation, and a prediction, can be trusted. Functions of draws and arrays only."""

from posterion.diagnostics.calibration import (
    Reliability,
    accuracy,
    brier_score,
    expected_calibration_error,
    log_score,
    reliability,
)
from posterion.diagnostics.psis import ParetoSmoothed, khat_threshold, pareto_smooth
from posterion.diagnostics.verdict import Verdict, judge

__all__ = [
    "ParetoSmoothed",
    "Reliability",
    "Verdict",
    "accuracy",
    "brier_score",
    "expected_calibration_error",
    "judge",
    "khat_threshold",
    "log_score",
    "pareto_smooth",
    "reliability",
]
