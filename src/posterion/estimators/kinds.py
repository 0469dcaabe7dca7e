"""The dataclasses that fitted estimators are made of; what a file may name."""

from posterion.estimators.columns import Columns
from posterion.estimators.ensemble import Calibration, Member
from posterion.estimators.gauss_newton import Mode
from posterion.estimators.kronecker import KroneckerMode
from posterion.estimators.likelihoods import Bernoulli, Categorical, Poisson, StudentT
from posterion.estimators.linear import GridPosterior, LinearGaussian, LinearPosterior
from posterion.estimators.network import Network
from posterion.estimators.segments import Segments

KNOWN = {
    kind.__name__: kind
    for kind in (
        Bernoulli,
        Calibration,
        Categorical,
        Columns,
        GridPosterior,
        KroneckerMode,
        LinearGaussian,
        LinearPosterior,
        Member,
        Mode,
        Network,
        Poisson,
        Segments,
        StudentT,
    )
}
