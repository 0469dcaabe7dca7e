"""The method that suits a model, by what can be told of it before any work."""

from dataclasses import dataclass

from posterion.methods.advi import ADVI
from posterion.methods.base import AbstractMethod
from posterion.methods.gaussian_vi import GaussianVI

_LARGEST_DIMENSION = 300
"""Up to here a full covariance takes at most a few thousand gradients a step, and the mode's curvature 300 products."""


@dataclass(frozen=True)
class Auto(AbstractMethod):
    """Picks a method, and says in the posterior's notes which and why.

    `GaussianVI` for smooth models of up to 300 variables, which it fits in tens of steps and corrects by importance;
    `ADVI` with independent normals for networks, for more variables, and wherever steps, mini-batches or an optimiser
    were asked for.
    """

    def choose(self, dimension: int, *, is_network: bool, by_steps: str) -> tuple[AbstractMethod, str]:
        """A method, and a sentence that says why.

        Parameters
        ----------
        dimension
            Number of unknowns.
        is_network
            Whether the model multiplies activations by weights.
        by_steps
            What asks for a method of steps, such as "batch_size" or "n"; empty if nothing does.
        """
        if by_steps:
            return ADVI(), f"picked ADVI, because {by_steps} is for methods of steps"
        if is_network:
            return ADVI(), "picked ADVI: the model is a network, whose posterior no Gaussian of full covariance meets"
        if dimension > _LARGEST_DIMENSION:
            return ADVI(), (
                f"picked ADVI: {dimension:,} unknowns are too many for a full covariance (up to {_LARGEST_DIMENSION}); "
                "'lowrank_advi' keeps the strongest correlations"
            )
        return GaussianVI(), (
            f"picked GaussianVI: {dimension} unknown{'s' * (dimension != 1)}, few enough for a full covariance and for "
            "importance weights that correct it"
        )
