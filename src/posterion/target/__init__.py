"""Targets: unnormalised posteriors over named variables in unconstrained space, with their data slots."""

from posterion.target.layout import Layout, Variable
from posterion.target.network import AbstractNetworkTarget
from posterion.target.target import (
    AbstractRowTarget,
    AbstractTarget,
    JointTerms,
    Moments,
    Observed,
    RowPlan,
    Slot,
    copied_to_device,
)

__all__ = [
    "AbstractNetworkTarget",
    "AbstractRowTarget",
    "AbstractTarget",
    "JointTerms",
    "Layout",
    "Moments",
    "Observed",
    "RowPlan",
    "Slot",
    "Variable",
    "copied_to_device",
]
