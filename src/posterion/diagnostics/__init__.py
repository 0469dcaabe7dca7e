"""Diagnostics: how far an approximation can be trusted. Functions of draws only."""

from posterion.diagnostics.collapse import Collapse
from posterion.diagnostics.comparison import NutsComparison
from posterion.diagnostics.corrections import Corrections, correct
from posterion.diagnostics.psis import ParetoSmoothed, khat_threshold, pareto_smooth
from posterion.diagnostics.ranks import RankCalibration
from posterion.diagnostics.score_regression import LocalGaussian, local_gaussian
from posterion.diagnostics.verdict import Verdict, judge

__all__ = [
    "Collapse",
    "Corrections",
    "correct",
    "LocalGaussian",
    "NutsComparison",
    "ParetoSmoothed",
    "RankCalibration",
    "Verdict",
    "judge",
    "khat_threshold",
    "local_gaussian",
    "pareto_smooth",
]
