"""Which named inputs the outputs of a function really depend on, read from its jaxpr without running it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.interpreters import partial_eval


def used_inputs(function: Callable[[Any], Any], inputs: Mapping[str, Any]) -> frozenset[str]:
    """Names of the arrays in ``inputs`` that ``function(inputs)`` needs.

    An input that only decides shapes counts as not needed, and so does one whose contribution cancels by itself
    (dead code is removed, values are not looked at).

    Parameters
    ----------
    function
        A pure JAX function of one mapping of arrays; its outputs may be any pytree.
    inputs
        Arrays, or `jax.ShapeDtypeStruct`, by name.
    """
    names = sorted(inputs)
    closed = jax.make_jaxpr(lambda *values: function(dict(zip(names, values, strict=True))))(
        *(inputs[n] for n in names)
    )
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return frozenset(name for name, needed in zip(names, used, strict=True) if needed)
