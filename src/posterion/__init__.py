"""Bayesian models by variational inference in JAX, with a verdict and honest predictions."""

from posterion.families import MeanField
from posterion.fit import fit
from posterion.loading import load
from posterion.methods import ADVI
from posterion.optim.convergence import Rounds
from posterion.posterior.posterior import Posterior

__version__ = "0.1.0"

__all__ = ["ADVI", "MeanField", "Posterior", "Rounds", "fit", "load"]
