"""Everything one asks of a prediction: functions of predictions and arrays, a module per question."""

from posterion.decisions.acquisition import bald, epig, epig_of_numbers, suggest
from posterion.decisions.calibration import Reliability, expected_calibration_error, reliability, wilson_interval
from posterion.decisions.conformal import (
    ConformalIntervals,
    ConformalSets,
    conformal_quantile,
    fit_conformal_intervals,
    fit_conformal_sets,
)
from posterion.decisions.costs import decide, decide_by
from posterion.decisions.explanation import partial_dependence, permutation_importance, sensitivity
from posterion.decisions.interval_coverage import coverage, pit
from posterion.decisions.new_against_old import Drift, drift
from posterion.decisions.out_of_distribution import (
    FeatureDistance,
    auroc,
    detection,
    false_positive_rate,
    fit_feature_distance,
)
from posterion.decisions.recalibration import Isotonic, Temperature, fit_isotonic, fit_temperature
from posterion.decisions.referral import ReferralRule, fit_referral, referral_curve, uncertainties
from posterion.decisions.scores import BrierParts, accuracy, brier_decomposition, brier_score, crps, log_score

__all__ = [
    "BrierParts",
    "ConformalIntervals",
    "ConformalSets",
    "Drift",
    "FeatureDistance",
    "Isotonic",
    "ReferralRule",
    "Reliability",
    "Temperature",
    "accuracy",
    "auroc",
    "bald",
    "brier_decomposition",
    "brier_score",
    "conformal_quantile",
    "coverage",
    "crps",
    "decide",
    "decide_by",
    "detection",
    "drift",
    "epig",
    "epig_of_numbers",
    "expected_calibration_error",
    "false_positive_rate",
    "fit_conformal_intervals",
    "fit_conformal_sets",
    "fit_feature_distance",
    "fit_isotonic",
    "fit_referral",
    "fit_temperature",
    "log_score",
    "partial_dependence",
    "permutation_importance",
    "pit",
    "referral_curve",
    "reliability",
    "sensitivity",
    "suggest",
    "uncertainties",
    "wilson_interval",
]
