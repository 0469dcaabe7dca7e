"""Models that BridgeStan has compiled, as they are: its shared library is called, nothing is compiled again.

Somebody who uses BridgeStan holds a ``bridgestan.StanModel``: a program and its data. Its functions are called on the
host, out of the compiled fit and back, which costs some 50 microseconds a step more than `posterion.stan`, whose
library XLA calls by itself. Names and shapes are read off the names that BridgeStan gives to single numbers.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data
from posterion.errors import UnsupportedModelError
from posterion.frontends.host_calls import call_on_host, difference
from posterion.target import AbstractTarget, Layout, Variable

_SPEED = (
    "a BridgeStan model is called on the host in every step; posterion.stan(program, data) compiles the same program "
    "so that a step is several times faster"
)
_TRIES = 100
_REACH = 2.0  # Stan's own random starting values are uniform on (-2, 2) in unconstrained space


class BridgeStanTarget(AbstractTarget):
    """A compiled BridgeStan model with its data.

    Parameters
    ----------
    model
        A ``bridgestan.StanModel``, of BridgeStan 2.0 or later.

    Raises
    ------
    UnsupportedModelError
        If the model has no parameters, or comes from an older BridgeStan.
    """

    slots: Mapping = {}
    notes = (_SPEED,)

    def __init__(self, model: Any) -> None:
        if not hasattr(model, "new_rng"):
            raise UnsupportedModelError(
                "the model comes from a BridgeStan before 2.0, whose functions were others: pip install -U bridgestan"
            )
        self.model, self.rejections = model, 0
        # Unless it was compiled with STAN_THREADS, a library has one tape for all threads.
        self._lock = threading.Lock()
        free = list(model.param_unc_names())
        if not free:
            raise UnsupportedModelError(f"{model.name()} has no parameters, so there is no posterior to approximate")
        parameters = shapes_of(model.param_names())
        everything = shapes_of(model.param_names(include_tp=True, include_gq=True))
        self._shapes = everything
        sizes = {name: sum(_top(entry) == name for entry in free) for name in parameters}
        variables = tuple(
            # Stan's order of a constrained matrix's unconstrained entries is its own.
            Variable(name, shape if len(shape) < 2 and _size(shape) == sizes[name] else (sizes[name],), shape)
            for name, shape in parameters.items()
        )
        self.layout = Layout(variables, tuple((name, ()) for name in everything if name not in parameters), ())

    @property
    def data(self) -> dict[str, np.ndarray]:
        """None: BridgeStan keeps the data inside."""
        return {}

    def log_density(self, z: Float[Array, " dim"], data: Data) -> Float[Array, ""]:
        return _with_gradient(lambda z: self._evaluate(z)[:2])(z)

    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        """Parameters, transformed parameters and generated quantities; the same draw has the same ones."""
        size = sum(map(_size, self._shapes.values()))
        [flat] = _call(self._write, [(size,)], z)
        values, start = {}, 0
        for name, shape in self._shapes.items():
            part, start = flat[start : start + _size(shape)], start + _size(shape)
            values[name] = part.reshape(shape[::-1]).transpose()  # the first index runs fastest
        return values

    def initial_point(self, seed: int) -> np.ndarray:
        """Zero in unconstrained space, or if Stan rejects that, a random point as Stan itself would start from."""
        zero, random = np.zeros(self.layout.size), np.random.default_rng(seed)
        z = zero
        for _ in range(_TRIES):
            value, gradient, _ = self._evaluate(z)
            if np.isfinite(value) and np.isfinite(gradient).all():
                return z
            z = random.uniform(-_REACH, _REACH, zero.shape)
        return zero

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        value, _, reason = self._evaluate(np.asarray(z, np.float64))
        name = f"log density, where Stan says: {reason}" if reason else "log density"
        return {name: jnp.asarray(value, z.dtype)}

    # ---- on the host
    def _evaluate(self, z: np.ndarray) -> tuple[float, np.ndarray, str]:
        """Log density and gradient, and Stan's reason where it rejects the point (else empty)."""
        with self._lock:
            try:
                value, gradient = self.model.log_density_gradient(z, propto=False, jacobian=True)
            except RuntimeError as error:
                self.rejections += 1
                return -np.inf, np.full(len(z), np.nan), " ".join(str(error).split())
        return float(value), np.array(gradient), ""

    def _write(self, z: np.ndarray) -> tuple[np.ndarray]:
        """Everything a draw has a value of; its random numbers start from the bits of the draw."""
        with self._lock:
            try:
                seed = np.random.SeedSequence(z.view(np.uint32).tolist()).generate_state(1)[0]
                values = self.model.param_constrain(
                    z, include_tp=True, include_gq=True, rng=self.model.new_rng(int(seed))
                )
            except RuntimeError:
                self.rejections += 1
                values = np.full(sum(map(_size, self._shapes.values())), np.nan)
        return (np.array(values),)


def shapes_of(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shape of each variable, from the names of its single numbers: ``theta.2.3`` is the entry (2, 3) of ``theta``.

    Parts of tuples and complex numbers have other names than that; such a variable is one flat vector.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(_top(name), []).append(name)
    for name, entries in grouped.items():
        indices = [entry[len(name) + 1 :] for entry in entries]
        if all(re.fullmatch(rf"{name}(\.\d+)+", entry) for entry in entries):
            shapes[name] = tuple(int(n) for n in np.max([[*map(int, i.split("."))] for i in indices], axis=0))
        else:
            shapes[name] = () if entries == [name] else (len(entries),)
    return shapes


def _top(name: str) -> str:
    return re.split(r"[.:]", name, maxsplit=1)[0]


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _call(function: Callable, shapes: Sequence[tuple[int, ...]], z: Array) -> list[Array]:
    """Call a function of NumPy, which computes in double precision whatever the fit does."""
    results = [jax.ShapeDtypeStruct(shape, z.dtype) for shape in shapes]
    return call_on_host(lambda z: function(z.astype(np.float64)), results, z)


def _with_gradient(on_host: Callable) -> Callable:
    """The value, whose derivative is the gradient that comes with it."""

    @jax.custom_jvp
    def value_and_gradient(z: Array) -> tuple[Array, Array]:
        value, gradient = _call(on_host, [(), z.shape], z)
        return value, gradient

    @value_and_gradient.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple:
        [direction] = tangents
        value, gradient = value_and_gradient(*primals)
        [product] = difference(lambda z: value_and_gradient(z)[1:], primals, tangents)
        return (value, gradient), (jnp.vdot(gradient, direction), product)

    @jax.custom_jvp
    def value(z: Array) -> Array:
        return value_and_gradient(z)[0]

    @value.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple:
        result, gradient = value_and_gradient(*primals)
        return result, jnp.vdot(gradient, tangents[0])

    return value
