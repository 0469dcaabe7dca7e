"""What a function computes, as a digest that is the same in every process: the names of programs kept on disk.

A jaxpr's own printout will not do: it holds addresses, and it abbreviates arrays. Here every equation is written out
with all its parameters, and whatever is not known to be a plain value makes the function one without a digest, rather
than one of a digest that it could share with another.
"""

import dataclasses
import enum
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jax_core

from posterion.compilation.minor_axis.jaxprs import evaluate

logger = logging.getLogger(__name__)

_RULES = ("jvp_jaxpr_fun", "jvp_jaxpr_thunk")
"""Parameters of a function with its own rule of differentiation that hold the rule, as a function."""
_ORDERS = 2
"""Derivatives that are taken of a log joint: gradients, and products of its Hessian with a vector."""
_WITHOUT_EFFECT = ("cache", "log", "traceback", "explain", "dump", "profil", "tracer")
_MOST_CONSTANTS = 1 << 20
_KNOWN = ("jax.", "posterion.")
"""Whose dataclasses are what their fields say."""
_PLAIN = ("UnspecifiedValue", "ShapedArray", "FTTuple")
"""Classes of JAX whose text says all; of meshes of devices, only empty ones are that simple."""


class NotPlainError(Exception):
    """Something has no text that would be the same in another process."""


def fingerprint(function: Callable, arguments: Sequence[Any]) -> str | None:
    """A digest of a function's jaxpr at these arguments and of JAX's settings, or None if something is not plain.

    Where parts of the function have rules of differentiation of their own (`jax.custom_jvp`), what the rules give is in
    the digest too, up to second derivatives; one that has none of them (a Stan program's gradient) has no digest.
    """
    try:
        return digest_of(_settings(), _Writer().closed(jax.make_jaxpr(function)(*arguments)))
    except Exception:  # a program without a digest is traced as any other, and an error of the function comes there
        logger.debug("%r has no digest", function, exc_info=True)
        return None


def digest_of(*parts: str) -> str:
    """Of several texts, each with its length."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(f"{len(part)}:".encode() + part.encode())
    return whole.hexdigest()


def _settings() -> str:
    """JAX's settings as they are in force, but for those of caches and messages."""
    values = {name: getattr(jax.config, name, value) for name, value in jax.config.values.items()}
    plain = sorted((k, repr(v)) for k, v in values.items() if not any(part in k for part in _WITHOUT_EFFECT))
    if any(" at 0x" in value for _, value in plain):
        raise NotPlainError
    return repr(plain)


def text_of(value: Any) -> str:
    """A description (a dataclass of ours, of plain values) as text.

    Raises
    ------
    NotPlainError
        If there is anything else in it.
    """
    return _Writer()._value(value)


class _Writer:
    """Writes one jaxpr, with its variables numbered in the order they appear.

    Parameters
    ----------
    orders
        Derivatives that rules of differentiation are written out for.
    """

    def __init__(self, orders: int = _ORDERS) -> None:
        self._numbers: dict[Any, int] = {}
        self._bytes, self._orders = 0, orders

    def closed(self, closed: Any) -> str:
        return f"{self._jaxpr(closed.jaxpr)} with {[self._value(constant) for constant in closed.consts]}"

    def _jaxpr(self, jaxpr: Any) -> str:
        if jaxpr.effects:
            raise NotPlainError
        lines = [f"({self._atoms(jaxpr.constvars)};{self._atoms(jaxpr.invars)})"]
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            plain = {key: value for key, value in equation.params.items() if key not in _RULES}
            parameters = [f"{key}={self._value(value)}" for key, value in sorted(plain.items())]
            if len(plain) < len(equation.params) and self._orders:
                parameters.append(f"rule={self._rule(equation)}")
            left, right = self._atoms(equation.outvars), self._atoms(equation.invars)
            lines.append(f"{left}={name}[{' '.join(parameters)}]({right})")
        return "{" + "\n".join([*lines, self._atoms(jaxpr.outvars)]) + "}"

    def _rule(self, equation: Any) -> str:
        """What an equation's rule of differentiation gives, written out for as many orders."""
        operands = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in equation.invars]
        moving = [k for k, operand in enumerate(operands) if jnp.issubdtype(operand.dtype, jnp.inexact)]

        def derived(f: Callable) -> Callable:
            return lambda x, *directions: jax.jvp(lambda x: f(x, *directions[1:]), (x,), (directions[0],))

        def value(x: list, fixed: list) -> list:
            return evaluate(equation, [x[moving.index(k)] if k in moving else part for k, part in enumerate(fixed)])

        function, moved = value, [operands[k] for k in moving]
        for _ in range(self._orders):
            function = derived(function)
        closed = jax.make_jaxpr(function)(moved, *[moved] * self._orders, operands)
        return _Writer(orders=0).closed(closed)

    def _atoms(self, atoms: Sequence[Any]) -> str:
        return ",".join(map(self._atom, atoms))

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, jax_core.Literal):
            name = self._value(atom.val)
        else:
            name = f"v{self._numbers.setdefault(atom, len(self._numbers))}"
        return f"{name}:{self._aval(atom.aval)}"

    def _aval(self, aval: Any) -> str:
        return f"{aval.str_short()}{'~' if getattr(aval, 'weak_type', False) else ''}"

    def _value(self, value: Any) -> str:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.dtype):
            return repr(value)
        if isinstance(value, jax_core.ClosedJaxpr):
            return self.closed(value)
        if isinstance(value, jax_core.Jaxpr):
            return self._jaxpr(value)
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return self._array(value)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, tuple | list):
            return f"{kind}({','.join(map(self._value, value))})"
        if isinstance(value, dict):
            return f"{kind}({','.join(f'{self._value(k)}:{self._value(v)}' for k, v in value.items())})"
        if isinstance(value, frozenset | set):
            return f"{kind}({','.join(sorted(map(self._value, value)))})"
        if isinstance(value, enum.Enum):
            return f"{kind}.{value.name}"
        if isinstance(value, type) and issubclass(value, np.generic):
            return repr(np.dtype(value))
        if dataclasses.is_dataclass(value) and kind.startswith(_KNOWN):
            return kind + self._value({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        if kind.startswith("jax.") and (type(value).__name__ in _PLAIN or getattr(value, "empty", False)):
            text = f"{kind}:{value}"
            if " at 0x" not in text:
                return text
        raise NotPlainError(kind)

    def _array(self, value: Any) -> str:
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            raise NotPlainError
        array = np.asarray(value)
        self._bytes += array.nbytes
        if array.dtype.hasobject or self._bytes > _MOST_CONSTANTS:
            raise NotPlainError
        weak = getattr(value, "weak_type", False)
        return f"{array.dtype}{array.shape}{weak}{hashlib.sha256(array.tobytes()).hexdigest()}"
