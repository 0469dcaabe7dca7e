"""Lazy imports of optional packages, with the extra to install named in the error."""

import importlib
from types import ModuleType

from posterion.errors import MissingExtraError


def import_optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Import ``module`` or say which extra of Posterion brings it.

    Parameters
    ----------
    module
        Dotted name of the module.
    extra
        The extra that installs it, as in ``posterion[extra]``.
    purpose
        What it is needed for, as the subject of the error: "Pictures", "PyMC models".

    Raises
    ------
    MissingExtraError
        If the package is not installed. An error inside an installed package is passed on untouched.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} need the package {package!r}, which is not installed. "
            f"Install it with: pip install 'posterion[{extra}]'"
        ) from error
