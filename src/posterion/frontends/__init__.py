"""Front ends turn somebody's model into a target. Each is a leaf: nothing imports it but `target_of`, when needed."""

import sys
from typing import Any

from posterion.errors import UnsupportedModelError
from posterion.target import AbstractTarget


def target_of(model: Any = None) -> AbstractTarget:
    """The target of a model, whoever wrote it.

    Parameters
    ----------
    model
        A target, a PyMC model, or None for the PyMC model whose ``with`` block is open.

    Raises
    ------
    UnsupportedModelError
        If there is no model, or it is of a kind that no front end knows.
    """
    if isinstance(model, AbstractTarget):
        return model
    pymc = sys.modules.get("pymc")  # somebody who holds a PyMC model has imported it
    if model is None:
        model = pymc.modelcontext(None) if pymc is not None and pymc.Model.get_context(error_if_none=False) else None
        if model is None:
            raise UnsupportedModelError(
                "there is no model to fit: pass one, posterion.fit(model), or call fit inside a PyMC model's with block"
            )
    if pymc is not None and isinstance(model, pymc.Model):
        from posterion.frontends.pymc import from_pymc

        return from_pymc(model)
    raise UnsupportedModelError(
        f"cannot fit {type(model).__module__}.{type(model).__qualname__}: expected a PyMC model or a Posterion target"
    )
