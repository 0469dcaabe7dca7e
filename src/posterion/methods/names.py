"""Methods by the names that users type."""

from collections.abc import Callable

from posterion.errors import OptionError
from posterion.families import FullRank, LowRank
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


def method_of(method: str | AbstractMethod) -> AbstractMethod:
    """The description meant by a name, or the description itself.

    Raises
    ------
    OptionError
        For anything else; the message lists the names.
    """
    if isinstance(method, AbstractMethod):
        return method
    if isinstance(method, str) and method.lower() in METHODS:
        return METHODS[method.lower()]()
    raise OptionError(f"method={method!r} is not known; there are: {', '.join(map(repr, METHODS))}, or ADVI(...)")
