"""A compiled Stan program in this process: its data sets, and its functions as operations of JAX.

Data are opened once and known by a number, which is an ordinary argument of compiled programs (`shim.cpp`).
"""

import ctypes
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from posterion._typing import Array
from posterion.errors import DataError

_FUNCTIONS = ("log_density", "row_density", "hessian_product", "write_array")
_lock = threading.Lock()
_loaded: dict[str, "Library"] = {}


@dataclass(frozen=True)
class Output:
    """One variable that a draw has a value of, as the program declares it with certain data.

    Parameters
    ----------
    name
        As in the program.
    size
        Entries in the unconstrained vector; 0 for what is not a parameter.
    num_values
        How many numbers are written for it.
    shape
        Of its value; a complex number has a last axis of two, a tuple is one flat vector of all its parts.
    """

    name: str
    size: int
    num_values: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Batching:
    """How a program takes some of its rows.

    Parameters
    ----------
    rows
        Data whose first axis is rows.
    size
        The data that say how many rows there are.
    scale
        The data by which the program multiplies the likelihood of the rows.
    """

    rows: tuple[str, ...]
    size: str
    scale: str


class DataSet:
    """Data that a compiled program holds; closed when nobody refers to it.

    Attributes
    ----------
    number
        Under which the program knows them.
    outputs
        Parameters, transformed parameters and generated quantities, in the order they are written.
    """

    def __init__(self, library: "Library", number: int) -> None:
        self._library, self.number = library, number
        weakref.finalize(self, library.native.posterion_close, number).atexit = False
        self.outputs = tuple(self._describe())

    @property
    def size(self) -> int:
        """Length of the unconstrained vector."""
        return sum(output.size for output in self.outputs)

    @property
    def num_values(self) -> int:
        """How many numbers a draw is written as."""
        return sum(output.num_values for output in self.outputs)

    @property
    def rejections(self) -> int:
        """Evaluations that Stan rejected, or that failed, so far."""
        return self._library.native.posterion_rejections(self.number)

    def output_names(self) -> list[str]:
        """A name for each number that is written, as in ``theta.3``."""
        return self._library.native.posterion_output_names(self.number).decode().splitlines()

    def evaluate(self, z: Float[np.ndarray, " dim"]) -> tuple[float, Float[np.ndarray, " dim"], str]:
        """Log density and gradient outside of JAX, and Stan's reason where it rejects the point (else empty)."""
        z, gradient = np.ascontiguousarray(z, np.float64), np.empty(self.size)
        value = self._library.native.posterion_evaluate(self.number, z.ctypes.data, gradient.ctypes.data)
        return value, gradient, self._library.text()

    def _describe(self) -> list[Output]:
        rows = self._library.native.posterion_variables(self.number).decode().splitlines()
        fields = [row.split() for row in rows]
        return [Output(name, int(size), int(n), tuple(map(int, shape))) for name, size, n, *shape in fields]


class Library:
    """A compiled program, loaded.

    Parameters
    ----------
    path
        The shared library.
    threading_library
        TBB, which it needs.

    Attributes
    ----------
    native
        Its functions for Python; see ``shim.cpp``.
    shared
        What was compiled for targets of this program, by the shapes of their variables, as long as one of them lives.
    log_density
        ``(number, z) -> value``: of the data of this number, with derivatives.
    row_density
        ``(number, rows, z) -> value``: of some of their rows, scaled up to all, with a gradient.
    """

    def __init__(self, path: Path, threading_library: Path) -> None:
        # Loaded first and under its own name, so that the program finds it wherever the environment has moved to.
        ctypes.CDLL(str(threading_library), mode=ctypes.RTLD_GLOBAL)
        self.native = ctypes.CDLL(str(path))
        self._declare()
        self._prefix = f"posterion_stan_{path.stem}"
        for name in _FUNCTIONS:
            capsule = jax.ffi.pycapsule(getattr(self.native, f"posterion_{name}"))
            jax.ffi.register_ffi_target(f"{self._prefix}_{name}", capsule, platform="cpu")
        self.shared: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.log_density = self._differentiable()
        self.row_density = self._differentiable_once()

    def open(self, data: Mapping[str, np.ndarray], batching: Batching | None = None) -> DataSet:
        """Give the program data: Stan checks them and runs its transformed data.

        Parameters
        ----------
        data
            Arrays by name, of the declared kinds.
        batching
            How the program takes some of its rows, if it does.

        Raises
        ------
        DataError
            With Stan's words, if it refuses them.
        """
        reals = {name: value for name, value in data.items() if value.dtype.kind == "f"}
        ints = {name: value for name, value in data.items() if value.dtype.kind != "f"}
        row_names, size, scale = ((), "", "") if batching is None else (batching.rows, batching.size, batching.scale)
        names = [text.encode() for text in ("".join(f"{name}\n" for name in row_names), size, scale)]
        arguments = [*_flat(reals, np.float64), *_flat(ints, np.int32), *names]
        number = self.native.posterion_open(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))
        if number == 0:
            raise DataError(f"Stan refuses the data: {_tidy(self.text())}")
        return DataSet(self, number)

    def text(self) -> str:
        """What the last call in this thread had to say."""
        return _tidy(self.native.posterion_text().decode(errors="replace"))

    def write_array(self, number: Int[Array, ""], z: Float[Array, " dim"], num_values: int) -> Float[Array, " values"]:
        """Everything a draw has a value of, one number after another.

        Generated quantities draw random numbers from a generator that starts from the bits of ``z``: another draw has
        others, the same draw the same.
        """
        return self._call("write_array", [jax.ShapeDtypeStruct((num_values,), z.dtype)], number, z)[0]

    def _differentiable(self) -> Callable:
        """``(number, z) -> log density``, with a gradient, of which there are forward derivatives."""

        @jax.custom_jvp
        def value_and_gradient(number: Array, z: Array) -> tuple[Array, Array]:
            results = [jax.ShapeDtypeStruct((), z.dtype), jax.ShapeDtypeStruct(z.shape, z.dtype)]
            value, gradient = self._call("log_density", results, number, z)
            return value, gradient

        @value_and_gradient.defjvp
        def _(primals: tuple, tangents: tuple) -> tuple:
            (number, z), (_, direction) = primals, tangents
            value, gradient = value_and_gradient(number, z)
            [product] = self._call("hessian_product", [jax.ShapeDtypeStruct(z.shape, z.dtype)], number, z, direction)
            return (value, gradient), (jnp.vdot(gradient, direction), product)

        return _with_gradient(value_and_gradient)

    def _differentiable_once(self) -> Callable:
        """``(number, rows, z) -> log density``, with a gradient."""

        def value_and_gradient(number: Array, rows: Array, z: Array) -> tuple[Array, Array]:
            results = [jax.ShapeDtypeStruct((), z.dtype), jax.ShapeDtypeStruct(z.shape, z.dtype)]
            value, gradient = self._call("row_density", results, number, rows, z)
            return value, gradient

        return _with_gradient(value_and_gradient)

    def _call(self, name: str, results: list[jax.ShapeDtypeStruct], *operands: Array) -> Sequence[Array]:
        # Batches of points come with a batch of numbers, and Stan takes one after another inside the call.
        return jax.ffi.ffi_call(f"{self._prefix}_{name}", results, vmap_method="broadcast_all")(*operands)

    def _declare(self) -> None:
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
        half = (text, pointer, pointer)
        for name, result, arguments in [
            ("open", number, (*half, *half, text, text, text)),
            ("close", None, (number,)),
            ("text", text, ()),
            ("variables", text, (number,)),
            ("output_names", text, (number,)),
            ("evaluate", ctypes.c_double, (number, pointer, pointer)),
            ("rejections", ctypes.c_int64, (number,)),
        ]:
            function = getattr(self.native, f"posterion_{name}")
            function.restype, function.argtypes = result, arguments


def load(path: Path, threading_library: Path) -> Library:
    """The library of this file, loaded once in a process: its name says what it was made of, wherever it lies."""
    with _lock:
        if path.stem not in _loaded:
            _loaded[path.stem] = Library(path, threading_library)
        return _loaded[path.stem]


def _with_gradient(value_and_gradient: Callable) -> Callable:
    """The value, whose derivative with respect to the last argument is the gradient that comes with it."""

    @jax.custom_jvp
    def value(*operands: Array) -> Array:
        return value_and_gradient(*operands)[0]

    @value.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple:
        result, gradient = value_and_gradient(*primals)
        return result, jnp.vdot(gradient, tangents[-1])

    return value


def _flat(arrays: Mapping[str, np.ndarray], dtype: type) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Names, values with the first index running fastest, and shapes: what `posterion_open` wants."""
    values = [np.asarray(a, dtype).ravel(order="F") for a in arrays.values()]
    shapes = [n for a in arrays.values() for n in (a.ndim, *a.shape)]
    whole = np.concatenate(values) if values else np.empty(0, dtype)
    return "".join(f"{name}\n" for name in arrays).encode(), whole, np.asarray(shapes, np.int64)


def _tidy(message: str) -> str:
    """Stan's message in one line; `Exception:` says nothing."""
    return " ".join(message.replace("Exception: ", "").split())
