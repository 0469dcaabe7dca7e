"""The method that suits a model, by what is cheap to know of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from posterion.families import LowRank
from posterion.methods.advi import ADVI
from posterion.methods.base import AbstractMethod
from posterion.methods.gaussian_vi import GaussianVI
from posterion.methods.laplace import Laplace

_LARGEST_DIMENSION = 300
"""Up to here a full covariance takes at most a few thousand gradients a step, and the mode's curvature 300 products."""
_MANY_ROWS = 200_000
"""From here ten thousand evaluations of all rows take minutes, and so many rows make most posteriors Gaussian."""
_CORRELATED = 2.0
"""Times as wide as independent normals along some direction, from which the strongest correlations are kept."""


@dataclass(frozen=True)
class Auto(AbstractMethod):
    """Picks a method by dimension, rows and a short probe; the posterior's notes say which and why.

    `GaussianVI` for models of up to 300 unknowns, which it fits in tens of steps and corrects by importance; `Laplace`
    for those of more than 200,000 rows. Beyond 300 unknowns a probe of some hundred gradients tells how much wider than
    independent normals the posterior is along its worst direction: `ADVI` by a `LowRank` Gaussian from twice on, else
    by independent normals. Independent normals for networks, and wherever steps, mini-batches or an optimiser
    were asked for.
    """

    def choose(
        self,
        dimension: int,
        *,
        is_network: bool,
        by_steps: str,
        rows: int = 0,
        probe: Callable[[], float] | None = None,
    ) -> tuple[AbstractMethod, str]:
        """A method, and a sentence that says why.

        Parameters
        ----------
        dimension
            Number of unknowns.
        is_network
            Whether the model multiplies activations by weights.
        by_steps
            What asks for a method of steps, such as "batch_size" or "n"; empty if nothing does.
        rows
            Of the data; 0 where the model has none.
        probe
            Gives `probe.missed_width`, if it is asked for; None where there is nothing to look at.
        """
        if by_steps:
            return ADVI(), f"picked ADVI, because {by_steps} is for methods of steps"
        if is_network:
            return ADVI(), "picked ADVI: the model is a network, whose posterior no Gaussian of full covariance meets"
        if dimension > _LARGEST_DIMENSION:
            return _large(dimension, math.nan if probe is None else probe())
        unknowns = f"{dimension} unknown{'s' * (dimension != 1)}"
        if rows > _MANY_ROWS:
            return Laplace(), (
                f"picked Laplace: {rows:,} rows for {unknowns} leave little that is not Gaussian, and 'gaussian' would "
                "look at all of them ten thousand times"
            )
        return GaussianVI(), (
            f"picked GaussianVI: {unknowns}{f' and {rows:,} rows' if rows else ''}, few enough for a full covariance "
            "and for importance weights that correct it"
        )


def _large(dimension: int, width: float) -> tuple[AbstractMethod, str]:
    too_many = f"{dimension:,} unknowns are too many for a full covariance (up to {_LARGEST_DIMENSION})"
    if math.isnan(width):
        return ADVI(), f"picked ADVI: {too_many}, and a probe did not tell how they are correlated"
    if width < _CORRELATED:
        return ADVI(), (
            f"picked ADVI: {too_many}, and by a probe the posterior is nowhere more than {width:.1f} times as wide as "
            "independent normals"
        )
    return ADVI(family=LowRank()), (
        f"picked ADVI with a LowRank family: {too_many}, and by a probe the posterior is along some direction "
        f"{width:.1f} times as wide as independent normals"
    )
