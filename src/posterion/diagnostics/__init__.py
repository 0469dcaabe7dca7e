"""Diagnostics: how far an approximation can be trusted. Functions of draws only."""

from posterion.diagnostics.psis import ParetoSmoothed, khat_threshold, pareto_smooth
from posterion.diagnostics.verdict import Verdict, judge

__all__ = [
    "ParetoSmoothed",
    "Verdict",
    "judge",
    "khat_threshold",
    "pareto_smooth",
]
