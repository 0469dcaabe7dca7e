"""Putting other variables into a PyTensor graph while knowing afterwards which new variable stands for which old one.

``clone_replace`` gives the new outputs only, and everything between loses its identity: a random variable that was also
wanted elsewhere silently becomes two. Here the whole correspondence is kept.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from posterion.frontends.pymc.foreign import Shape, Shape_i, Variable


def substitute(
    outputs: Iterable[Variable],
    replacements: Mapping[Variable, Variable],
    adjust: Mapping[Variable, Callable[[Variable], Variable]] | None = None,
) -> dict[Variable, Variable]:
    """Rebuild the graphs of ``outputs`` with some variables replaced.

    Parameters
    ----------
    outputs
        Whose graphs are rebuilt.
    replacements
        Old variable to new one; the graph of a new one is taken as it is. Types may differ (in static shape).
    adjust
        For some variables of the graph, a function from the rebuilt variable to what shall stand in its place.

    Returns
    -------
    Every variable met, old to new. Parts without any replacement keep their variables.
    """
    adjust = adjust or {}
    new: dict[Variable, Variable] = dict(replacements)
    stack = list(outputs)
    while stack:
        variable = stack.pop()
        if variable in new:
            continue
        node = variable.owner
        if node is None:
            new[variable] = adjust[variable](variable) if variable in adjust else variable
            continue
        pending = [i for i in node.inputs if i not in new]
        if pending:
            stack.append(variable)
            stack.extend(pending)
            continue
        inputs = [new[i] for i in node.inputs]
        if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            rebuilt = node.clone_with_new_inputs(inputs, strict=False).outputs
        else:
            rebuilt = node.outputs
        for old, fresh in zip(node.outputs, rebuilt, strict=True):
            if old in new:
                continue
            if fresh is not old:
                fresh.name = old.name
            new[old] = adjust[old](fresh) if old in adjust else fresh
    return new


def ancestors(
    variables: Iterable[Variable], stop: Collection[Variable] = (), *, shapes_too: bool = True
) -> dict[Variable, None]:
    """All variables that ``variables`` are computed from, themselves included, in a fixed order.

    Parameters
    ----------
    variables
        Where to start.
    stop
        Variables behind which not to look.
    shapes_too
        False: do not look behind a variable of which only the shape is used.
    """
    seen: dict[Variable, None] = {}
    stack = list(variables)[::-1]
    while stack:
        variable = stack.pop()
        if variable in seen:
            continue
        seen[variable] = None
        if variable.owner is None or variable in stop:
            continue
        if not shapes_too and isinstance(variable.owner.op, Shape | Shape_i):
            continue
        stack.extend(reversed(variable.owner.inputs))
    return seen
