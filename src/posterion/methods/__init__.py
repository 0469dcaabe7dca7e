"""Methods: frozen descriptions of how a member of a family is found, and what they become for a target."""

from posterion.methods.advi import ADVI
from posterion.methods.base import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod, Problem, Solution

__all__ = ["ADVI", "AbstractDirectMethod", "AbstractLoopMethod", "AbstractMethod", "Problem", "Solution"]
