"""Derivatives of the branch that is not taken.

PyMC's densities choose between formulas, ``switch(z < -1, log(erfcx(-z / sqrt 2) / 2) - z^2 / 2, log1p(...))``, of
which the one not taken may overflow: its derivative is infinite, and JAX multiplies it by the zero that says that it
does not count. 0 * inf is NaN, so that ``jax.grad`` of a censored normal is NaN from 8 standard deviations on in
float64, that of an ordered probit from 5 on in float32. PyTensor's own gradient is spared by rewrites that JAX's does
not pass through (https://github.com/pymc-devs/pymc/issues/5897, open; of the same kind as
https://github.com/pymc-devs/pytensor/issues/2264).

`guard_branches` finds the elementwise operations that serve one branch alone, and wraps them in `Guarded`, which leaves
infinite and undefined partial derivatives out. Values do not change. If such a branch *is* taken at a point where its
derivative is infinite, the value is infinite there as well, which is what callers look at.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from posterion.frontends.pymc.foreign import FunctionGraph, Variable, jax_funcify

# isort: split
from pytensor.graph.basic import Apply
from pytensor.scalar import basic, math
from pytensor.tensor.elemwise import DimShuffle, Elemwise

_SAFE = (
    *(basic.Add, basic.Sub, basic.Neg, basic.Cast, basic.Identity, basic.Second, basic.Switch, basic.Abs, basic.Sign),
    *(basic.Maximum, basic.Minimum, basic.Clip, math.Sigmoid, math.Softplus, math.Erf, math.Erfc),
)
"""Functions whose partial derivatives are finite wherever they are defined, and that need no guard."""


class Guarded(basic.ScalarOp):
    """A scalar function whose infinite and undefined partial derivatives count as zero."""

    __props__ = ("scalar_op",)

    def __init__(self, scalar_op: basic.ScalarOp):
        self.scalar_op = scalar_op
        self.nin, self.nout = scalar_op.nin, scalar_op.nout
        self.nfunc_spec = getattr(scalar_op, "nfunc_spec", None)
        super().__init__(name=f"guarded {scalar_op}")

    def make_node(self, *inputs):
        node = self.scalar_op.make_node(*inputs)
        return Apply(self, node.inputs, [output.type() for output in node.outputs])

    def impl(self, *inputs):
        return self.scalar_op.impl(*inputs)

    def c_code(self, node, name, inputs, outputs, sub):
        return self.scalar_op.c_code(node, name, inputs, outputs, sub)


def guard_branches(fgraph: FunctionGraph) -> None:
    """Guard the operations that serve a single branch of a ``switch``, in place."""
    inside: set[Apply] = set()
    for node in fgraph.toposort():
        if _is_elemwise(node, basic.Switch):
            for branch in node.inputs[1:]:
                inside |= _serving_only(fgraph, branch, node)
    for node in fgraph.toposort():
        if node in inside and _needs_guard(node):
            new = Elemwise(Guarded(node.op.scalar_op))(*node.inputs)
            fgraph.replace(node.outputs[0], new, reason="guard_branches")


def _serving_only(fgraph: FunctionGraph, branch: Variable, switch: Apply) -> set[Apply]:
    """The elementwise nodes all of whose results go into this branch, and nowhere else."""
    if sum(variable is branch for variable in switch.inputs) > 1:
        return set()
    found: set[Apply] = set()
    todo = [branch]
    while todo:
        variable = todo.pop()
        node = variable.owner
        if node is None or node in found or not isinstance(node.op, Elemwise | DimShuffle):
            continue
        clients = {client for output in node.outputs for client, _ in fgraph.clients[output]}
        if clients <= found | {switch}:
            found.add(node)
            todo += node.inputs
    return found


def _is_elemwise(node: Apply, scalar_op: type | tuple[type, ...]) -> bool:
    return isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, scalar_op)


def _needs_guard(node: Apply) -> bool:
    if len(node.outputs) != 1 or not node.outputs[0].type.dtype.startswith("float"):
        return False
    return isinstance(node.op, Elemwise) and not isinstance(node.op.scalar_op, (*_SAFE, Guarded))


def funcify_guarded(op: Guarded, node: Apply, **kwargs) -> Callable:
    """Convert a guarded function: the function's own conversion, with its partial derivatives cleaned."""
    function = jax_funcify(op.scalar_op, node=node, **kwargs)

    def guarded(*arguments):
        # Everything traced is passed through, integers too: a tangent rule that closed over a tracer would leak it into
        # whatever traces the function again (the batch-minor pass does).
        is_array = [isinstance(a, jax.Array) for a in arguments]
        floating = [jnp.issubdtype(a.dtype, jnp.floating) for a in arguments if isinstance(a, jax.Array)]
        if not any(floating):
            return function(*arguments)

        def of_arrays(*arrays):
            given = iter(arrays)
            return function(*(next(given) if t else a for a, t in zip(arguments, is_array, strict=True)))

        arrays = [a for a in arguments if isinstance(a, jax.Array)]
        return _with_finite_partials(of_arrays, floating)(*arrays)

    return guarded


def _with_finite_partials(function: Callable, floating: list[bool]) -> Callable:
    guarded = jax.custom_jvp(function)

    @guarded.defjvp
    def tangent_of(primals, tangents):
        def of_floats(*floats):
            given = iter(floats)
            return function(*(next(given) if f else p for p, f in zip(primals, floating, strict=True)))

        floats = tuple(p for p, f in zip(primals, floating, strict=True) if f)
        total = 0.0
        for k, tangent in enumerate(t for t, f in zip(tangents, floating, strict=True) if f):
            along = [jnp.ones_like(p) if i == k else jnp.zeros_like(p) for i, p in enumerate(floats)]
            _, partial = jax.jvp(of_floats, floats, tuple(along))
            total = total + jnp.where(jnp.isfinite(partial), partial, 0.0) * tangent
        return function(*primals), total

    return guarded
