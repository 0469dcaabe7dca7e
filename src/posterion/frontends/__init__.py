"""Front ends turn somebody's model into a target. Each is a leaf: nothing imports it but `target_of`, when needed."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from posterion.errors import OptionError, UnsupportedModelError
from posterion.target import AbstractTarget


def target_of(
    model: Any = None, model_args: Sequence[Any] = (), model_kwargs: Mapping[str, Any] | None = None
) -> AbstractTarget:
    """The target of a model, whoever wrote it.

    Parameters
    ----------
    model
        A target, a PyMC model, a compiled BridgeStan model, a NumPyro model function, or None for the PyMC model whose
        ``with`` block is open.
    model_args, model_kwargs
        What a NumPyro model function is called with.

    Raises
    ------
    UnsupportedModelError
        If there is no model, or it is of a kind that no front end knows.
    OptionError
        If there are arguments for something that takes none.
    """
    if (len(model_args) or model_kwargs) and (isinstance(model, AbstractTarget) or not callable(model)):
        raise OptionError(
            f"model_args and model_kwargs are what a NumPyro model function is called with; {type(model).__name__} "
            "takes none"
        )
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
    bridgestan = sys.modules.get("bridgestan")
    if bridgestan is not None and isinstance(model, bridgestan.StanModel):
        from posterion.frontends.stan.bridge import BridgeStanTarget

        return BridgeStanTarget(model)
    if callable(model) and not isinstance(model, type):
        from posterion.frontends.numpyro import from_numpyro

        return from_numpyro(model, model_args, model_kwargs)
    raise UnsupportedModelError(
        f"cannot fit {type(model).__module__}.{type(model).__qualname__}: expected a PyMC model, a NumPyro model "
        "function, a compiled BridgeStan model, or a Posterion target"
    )
