"""The point a model says to start from: ``initval`` where given, else the support's middle, as in PyMC."""

from collections.abc import Mapping

import numpy as np

from posterion.frontends.pymc.foreign import (
    PYTHON_MODE,
    as_plain,
    find_rng_nodes,
    graph_work,
    make_initial_point_expression,
    pymc,
    pytensor,
    replace_rng_nodes,
    reseed_rngs,
)


class InitialPoint:
    """Starting values of the free variables in unconstrained space, read from the model's current data.

    The graph is kept, not the model: whoever remembers a model's target must not keep the model alive. Evaluated in
    NumPy, since it is needed once.

    Parameters
    ----------
    model
        The model.
    """

    def __init__(self, model: "pymc.Model"):
        with graph_work():
            expressions = make_initial_point_expression(
                free_rvs=model.free_RVs,
                rvs_to_transforms=model.rvs_to_transforms,
                initval_strategies=model.rvs_to_initial_values,
                return_transformed=True,
            )
            self._expressions = replace_rng_nodes([as_plain(e) for e in expressions])
        self._names = [v.name for v in model.free_RVs]
        self._function = None

    def __call__(self, seed: int) -> dict[str, np.ndarray]:
        """Values by the free variables' names; ``seed`` matters where the model asks for a draw from the prior."""
        with graph_work():
            if self._function is None:
                self._function = pytensor.function([], self._expressions, mode=PYTHON_MODE)
            generators = find_rng_nodes(self._function.maker.fgraph.outputs)
            if generators:
                reseed_rngs(generators, seed)
            return dict(zip(self._names, self._function(), strict=True))


def flat(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """All values one after the other, in float64."""
    return np.concatenate([np.ravel(np.asarray(v, "float64")) for v in values.values()])
