"""Everything one asks of a prediction: functions of predictions and arrays, a module per question."""

from posterion.decisions.calibration import Reliability, expected_calibration_error, reliability, wilson_interval
from posterion.decisions.coverage import coverage, pit
from posterion.decisions.recalibration import Isotonic, Temperature, fit_isotonic, fit_temperature
from posterion.decisions.scores import BrierParts, accuracy, brier_decomposition, brier_score, crps, log_score

__all__ = [
    "BrierParts",
    "Isotonic",
    "Reliability",
    "Temperature",
    "accuracy",
    "brier_decomposition",
    "brier_score",
    "coverage",
    "crps",
    "expected_calibration_error",
    "fit_isotonic",
    "fit_temperature",
    "log_score",
    "pit",
    "reliability",
    "wilson_interval",
]
