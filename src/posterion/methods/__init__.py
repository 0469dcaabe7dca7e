"""Methods: frozen descriptions of how a member of a family is found, and what they become for a target."""

from posterion.methods.advi import ADVI
from posterion.methods.base import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod, Problem, Solution
from posterion.methods.ivon import IVON
from posterion.methods.laplace import Laplace
from posterion.methods.linearised import LinearisedLaplace
from posterion.methods.maximum import MAP

__all__ = [
    "ADVI",
    "IVON",
    "MAP",
    "AbstractDirectMethod",
    "AbstractLoopMethod",
    "AbstractMethod",
    "Laplace",
    "LinearisedLaplace",
    "Problem",
    "Solution",
]
