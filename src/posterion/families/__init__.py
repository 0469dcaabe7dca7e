"""Families of approximating distributions over unconstrained space."""

from posterion.families.base import AbstractFamily
from posterion.families.mean_field import MeanField

__all__ = ["AbstractFamily", "MeanField"]
