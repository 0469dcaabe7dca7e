"""From a PyTensor graph whose shapes are all known to a JAX function."""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import jax
import numpy as np

from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc import dispatch
from posterion.frontends.pymc.foreign import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    Alloc,
    ARange,
    CheckAndRaise,
    Constant,
    Eigvalsh,
    Elemwise,
    FunctionGraph,
    Nonzero,
    RandomType,
    Repeat,
    Reshape,
    Scan,
    TensorType,
    Unique,
    Variable,
    as_plain,
    dfs_rewriter,
    get_mode,
    graph_work,
    jax_funcify,
    node_rewriter,
    pt,
)
from posterion.frontends.pymc.refusals import no_jax_rule
from posterion.frontends.pymc.substitute import ancestors, substitute

_TRUNCATED = r"Explicitly requested dtype .* (is not available|requested in)"
_filter_guard = threading.Lock()
_num_quiet = 0
_filters: list = []


class ValuesNeededError(Exception):
    """Inputs (by position) whose values fix the shape of something, so that they cannot be arguments in JAX."""

    def __init__(self, positions: set[int]):
        super().__init__(f"the values of inputs {sorted(positions)} fix shapes")
        self.positions = positions


@contextmanager
def quiet() -> Iterator[None]:
    """Within: no warning that a float64 asked for by the graph is a float32 in this precision; that is the intention.

    Unlike `warnings.catch_warnings`, overlapping uses by several threads leave the filters as they were.
    """
    global _num_quiet
    with _filter_guard:
        if _num_quiet == 0:
            warnings.filterwarnings("ignore", message=_TRUNCATED)
            _filters[:] = [warnings.filters[0]]
        _num_quiet += 1
    try:
        yield
    finally:
        with _filter_guard:
            _num_quiet -= 1
            if _num_quiet == 0 and _filters[0] in warnings.filters:
                warnings.filters.remove(_filters[0])  # type: ignore[attr-defined]


@node_rewriter([CheckAndRaise])
def _drop_check(fgraph, node):
    """JAX cannot raise inside a program; transforms keep free variables legal, and a bad value gives NaN."""
    return [node.inputs[0]]


def drop_checks(outputs: Sequence[Variable]) -> list[Variable]:
    """Graphs without the operations that raise on illegal parameters."""
    fgraph = FunctionGraph(outputs=list(outputs), clone=True, copy_inputs=False)
    dfs_rewriter(_drop_check).rewrite(fgraph)
    return list(fgraph.outputs)


@dataclass(frozen=True)
class Rewritten:
    """A graph made ready for JAX: rewritten by PyTensor and us, its shapes known.

    Parameters
    ----------
    fgraph
        The graph.
    names
        Of its outputs.
    samples
        Whether it draws random values.
    """

    fgraph: FunctionGraph
    names: tuple[str, ...]
    samples: bool


def rewritten(inputs: Sequence[Variable], outputs: Mapping[str, Variable], *, samples: bool) -> Rewritten:
    """Rewrite a graph for JAX; this is most of the work, and the same for both precisions.

    Parameters
    ----------
    inputs
        Root variables with static shapes.
    outputs
        By name, for messages.
    samples
        Whether the graph may draw random values.

    Raises
    ------
    ValuesNeededError
        If the values of inputs fix shapes.
    """
    with graph_work():
        fgraph = FunctionGraph(list(inputs), [as_plain(v) for v in outputs.values()], clone=True)
        dfs_rewriter(_drop_check).rewrite(fgraph)
        get_mode("JAX").optimizer.rewrite(fgraph)
        dispatch.rewrites(fgraph)
        if not samples and any(isinstance(v.type, RandomType) and fgraph.clients[v] for v in fgraph.inputs):
            raise UnsupportedModelError(f"{', '.join(outputs)} depends on random draws where a fixed value is needed.")
        fixed = _inputs_that_fix_shapes(fgraph)
        if fixed:
            raise ValuesNeededError(fixed)
        return Rewritten(fgraph, tuple(outputs), samples)


def to_jax(ready: Rewritten, *, x64: bool, host_callbacks: bool = False) -> Callable:
    """A JAX function of the graph's inputs that returns the list of its outputs.

    Parameters
    ----------
    ready
        The graph.
    x64
        Whether the function will run in double precision.
    host_callbacks
        Call operations without a JAX version on the host.

    Raises
    ------
    UnsupportedModelError
        If an operation has no JAX version.
    """
    # Constants are made here and now: outside of any trace, and in the precision they will be used in.
    with graph_work(), quiet(), jax.enable_x64(x64), jax.ensure_compile_time_eval(), dispatch.repaired():
        fgraph = _upcast_constants(ready.fgraph) if x64 else ready.fgraph
        with _on_host() if host_callbacks else nullcontext():
            try:
                return jax_funcify(fgraph)
            except NotImplementedError as error:
                names = _names_without_rule(fgraph, ready.names) or ready.names
                raise no_jax_rule(
                    list(names), str(error), sampling=ready.samples, host_callbacks=host_callbacks
                ) from error


def seems_convertible(variables: Sequence[Variable]) -> bool:
    """False if these graphs hold an operation without a JAX version, which rewriting might still remove.

    A look at the operations, a thousand times faster than `rewritten` and `to_jax`.
    """
    with dispatch.repaired():
        unknown = jax_funcify.dispatch(object)
        for op in {v.owner.op for v in ancestors(variables) if v.owner is not None}:
            if isinstance(op, CheckAndRaise):
                continue
            if jax_funcify.dispatch(type(op)) is unknown or (isinstance(op, Scan) and op.info.as_while):
                return False
            if isinstance(op, Elemwise):
                try:
                    jax_funcify(op.scalar_op, node=None)
                except NotImplementedError:
                    return False
                except (AttributeError, TypeError):  # this conversion looks at the node: there is one
                    continue
    return True


def _on_host():
    from posterion.frontends.pymc.callbacks import host_callbacks

    return host_callbacks()


def _names_without_rule(fgraph: FunctionGraph, names: Sequence[str]) -> list[str]:
    found = []
    for name, output in zip(names, fgraph.outputs, strict=True):
        one = FunctionGraph(list(fgraph.inputs), [output], clone=True)
        try:
            jax_funcify(one)
        except NotImplementedError:
            found.append(name)
    return found


def _upcast_constants(fgraph):
    """Constants of a float64 graph in float64: PyTensor stores 0. or -inf in the smallest type that holds them."""
    new = {}
    for variable in list(fgraph.variables):
        if not isinstance(variable, Constant) or not isinstance(variable.type, TensorType):
            continue
        if variable.type.dtype not in ("float16", "float32"):
            continue
        results = [getattr(v.type, "dtype", "") for n, _ in fgraph.clients[variable] for v in getattr(n, "outputs", ())]
        if "float64" in results or "bool" in results:
            new[variable] = pt.constant(np.asarray(variable.data, "float64"))
    if not new:
        return fgraph
    rebuilt = substitute(fgraph.outputs, new)
    return FunctionGraph(list(fgraph.inputs), [rebuilt[v] for v in fgraph.outputs], clone=False)


def _inputs_that_fix_shapes(fgraph) -> set[int]:
    """Positions of the inputs that feed an operation whose output's shape depends on values."""
    shaping: list[Variable] = []
    for node in fgraph.apply_nodes:
        op = node.op
        if isinstance(op, Nonzero | Unique | ARange) or (isinstance(op, Eigvalsh) and len(node.inputs) > 1):
            shaping += node.inputs
        elif isinstance(op, Repeat | Alloc | Reshape):
            shaping += node.inputs[1:]
        elif isinstance(op, AdvancedSubtensor | AdvancedIncSubtensor):
            first = 1 if isinstance(op, AdvancedSubtensor) else 2
            shaping += [i for i in node.inputs[first:] if getattr(i.type, "dtype", "") == "bool"]
    reached = ancestors(shaping)
    return {k for k, variable in enumerate(fgraph.inputs) if variable in reached}
