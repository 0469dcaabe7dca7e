"""Methods: frozen descriptions of how a member of a family is found, and what they become for a target."""

from posterion.methods.advi import ADVI
from posterion.methods.auto import Auto
from posterion.methods.base import AbstractDirectMethod, AbstractLoopMethod, AbstractMethod, Problem, Solution
from posterion.methods.batch_and_match import BatchAndMatch
from posterion.methods.deterministic import DeterministicADVI
from posterion.methods.gaussian_vi import GaussianVI
from posterion.methods.ivon import IVON
from posterion.methods.laplace import Laplace
from posterion.methods.last_layer import VariationalLastLayer
from posterion.methods.linearised import LinearisedLaplace
from posterion.methods.maximum import MAP
from posterion.methods.pathfinder import Pathfinder
from posterion.methods.svgd import SVGD
from posterion.methods.swag import SWAG

__all__ = [
    "ADVI",
    "IVON",
    "MAP",
    "SVGD",
    "SWAG",
    "AbstractDirectMethod",
    "AbstractLoopMethod",
    "AbstractMethod",
    "Auto",
    "BatchAndMatch",
    "DeterministicADVI",
    "GaussianVI",
    "Laplace",
    "LinearisedLaplace",
    "Pathfinder",
    "Problem",
    "Solution",
    "VariationalLastLayer",
]
