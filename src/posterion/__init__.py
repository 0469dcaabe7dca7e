"""Bayesian models by variational inference in JAX, with a verdict and honest predictions.

Names are loaded when they are first used, so that ``posterion --help`` answers before JAX is loaded.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posterion import data, distributed
    from posterion.calibrate import calibrate
    from posterion.checkpoints import Checkpoints
    from posterion.estimators import (
        BayesianLinearRegression,
        BayesianLogisticRegression,
        BayesianMLPClassifier,
        BayesianMLPRegressor,
        BayesianPoissonRegressor,
    )
    from posterion.families import FullRank, LowRank, MeanField, Mixture, NormalizingFlow, Particles, Point
    from posterion.fit import fit
    from posterion.frontends.log_density import log_density
    from posterion.frontends.network import (
        FanInPrior,
        HorseshoePrior,
        InformedPrior,
        LearnedScalePrior,
        Likelihood,
        network,
    )
    from posterion.frontends.stan import stan
    from posterion.loading import load
    from posterion.methods import (
        ADVI,
        IVON,
        MAP,
        SVGD,
        SWAG,
        Auto,
        BatchAndMatch,
        DeterministicADVI,
        GaussianVI,
        Laplace,
        LinearisedLaplace,
        Pathfinder,
        VariationalLastLayer,
    )
    from posterion.optim.convergence import Averaging, Rounds
    from posterion.posterior.posterior import Posterior

__version__ = "0.1.0"

__all__ = [
    "Auto",
    "BatchAndMatch",
    "DeterministicADVI",
    "GaussianVI",
    "Pathfinder",
    "SVGD",
    "SWAG",
    "ADVI",
    "Averaging",
    "BayesianLinearRegression",
    "BayesianLogisticRegression",
    "BayesianMLPClassifier",
    "BayesianMLPRegressor",
    "BayesianPoissonRegressor",
    "Checkpoints",
    "FanInPrior",
    "FullRank",
    "HorseshoePrior",
    "IVON",
    "InformedPrior",
    "Laplace",
    "LearnedScalePrior",
    "Likelihood",
    "LinearisedLaplace",
    "LowRank",
    "MAP",
    "MeanField",
    "Mixture",
    "NormalizingFlow",
    "Particles",
    "Point",
    "Posterior",
    "Rounds",
    "VariationalLastLayer",
    "calibrate",
    "data",
    "distributed",
    "fit",
    "load",
    "log_density",
    "network",
    "stan",
]

_HOMES = {
    "ADVI": "posterion.methods",
    "Averaging": "posterion.optim.convergence",
    "Auto": "posterion.methods",
    "BatchAndMatch": "posterion.methods",
    "BayesianLinearRegression": "posterion.estimators",
    "BayesianLogisticRegression": "posterion.estimators",
    "BayesianMLPClassifier": "posterion.estimators",
    "BayesianMLPRegressor": "posterion.estimators",
    "BayesianPoissonRegressor": "posterion.estimators",
    "Checkpoints": "posterion.checkpoints",
    "DeterministicADVI": "posterion.methods",
    "FanInPrior": "posterion.frontends.network",
    "FullRank": "posterion.families",
    "GaussianVI": "posterion.methods",
    "HorseshoePrior": "posterion.frontends.network",
    "IVON": "posterion.methods",
    "InformedPrior": "posterion.frontends.network",
    "Laplace": "posterion.methods",
    "LearnedScalePrior": "posterion.frontends.network",
    "Likelihood": "posterion.frontends.network",
    "LinearisedLaplace": "posterion.methods",
    "LowRank": "posterion.families",
    "MAP": "posterion.methods",
    "MeanField": "posterion.families",
    "Mixture": "posterion.families",
    "NormalizingFlow": "posterion.families",
    "Particles": "posterion.families",
    "Pathfinder": "posterion.methods",
    "Point": "posterion.families",
    "Posterior": "posterion.posterior.posterior",
    "Rounds": "posterion.optim.convergence",
    "SVGD": "posterion.methods",
    "SWAG": "posterion.methods",
    "VariationalLastLayer": "posterion.methods",
    "calibrate": "posterion.calibrate",
    "fit": "posterion.fit",
    "load": "posterion.loading",
    "log_density": "posterion.frontends.log_density",
    "network": "posterion.frontends.network",
    "stan": "posterion.frontends.stan",
}


_MODULES = ("data", "distributed")
"""Modules that are public by themselves; see `_Package` for what must not be among them."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"posterion.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """`posterion.fit` is the function, also when something imports the module of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
