"""`load`: a posterior from its file, with the model bound to it again if one is given."""

from os import PathLike
from typing import Any

from posterion.frontends import target_of
from posterion.posterior import saved
from posterion.posterior.posterior import Posterior


def load(path: str | PathLike, model: Any = None) -> Posterior:
    """Read a posterior that `Posterior.save` wrote. It predicts without the model's source or its package.

    Parameters
    ----------
    path
        The file.
    model
        The model the posterior was fitted to. Needed only when the functions in the file no longer load, because they
        outlived the versions of JAX that read them: then the same parameters are bound to the model again.

    Raises
    ------
    PosteriorFileError
        If the file is not a saved posterior, is damaged, was written by a newer version, or does not fit the model.
    """
    return saved.load(path, bind=None if model is None else lambda: target_of(model))
