"""Inputs used as an index, and how far they may count.

JAX does not complain about an index behind the end of an axis, it takes the last entry: predictions for a group that
the model never saw would silently be those of another. So the limits are read off the graph and checked with the data.
"""

from posterion.frontends.pymc.foreign import AdvancedSubtensor, Cast, Elemwise, FunctionGraph, Variable


def index_limits(fgraph: FunctionGraph) -> dict[int, int]:
    """Position of an input that indexes an axis of known length, to the shortest such length."""
    positions = {variable: k for k, variable in enumerate(fgraph.inputs)}
    limits: dict[int, int] = {}
    for node in fgraph.apply_nodes:
        if not isinstance(node.op, AdvancedSubtensor):
            continue
        indexed, *indices = node.inputs
        for axis, entry in enumerate(node.op.idx_list):
            if not isinstance(entry, int):
                continue
            index = _without_casts(indices[entry])
            length = indexed.type.shape[axis]
            if index in positions and index.type.dtype != "bool" and length is not None:
                position = positions[index]
                limits[position] = min(length, limits.get(position, length))
    return limits


def _without_casts(variable: Variable) -> Variable:
    while (
        variable.owner is not None
        and isinstance(variable.owner.op, Elemwise)
        and isinstance(variable.owner.op.scalar_op, Cast)
    ):
        variable = variable.owner.inputs[0]
    return variable
