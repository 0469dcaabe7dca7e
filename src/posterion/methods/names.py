"""Methods by the names that users type."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from posterion.errors import OptionError
from posterion.families import AbstractFamily, FullRank, LowRank
from posterion.methods.advi import ADVI
from posterion.methods.auto import Auto
from posterion.methods.base import AbstractMethod
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

METHODS: dict[str, Callable[[], AbstractMethod]] = {
    "advi": ADVI,
    "auto": Auto,
    "fullrank_advi": lambda: ADVI(family=FullRank()),
    "lowrank_advi": lambda: ADVI(family=LowRank()),
    "bam": BatchAndMatch,
    "dadvi": DeterministicADVI,
    "gaussian": GaussianVI,
    "laplace": Laplace,
    "ivon": IVON,
    "map": MAP,
    "linearised_laplace": LinearisedLaplace,
    "pathfinder": Pathfinder,
    "svgd": SVGD,
    "swag": SWAG,
    "variational_last_layer": VariationalLastLayer,
}


def method_of(method: Any) -> AbstractMethod:
    """The description meant by a name, or the description itself.

    Raises
    ------
    OptionError
        For anything else; the message lists the names, the nearest first, and says where a family belongs.
    """
    if isinstance(method, AbstractMethod):
        return method
    if isinstance(method, str) and method.lower() in METHODS:
        return METHODS[method.lower()]()
    if isinstance(method, AbstractFamily):
        raise OptionError(
            f"{method!r} is a family of distributions, which a method fits: write method=posterion.ADVI(family=...)"
        )
    near = get_close_matches(str(method).lower(), METHODS, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise OptionError(
        f"method={method!r} is not known{meant}; there are: {', '.join(map(repr, METHODS))}, or ADVI(...)"
    )
