"""Pictures, one module each: functions of arrays and xarray objects that draw on Matplotlib axes and return them.

They share one look (`posterion.plots.style`): colour-blind-safe colours, and nothing that is told by colour alone.
"""

# ruff: noqa: E402
from posterion._optional import import_optional

import_optional("matplotlib", "plots", "Pictures")  # if it is missing, says which extra brings it

from posterion.plots.classes import plot_classes
from posterion.plots.comparison import plot_comparison
from posterion.plots.effects import plot_dependence, plot_importance
from posterion.plots.elbo import plot_elbo
from posterion.plots.labels import plot_labels
from posterion.plots.parameters import parameters_size, plot_parameters
from posterion.plots.ranks import plot_ranks
from posterion.plots.referral import plot_coverage, plot_referral
from posterion.plots.reliability import plot_reliability
from posterion.plots.style import look, new_figure
from posterion.plots.surface import plot_probability, plot_surface
from posterion.plots.transform import plot_pit
from posterion.plots.uncertainty import plot_uncertainty

__all__ = [
    "look",
    "new_figure",
    "parameters_size",
    "plot_classes",
    "plot_comparison",
    "plot_coverage",
    "plot_dependence",
    "plot_elbo",
    "plot_importance",
    "plot_labels",
    "plot_parameters",
    "plot_pit",
    "plot_probability",
    "plot_ranks",
    "plot_referral",
    "plot_reliability",
    "plot_surface",
    "plot_uncertainty",
]
