"""Families of approximating distributions over unconstrained space."""

from posterion.families.base import AbstractDiagonalPlus, AbstractFamily, AbstractGaussian
from posterion.families.empirical import AbstractEmpirical, Particles, Point
from posterion.families.flow import NormalizingFlow
from posterion.families.full_rank import FullRank
from posterion.families.low_rank import LowRank
from posterion.families.mean_field import MeanField
from posterion.families.mixture import Mixture

__all__ = [
    "AbstractEmpirical",
    "AbstractFamily",
    "AbstractDiagonalPlus",
    "AbstractGaussian",
    "FullRank",
    "LowRank",
    "MeanField",
    "Mixture",
    "NormalizingFlow",
    "Particles",
    "Point",
]
