"""PyMC models as targets: an unchanged ``pm.Model`` becomes pure JAX functions of one vector and its data.

The graph of the model is rewritten, not run: PyTensor compiles nothing. See `from_pymc`.
"""

from typing import Any

from posterion._optional import import_optional
from posterion.target import AbstractRowTarget

__all__ = ["from_pymc"]


def from_pymc(model: Any, *, host_callbacks: bool = False) -> AbstractRowTarget:
    """The posterior of a PyMC model as a target.

    The same unchanged model gives the same target again, so that programs compiled for it serve a second fit; data
    changed by ``pm.set_data`` are seen. A model that was changed, or whose data have other shapes, gives a new one.

    Parameters
    ----------
    model
        A ``pymc.Model``.
    host_callbacks
        Call operations that have no JAX version on the host. They run in Python once per evaluation, which makes every
        step many times slower.

    Raises
    ------
    UnsupportedModelError
        If the model has something that cannot be taken over; the message names it and says what to do.
    MissingExtraError
        If PyMC is not installed.
    """
    import_optional("pymc", "pymc", "PyMC models")
    from posterion.frontends.pymc.registry import target_of

    return target_of(model, host_callbacks=host_callbacks)
