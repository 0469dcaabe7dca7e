"""NumPyro's automatic guides, as the families they are: for those who have one at hand.

A guide brings its own parameters and its own place in NumPyro's effect handlers; what it *is*, though, is a family of
distributions over the same unconstrained vector that Posterion works on. So it is recognised, not run.
"""

from typing import Any

from posterion.errors import OptionError
from posterion.families.base import AbstractFamily
from posterion.families.full_rank import FullRank
from posterion.families.low_rank import LowRank
from posterion.families.mean_field import MeanField

_INSTEAD = {
    "AutoDelta": "method='map'",
    "AutoLaplaceApproximation": "method='laplace'",
}


def is_guide(value: Any) -> bool:
    """Whether something is one of NumPyro's automatic guides, or a class of them."""
    kind = value if isinstance(value, type) else type(value)
    return any(ancestor.__module__ == "numpyro.infer.autoguide" for ancestor in kind.__mro__)


def family_of(guide: Any) -> AbstractFamily:
    """The family that a guide of NumPyro's is.

    Parameters
    ----------
    guide
        An automatic guide, made for whatever model, or its class.

    Raises
    ------
    OptionError
        For a guide that is none of Posterion's families, or a derived one; the message says what to use.
    """
    from numpyro.infer import autoguide

    kind = guide if isinstance(guide, type) else type(guide)
    if kind in (autoguide.AutoNormal, autoguide.AutoDiagonalNormal):
        return MeanField()
    if kind is autoguide.AutoMultivariateNormal:
        return FullRank()
    if kind is autoguide.AutoLowRankMultivariateNormal:
        rank = None if guide is kind else guide.rank
        return LowRank() if rank is None else LowRank(rank=int(rank))
    name = kind.__name__
    instead = f"; use {_INSTEAD[name]}" if name in _INSTEAD else ""
    raise OptionError(
        f"family={name} is none of Posterion's families{instead}. Of NumPyro's guides there are AutoNormal, "
        "AutoDiagonalNormal, AutoMultivariateNormal and AutoLowRankMultivariateNormal"
    )
