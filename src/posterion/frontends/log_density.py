"""Plain JAX: a log density, or a prior and a likelihood of rows, written by hand, as a target."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, PyTree
from posterion.errors import OptionError
from posterion.frontends.arrays import abstract, as_numbers, slot_of
from posterion.frontends.parameters import Parameters
from posterion.frontends.row_density import RowDensityTarget, RowFunctions
from posterion.target import AbstractTarget


def log_density(
    fn: Callable | None = None,
    *,
    initial: PyTree,
    data: Mapping[str, Any] | None = None,
    log_prior: Callable | None = None,
    log_likelihood: Callable | None = None,
    predict_mean: Callable | None = None,
    predict_variance: Callable | None = None,
    simulate: Callable | None = None,
    kind: str = "numeric",
    name: str = "y",
    supports: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str | None]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> AbstractTarget:
    """A target from functions of your own, for `fit`.

    Either one function ``fn`` gives the whole log density; or ``log_prior`` and ``log_likelihood`` give it apart, with
    one value per row of the data, so that it can be fitted in batches and, with a function that says what to expect,
    can predict. All functions are pure JAX. Arrays they close over are compiled in; those in ``data`` can be replaced.

    Parameters
    ----------
    fn
        ``fn(params)``, or ``fn(params, data)`` if there are data: the log of the unnormalised posterior density, in the
        parameters' own units.
    initial
        The parameters to start from: any nesting of arrays, which the functions get in the same form. Their names are
        their paths, as in ``layers.0.weight``.
    data
        Arrays by name.
    log_prior
        ``log_prior(params)``: the log density of the prior. None means a flat one.
    log_likelihood
        ``log_likelihood(params, batch)``: the log density of each row, shaped (rows,), not scaled. ``batch`` holds the
        arrays of ``data``, with some of their rows.
    predict_mean
        ``predict_mean(params, batch)``: what to expect of each row given the parameters. A probability if ``kind`` is
        "binary", (rows, classes) probabilities if it is "categorical".
    predict_variance
        ``predict_variance(params, batch)``: the variance of a numeric outcome given the parameters.
    simulate
        ``simulate(key, params, batch)``: a random outcome for each row.
    kind
        What the outcome is: "numeric", "binary" or "categorical".
    name
        Of the outcome, in predictions.
    supports
        By path, the constraint of ``numpyro.distributions.constraints`` that a parameter fulfils. Its
        log |d theta / d z| is added, so densities are those of the parameters themselves. Parameters not named are real
        numbers.
    dims, coords
        Names of the axes of parameters, by path, and labels along them.

    Returns
    -------
    AbstractTarget
        For ``posterion.fit(target)``.

    Raises
    ------
    OptionError
        If the functions do not go together, or return something of another shape.
    DataError
        If ``initial`` or ``data`` are not finite numbers, or a parameter starts outside its support.
    """
    parameters = Parameters(initial, supports, dims, coords)
    arrays = {key: as_numbers(key, value) for key, value in (data or {}).items()}
    if log_likelihood is None:
        given = {
            "log_prior": log_prior,
            "predict_mean": predict_mean,
            "predict_variance": predict_variance,
            "simulate": simulate,
        }
        extra = [option for option, function in given.items() if function is not None]
        if fn is None or extra:
            raise OptionError(
                "give fn, the whole log density, or log_likelihood with log_prior"
                + (f"; {', '.join(extra)} goes with log_likelihood" if extra else "")
            )
        return DensityTarget(fn, parameters, arrays)
    if fn is not None:
        raise OptionError("fn is the whole log density: give it alone, or log_prior and log_likelihood without it")
    if kind not in ("numeric", "binary", "categorical"):
        raise OptionError(f"kind must be 'numeric', 'binary' or 'categorical', not {kind!r}")
    if not arrays:
        raise OptionError("log_likelihood needs data={name: array}: its rows are those of the arrays")
    functions = RowFunctions(log_prior, log_likelihood, predict_mean, predict_variance, simulate)
    return RowDensityTarget(functions, parameters, arrays, kind, name)


class DensityTarget(AbstractTarget):
    """A log density and nothing else; made by `log_density`."""

    def __init__(self, fn: Callable, parameters: Parameters, arrays: Mapping[str, np.ndarray]) -> None:
        self._fn, self._parameters, self._data = fn, parameters, dict(arrays)
        self.layout = parameters.layout
        self.slots = MappingProxyType({name: slot_of(array) for name, array in arrays.items()})
        with jax.enable_x64(True):
            z = jax.ShapeDtypeStruct((self.layout.size,), "float64")
            shapes = {name: abstract(slot, arrays[name].shape) for name, slot in self.slots.items()}
            shape = jax.eval_shape(self._value, z, shapes).shape
        if shape != ():
            raise OptionError(
                f"the log density must be one number and has shape {shape}. One value per row is what log_likelihood "
                "gives; a sum is missing otherwise."
            )

    def _value(self, z: Array, data: Data) -> Array:
        params = self._parameters.tree(self._parameters.values(z))
        return jnp.asarray(self._fn(params, data) if self.slots else self._fn(params))

    @property
    def data(self) -> dict[str, np.ndarray]:
        return dict(self._data)

    def log_density(self, z: Float[Array, " dim"], data: Data) -> Float[Array, ""]:
        volume = self._parameters.log_volume(z, self._parameters.values(z))
        return self._value(z, data).astype(z.dtype) + volume

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self._parameters.values(z)

    def initial_point(self, seed: int) -> np.ndarray:
        return self._parameters.start.copy()
