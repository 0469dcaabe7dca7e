"""Which named inputs the named outputs of a function really depend on, read from its jaxpr without running it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.interpreters import partial_eval


def used_inputs(
    function: Callable[[Mapping[str, Any]], Mapping[str, Any]], inputs: Mapping[str, Any]
) -> dict[str, frozenset[str]]:
    """For each output of ``function(inputs)``, the names of the inputs it needs.

    An input that only decides shapes counts as not needed. Dead code is removed; values are not looked at, so an input
    whose contribution cancels counts as needed.

    Parameters
    ----------
    function
        A pure JAX function from a mapping of arrays to a mapping of pytrees.
    inputs
        Arrays, or `jax.ShapeDtypeStruct`, by name.
    """
    names = sorted(inputs)
    counts: dict[str, int] = {}

    def flat(*values: Any) -> list[Any]:
        outputs = function(dict(zip(names, values, strict=True)))
        leaves = {name: jax.tree.leaves(output) for name, output in outputs.items()}
        counts.update({name: len(found) for name, found in leaves.items()})
        return [leaf for found in leaves.values() for leaf in found]

    closed = jax.make_jaxpr(flat)(*(inputs[name] for name in names))
    needed, start = {}, 0
    for name, count in counts.items():
        wanted = [start <= place < start + count for place in range(len(closed.jaxpr.outvars))]
        _, used = partial_eval.dce_jaxpr(closed.jaxpr, wanted)
        needed[name] = frozenset(name for name, is_used in zip(names, used, strict=True) if is_used)
        start += count
    return needed
