"""Calls out of compiled programs into NumPy that keep double precision.

`jax.pure_callback` alone does not. Which precision JAX has is a matter of the thread, the thread that calls back is
one of XLA's, and there JAX rounds whatever passes to single precision, without a word. So numbers of 64 bits travel as
their bits, in whole numbers of 32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array

_WIDE = tuple(map(np.dtype, ("float64", "int64", "uint64", "complex128")))


def call_on_host(function: Callable, results: Sequence[jax.ShapeDtypeStruct], *arguments: Array) -> list[Array]:
    """Call a function of NumPy from compiled code; batches of arguments one after the other.

    Parameters
    ----------
    function
        Takes NumPy arrays of the arguments' shapes and types, and returns a sequence of the results, which are cast to
        the types announced. It must always return the same for the same arguments: it may be called more or less often
        than it stands in the program.
    results
        Shape and type of each result.
    arguments
        What it is called with.
    """
    arguments = tuple(map(jnp.asarray, arguments))
    announced = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments]

    def on_host(*passed: Any) -> list[np.ndarray]:
        found = function(*(_numbers_of(p, a) for p, a in zip(passed, announced, strict=True)))
        return [_bits_of(value, result) for value, result in zip(found, results, strict=True)]

    found = jax.pure_callback(
        on_host, [_as_passed(result) for result in results], *map(_pack, arguments), vmap_method="sequential"
    )
    return [_unpack(value, result) for value, result in zip(found, results, strict=True)]


def difference(
    function: Callable, at: Sequence[Array], direction: Sequence[Array | np.ndarray]
) -> list[Array | np.ndarray]:
    """Derivative of a function of several arrays along a direction, by a central difference; right to ten digits.

    Arrays of whole numbers stay where they are, and derivatives of whole numbers are none.

    Parameters
    ----------
    function
        Takes the arrays and returns a sequence of arrays.
    at, direction
        Where, and along what: tangents as JAX passes them to a rule of `jax.custom_jvp`.
    """
    moves = [jnp.issubdtype(a.dtype, jnp.floating) for a in at]
    precision = min((jnp.finfo(a.dtype).bits for a, moved in zip(at, moves, strict=True) if moved), default=32)
    # No entry moves by more than this share of itself, or of one.
    share = np.cbrt(np.finfo(f"float{precision}").eps)
    speeds = [
        jnp.max(jnp.abs(d) / jnp.maximum(1.0, jnp.abs(a)), initial=0.0)
        for a, d, moved in zip(at, direction, moves, strict=True)
        if moved
    ]
    speed = jnp.max(jnp.stack(speeds), initial=0.0) if speeds else 0.0
    step = share / jnp.where(speed > 0, speed, 1.0)
    moved = lambda sign: [
        a + sign * step.astype(a.dtype) * d if moving else a for a, d, moving in zip(at, direction, moves, strict=True)
    ]
    return [
        (ahead - behind) / (2 * step).astype(ahead.dtype)
        if jnp.issubdtype(ahead.dtype, jnp.floating)
        else np.zeros(ahead.shape, jax.dtypes.float0)
        for ahead, behind in zip(function(*moved(1.0)), function(*moved(-1.0)), strict=True)
    ]


# ---- in compiled code
def _as_passed(what: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    if what.dtype not in _WIDE:
        return what
    return jax.ShapeDtypeStruct((*what.shape, np.dtype(what.dtype).itemsize // 4), jnp.uint32)


def _pack(value: Array) -> Array:
    if value.dtype not in _WIDE:
        return value
    if jnp.iscomplexobj(value):
        return jnp.concatenate([_pack(value.real), _pack(value.imag)], axis=-1)
    return jax.lax.bitcast_convert_type(value, jnp.uint32)


def _unpack(passed: Array, what: jax.ShapeDtypeStruct) -> Array:
    if what.dtype not in _WIDE:
        return passed
    if what.dtype == np.dtype(complex):
        return jax.lax.complex(*(jax.lax.bitcast_convert_type(p, np.float64) for p in jnp.split(passed, 2, axis=-1)))
    return jax.lax.bitcast_convert_type(passed, what.dtype)


# ---- on the host
def _numbers_of(passed: Any, what: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.ascontiguousarray(passed).reshape(-1).view(what.dtype).reshape(what.shape)


def _bits_of(value: Any, what: jax.ShapeDtypeStruct) -> np.ndarray:
    passed = _as_passed(what)
    return np.ascontiguousarray(value, what.dtype).reshape(-1).view(passed.dtype).reshape(passed.shape)
